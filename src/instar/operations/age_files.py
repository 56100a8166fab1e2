"""Files that age encrypts: with whose keys they are read here, and for whom they are written.

Identities (secret keys) are lines of files of the machine's and of the caller's, never of a definition's folder.
Recipients (public keys) are lines of ``age-recipients`` beside the definition. Only keys of age's own kind are taken: a
plugin's would have us run a program that a file names. Source: https://age-encryption.org/v1
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from instar import durable
from instar.errors import ComponentMissing, HostError, InstarError, Refused, UsageError
from instar.model.state import machine_file

if TYPE_CHECKING:
    Identity = Any  # pyrage says no types

RECIPIENTS: Final = "age-recipients"
_KEY_LENGTH: Final = 62  # of a public key: "age1", and 58 letters and digits
_OF_AGE: Final = "one is 'age1' and 58 letters and digits, as instar secrets key prints it"
MAX_FILE_BYTES: Final = 2 << 20  # of a secret of the largest size, in letters
_MAX_KEYS_BYTES: Final = 64 << 10
_ARMOR: Final = b"-----BEGIN AGE ENCRYPTED FILE-----"
_HEADER: Final = b"age-encryption.org/"


def is_age_file(data: bytes) -> bool:
    return data.startswith((_HEADER, _ARMOR))


def own_identities_file(environ: Mapping[str, str]) -> Path | None:
    """Return where the caller's own identities are kept; None for one who has no home."""
    base = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return Path(base) / "instar/age-identities" if base.startswith("/") else None


def find_identities(named: str | None, environ: Mapping[str, str]) -> tuple[Identity, ...]:
    """Return the identities of the machine, in the file ``named``, and of the caller.

    Raises HostError where there are none, or one is unfit.
    The machine's may be for root alone: whoever may not read them works with their own.
    """
    own = own_identities_file(environ)
    found: list[Identity] = []
    for path, may_be_missing in ((Path(named) if named else None, False), (own, True)):
        if path is None:
            continue
        try:
            found += _identities(path)
        except FileNotFoundError as error:
            if not may_be_missing:
                raise HostError(f"cannot read age identities from '{path}': there is no such file") from error
        except OSError as error:
            if isinstance(error, PermissionError) and own is not None and own.exists() and not may_be_missing:
                continue
            raise HostError(f"cannot read age identities from '{path}': {(error.strerror or '').lower()}") from error
    if not found:
        raise HostError(
            "cannot find an age identity to read secrets with",
            hint=f"age.identities in {machine_file(environ)} names the machine's file of them, or write one to "
            f"'{own or '~/.config/instar/age-identities'}': instar secrets key",
        )
    return tuple(found)


def make_identity(path: Path) -> None:
    """Write a new identity to ``path``, where there is none. Raises HostError."""
    made = _pyrage().x25519.Identity.generate()
    text = f"# public key: {made.to_public()}\n{made}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write_once(path, text.encode())
    except OSError as error:
        raise HostError(f"cannot write '{path}': {error.strerror}") from error


def public_keys(identities: Sequence[Identity]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.to_public()) for one in identities))


def find_recipients(folder: Path) -> tuple[str, ...]:
    """Return the public keys that ``folder``'s secrets are encrypted for; () where it names none. Raises Refused."""
    path = folder / RECIPIENTS
    try:
        lines = _lines(durable.read(path, _MAX_KEYS_BYTES))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Refused(f"cannot read '{path}': {error.strerror}") from error
    for number, line in lines:
        _recipient(line, f"'{path}', line {number}")
    if not lines:
        raise Refused(f"cannot encrypt for nobody: '{path}' names no public key", hint="instar secrets key prints one")
    return tuple(dict.fromkeys(line for _, line in lines))


def recipients_of(words: Sequence[str], files: Sequence[Path]) -> tuple[Any, ...]:
    """Return the recipients that ``words`` (public keys) are, and the lines of ``files``, as age's library takes them.
    Raises UsageError, ComponentMissing."""
    found = {one: _recipient(one, "--recipient", UsageError) for one in words}
    for path in files:
        try:
            lines = _lines(durable.read(path, _MAX_KEYS_BYTES))
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror}") from error
        if not lines:
            raise UsageError(f"cannot encrypt for nobody: '{path}' names no public key")
        found.update((line, _recipient(line, f"'{path}', line {number}", UsageError)) for number, line in lines)
    return tuple(found.values())


