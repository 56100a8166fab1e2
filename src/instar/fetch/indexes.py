"""Indexes of packages by name: where this machine's own file says that they are, and whom they let in.

A definition says no more than the name. A password is read when its index is asked, and goes into the environment of
the program that asks: not into its words, which everybody can list, nor into any file. These programs send it to the
index's own address alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from instar.definition.machine import load_machine
from instar.errors import FetchError, HostError
from instar.frozen import dataclass
from instar.model.state import machine_file

TOKEN_USER: Final = "__token__"  # noqa: S105  a name, which indexes know who comes with a token by
_ALL: Final = "*"
_LONGEST_PASSWORD_BYTES: Final = 16 << 10
_TRUSTED: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_SYSTEM: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(…)"


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonIndex:
    """An index as it is asked. ``ca``: a file with certificates to trust besides."""

    name: str
    url: str
    login: Login | None = None
    ca: str | None = None

    def url_with_login(self) -> str:
        """Return the address with who asks, as programs take it that have no other way to be told."""
        if self.login is None:
            return self.url
        parts = urlsplit(self.url)
        who = f"{quote(self.login.user, safe='')}:{quote(self.login.password, safe='')}"
        return urlunsplit(parts._replace(netloc=f"{who}@{parts.netloc}"))


def find_index(name: str, environ: Mapping[str, str] = os.environ) -> PythonIndex:
    """Return the index that this machine calls ``name``.

    Raises:
        FetchError: it calls none so.
        HostError: the machine's file, or the file of the password, cannot be used.
        MachineFileError: something is wrong in the machine's file.
    """
    settings, file = load_machine(environ), machine_file(environ)
    known = settings.indexes if settings is not None else {}
    if name not in known:
        there = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise FetchError(
            f"cannot find the index '{name}': this machine's own file does not say where it is ({there})",
            hint=f"write indexes.{name}.url into {file}: docs/machine.md",
        )
    found = known[name]
    login = None
    if found.password is not None:
        login = Login(user=found.user or TOKEN_USER, password=_password(name, Path(found.password)))
    return PythonIndex(name=name, url=found.url, login=login, ca=found.ca)


def _password(name: str, path: Path) -> str:
    cause = None
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LONGEST_PASSWORD_BYTES + 1)
    except OSError as error:
        raise _unusable(name, path, (error.strerror or str(error)).lower()) from error
    if not stat.S_ISREG(status.st_mode):
        cause = "it is not a regular file"
    elif status.st_mode & stat.S_IROTH:
        raise _unusable(name, path, "everybody on this machine may read it", f"chmod o-r '{path}'")
    text = data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if cause is None and (not text or len(data) > _LONGEST_PASSWORD_BYTES or not text.isprintable()):
        cause = "it is not one line with a password"
    if cause is not None:
        raise _unusable(name, path, cause)
    return text


def _unusable(name: str, path: Path, cause: str, hint: str | None = None) -> HostError:
    return HostError(f"cannot use the password of the index '{name}': '{path}': {cause}", hint=hint)


def source_of(project: str, sources: Mapping[str, Sequence[str]]) -> str | None:
    """Return the index that ``project`` (in its normal form) has to come from; None when it is pip's.

    ``sources`` are the patterns of each index: a name, how names begin (``acme-*``), or ``*`` for all others. The
    pattern that says most decides.
    """
    fitting = [(len(one), name) for name, patterns in sources.items() for one in patterns if _fits(project, one)]
    return max(fitting)[1] if fitting else None


def all_from(sources: Mapping[str, Sequence[str]]) -> str | None:
    """Return the index that all comes from which no other has; None when that is pip's."""
    return next((name for name, patterns in sources.items() if _ALL in patterns), None)


def _fits(project: str, pattern: str) -> bool:
    return project.startswith(pattern[:-1]) if pattern.endswith(_ALL) else project == pattern


def write_certificates(
    indexes: Sequence[PythonIndex], file: Path, trusted: str | None = None, environ: Mapping[str, str] = os.environ
) -> Path | None:
    """Write what is trusted on this machine (``trusted`` where that is named) and the indexes' own certificates into
    ``file``; None when they have none. Raises HostError."""
    own = [Path(index.ca) for index in indexes if index.ca]
    if not own:
        return None
    others = Path(trusted or next((environ[name] for name in _TRUSTED if environ.get(name)), _SYSTEM))
    try:
        parts = [path.read_bytes() for path in (others, *own) if path != _SYSTEM or path.is_file()]
    except OSError as error:
        raise HostError(f"cannot use the certificates in '{error.filename}': {error.strerror}") from error
    file.write_bytes(b"\n".join(parts))
    return file
