"""``instar secrets edit | encrypt | key``: age files beside a definition, written by whoever has their keys.

What is decrypted stands in a file in memory (a tmpfs), in a folder of the caller's alone, while an editor has it. The
folder goes when the editor ends, and on any signal that can be taken. One whose process was killed is removed by the
next call: a lock on it tells that nobody has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from instar import durable, process
from instar.errors import HostError, Refused, UsageError
from instar.operations.age_files import (
    MAX_FILE_BYTES,
    decrypted,
    encrypted_for,
    find_identities,
    find_recipients,
    is_age_file,
    make_identity,
    own_identities_file,
    public_keys,
)
from instar.operations.secret_sources import MAX_BYTES

_PREFIX: Final = "instar-secret-"
_EDITORS: Final = ("editor", "vi", "nano")


def keys(named: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the public keys of the identities here; where there is none at all, one of the caller's is made."""
    own = own_identities_file(environ)
    if own is not None and not own.exists() and named is None:
        make_identity(own)
    return public_keys(find_identities(named, environ))


def edit(folder: Path, path: Path, named: str | None, environ: Mapping[str, str]) -> bool:
    """Have the caller's editor change what the age file at ``path`` holds, or is to hold; return whether it did.

    It is encrypted for the recipients beside the definition in ``folder``, without any for the identities here. Raises
    HostError, Refused, UsageError: what was there is there then.
    """
    words = _editor(environ)
    identities = find_identities(named, environ)
    recipients = find_recipients(folder) or public_keys(identities)
    before = _present(path)
    value = b"" if before is None else decrypted(before, identities, f"cannot edit '{path}'")
    changed = _edited(words, path, value, environ)
    if changed == value:
        return False
    if _present(path) != before:
        raise Refused(f"cannot write '{path}': somebody else has changed it meanwhile", hint="edit it again")
    _write(path, encrypted_for(recipients, _fit(changed, path)))
    return True


def encrypt(
    folder: Path, data: bytes, source: str, target: Path, named: str | None, environ: Mapping[str, str]
) -> None:
    """Write ``data``, which ``source`` held, to ``target``, for the recipients beside the definition in ``folder``.

    What is an age file already is encrypted again, for today's recipients. Raises Refused where something else is
    there.
    """
    recipients = find_recipients(folder)
    if is_age_file(data) or not recipients:
        identities = find_identities(named, environ)
        recipients = recipients or public_keys(identities)
        if is_age_file(data):
            data = decrypted(data, identities, f"cannot encrypt '{source}' again")
    if str(target) != source and (target.exists() or target.is_symlink()):
        raise Refused(f"cannot write '{target}': it is there already", hint=f"instar secrets edit {target}")
    _write(target, encrypted_for(recipients, _fit(data, Path(source))))


def _fit(value: bytes, path: Path) -> bytes:
    if not value or len(value) > MAX_BYTES:
        what = "it is empty" if not value else f"it is larger than {MAX_BYTES:,} bytes"
        raise Refused(f"cannot encrypt '{path}': {what}", hint="what was there stays as it was")
    return value


def _present(path: Path) -> bytes | None:
    if path.is_symlink():
        raise UsageError(f"cannot use '{path}': it is a link")
    try:
        return durable.read(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        durable.write(path, data, mode=0o644, as_folder=True)
    except OSError as error:
        raise HostError(f"cannot write '{path}': {error.strerror}; what was there stays as it was") from error


def _editor(environ: Mapping[str, str]) -> list[str]:
    text = environ.get("VISUAL") or environ.get("EDITOR")
    try:
        words = shlex.split(text) if text else [str(p) for name in _EDITORS if (p := process.find_program(name))][:1]
    except ValueError as error:
        raise UsageError(f"cannot use $EDITOR, {text!r}: {error}") from error
    if not words:
        raise UsageError("cannot find an editor", hint="EDITOR=nano instar secrets edit FILE")
    return words


def _edited(words: list[str], path: Path, value: bytes, environ: Mapping[str, str]) -> bytes:
    with _memory(environ) as folder:
        file = folder / (path.name.removesuffix(".age") or "secret")
        file.touch(0o600)
        file.write_bytes(value)
        status = process.on_terminal([*words, str(file)], environ=environ)
        if status != 0:
            raise Refused(
                f"cannot go on with '{path}': the editor '{words[0]}' ended with {status}; nothing is written"
            )
        try:
            return durable.read(file, MAX_BYTES)
        except OSError as error:
            raise Refused(f"cannot go on with '{path}': {error.strerror}; nothing is written") from error


@contextlib.contextmanager
def _memory(environ: Mapping[str, str]) -> Iterator[Path]:
    """Give a folder in memory that only the caller can enter."""
    above = _memory_folder(environ)
    _remove_left(above)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _memory_folder(environ: Mapping[str, str]) -> Path:
    mounts = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if " tmpfs " in line}
    for name in (environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108  a folder of one's own is made in it
        if name and os.path.realpath(name) in mounts and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    raise HostError(
        "cannot edit a secret: there is no file system in memory to have it in, such as /dev/shm",
        hint="mount one there: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
    )


def _remove_left(above: Path) -> None:
    """Remove the folders of calls that were killed."""
    for folder in above.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