def identities_of(files: Sequence[Path], named: str | None, environ: Mapping[str, str]) -> tuple[Identity, ...]:
    """Return the identities in ``files``; without any, those that :func:`find_identities` does. Raises UsageError
    for a file that cannot be read, HostError."""
    found: list[Identity] = []
    for path in files:
        try:
            found += _identities(path)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise UsageError(f"cannot read age identities from '{path}': {cause}") from error
    return tuple(found) or find_identities(named, environ)


def encrypted_for(recipients: Sequence[str], value: bytes) -> bytes:
    """Return ``value`` as an age file of letters, which git shows as text."""
    made: bytes = _pyrage().encrypt(value, [_recipient(one, "a recipient") for one in recipients], armored=True)
    return made


def decrypted(data: bytes, identities: Sequence[Identity], about: str) -> bytes:
    """Return what an age file holds. Raises Refused, whose message begins with ``about``."""
    if not is_age_file(data):
        raise Refused(f"{about}: it is no age file", hint="instar secrets encrypt FILE makes one")
    if _is_by_passphrase(data):
        raise Refused(
            f"{about}: it is encrypted by a passphrase, and nobody is asked for one here",
            hint="encrypt it for keys: age -d FILE | instar secrets encrypt - -o NAME.age",
        )
    library = _pyrage()
    try:
        value: bytes = library.decrypt(data, list(identities))
    except library.DecryptError as error:
        if str(error) == "No matching keys found":
            keys = ", ".join(public_keys(identities))
            raise Refused(
                f"{about}: it is for other keys than the ones here, {keys}",
                hint=f"who can read it adds one of these to {RECIPIENTS} and says: instar secrets encrypt FILE.age",
            ) from None
        cause = str(error).splitlines()[0].rstrip(".")
        raise Refused(
            f"{about}: it is damaged: {cause}", hint="take it from git again, as it was before: git checkout"
        ) from None
    return value


def _identities(path: Path) -> list[Identity]:
    with durable.reader(path) as file:
        mode, data = os.fstat(file.fileno()).st_mode, file.read(_MAX_KEYS_BYTES + 1)
    about = f"cannot read age identities from '{path}'"
    if mode & stat.S_IROTH:
        raise HostError(f"{about}: everybody on this machine may read it", hint=f"chmod o-r '{path}'")
    if is_age_file(data):
        raise HostError(f"{about}: it is itself encrypted, and nobody is asked for its passphrase here")
    if len(data) > _MAX_KEYS_BYTES:
        raise HostError(f"{about}: it is larger than {_MAX_KEYS_BYTES:,} bytes")
    library, found = _pyrage(), []
    for number, line in _lines(data):
        try:
            found.append(library.x25519.Identity.from_str(line))
        except library.IdentityError:  # its words would show the line
            raise HostError(
                f"{about}: line {number} is no identity", hint="one begins with AGE-SECRET-KEY-1: instar secrets key"
            ) from None
    if not found:
        raise HostError(f"{about}: there is none in it")
    return found


def _lines(data: bytes) -> list[tuple[int, str]]:
    lines = enumerate(data.decode("utf-8", "replace").splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and not line.startswith("#")]


def _recipient(text: str, where: str, refusal: type[InstarError] = Refused) -> Any:
    library = _pyrage()
    try:
        return library.x25519.Recipient.from_str(text)
    except library.RecipientError:
        raise refusal(f"cannot use the public key in {where}: {_unfit(text)}", hint=_OF_AGE) from None


def _unfit(text: str) -> str:
    if text.upper().startswith("AGE-SECRET-KEY"):
        return "it is a secret key; take it out of git's history"
    if text.startswith("age1") and len(text) != _KEY_LENGTH:
        return f"{text!r:.80} is not whole: it has {len(text)} characters of {_KEY_LENGTH}"
    return f"{text!r:.80} is {'mistyped' if text.startswith('age1') else 'no public key of age'}"


def _is_by_passphrase(data: bytes) -> bool:
    head = data[:4096]
    if head.startswith(_ARMOR):
        try:
            head = base64.b64decode(b"".join(head.splitlines()[1:4]))
        except (binascii.Error, ValueError):
            return False
    return b"\n-> scrypt " in head.partition(b"\n---")[0]


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise ComponentMissing(
            "cannot read or write age files: the Python package 'pyrage' is not installed beside Instar",
            hint="install Instar's requirements again: scripts/setup",
        ) from error
    return pyrage
