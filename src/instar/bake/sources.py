"""The author's files: which of them an image gets, and what is in them. Nothing is written here.

Left out: ``.git``, ``__pycache__``, ``.env``, what ``exclude`` names, and always the definition, its lock and every
declared secret. Which modes, owners and times the files have here doesn't count, but for the owner's execute bit.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_ALWAYS_OUT = frozenset({".git", "__pycache__", ".env"})
_WHOLE_BYTES = 1 << 20
_KINDS = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Unusable(Exception):
    """What cannot be copied, as a message; the step knows the place in the definition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One thing to copy. ``path`` is below ``to``, empty for a file that is itself put there.

    ``content`` is a file's SHA-256 in hex, a link's target, and empty for a directory.
    """

    path: str
    kind: Literal["file", "link", "directory"]
    content: str = ""
    executable: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """One entry of ``files`` with what was found for it, at ``origin``. ``owner`` is numbers."""

    origin: Path
    to: str
    owner: tuple[int, int]
    mode: int | None
    found: tuple[Source, ...]
    place: str


def find(
    folder: Path, source: str, *, exclude: Sequence[str], never: frozenset[Path]
) -> tuple[Path, tuple[Source, ...]]:
    """Return where ``source`` below ``folder`` really is and what it holds, each directory before what is in it.

    ``never`` are files, resolved, that no image gets. Raises Unusable.
    """
    top = folder / source
    real = _resolved(top, source)
    if not real.is_relative_to(folder.resolve()):
        raise Unusable(f"'{source}' leads out of the definition's folder, to '{real}'")
    status = real.stat()
    if stat.S_ISDIR(status.st_mode):
        out = _Excluded(exclude, never)
        return real, tuple(sorted(_walk(str(real), source, out), key=_order))
    if real in never:
        raise Unusable(f"'{source}' is a secret, the definition or its lock, which no image gets")
    return real, (_file(str(real), source, "", status),)


def identity(found: Sequence[Source]) -> str:
    """Return a digest of what was found that differs wherever a copy of it would. Names need not be UTF-8."""
    fields = [
        os.fsencode(field)
        for one in found
        for field in (one.path, one.kind, one.content, "executable" if one.executable else "")
    ]
    return hashlib.sha256(b"\0".join(fields)).hexdigest()


class _Excluded:
    """What is left out. A pattern is compared with a path below ``from`` and with a name alone."""

    def __init__(self, patterns: Sequence[str], never: frozenset[Path]) -> None:
        joined = "|".join(fnmatch.translate(pattern.rstrip("/")) for pattern in patterns)
        self._matches: Callable[[str], object] = _compiled(joined) if joined else lambda name: None
        self._never = never
        self._never_names = {path.name for path in never}

    def __call__(self, entry: os.DirEntry[str], path: str) -> bool:
        if entry.name in _ALWAYS_OUT or self._matches(path) or self._matches(entry.name):
            return True
        return entry.name in self._never_names and Path(entry.path) in self._never


def _compiled(pattern: str) -> Callable[[str], object]:
    import re

    return re.compile(pattern).match


def _walk(top: str, shown: str, out: _Excluded) -> Iterator[Source]:
    waiting = [("", top)]
    while waiting:
        above, folder = waiting.pop()
        for entry in _entries(folder, f"{shown}/{above}".rstrip("/")):
            path = f"{above}/{entry.name}" if above else entry.name
            if out(entry, path):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, entry.path))
                yield Source(path=path, kind="directory")
            elif entry.is_symlink():
                yield _link(entry.path, f"{shown}/{path}", path, top)
            else:
                yield _file(entry.path, f"{shown}/{path}", path, entry.stat(follow_symlinks=False))


def _order(source: Source) -> bytes:
    return os.fsencode(source.path)


def _entries(folder: str, shown: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise Unusable(f"'{shown}' cannot be read: {_cause(error)}") from error


def _link(real: str, shown: str, path: str, top: str) -> Source:
    target = os.readlink(real)  # noqa: PTH115 - text, as it stands there
    landed = os.path.normpath(os.path.join(os.path.dirname(real), target))  # noqa: PTH118, PTH120 - text, nothing is followed
    if os.path.isabs(target) or not f"{landed}/".startswith(f"{top}/"):  # noqa: PTH117
        raise Unusable(f"'{shown}' is a link that leads out of what is copied, to '{target}'")
    return Source(path=path, kind="link", content=target)


def _file(real: str, shown: str, path: str, status: os.stat_result) -> Source:
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(f"'{shown}' is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')} and cannot be copied")
    try:
        digest = _sha256(real, status.st_size)
    except OSError as error:
        raise Unusable(f"'{shown}' cannot be read: {_cause(error)}") from error
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Source(path=path, kind="file", content=digest, executable=executable, size_bytes=status.st_size)


def _sha256(path: str, size: int) -> str:
    """Return a file's SHA-256. Most files are small, and reading one in one call takes half the time."""
    if size < _WHOLE_BYTES:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _WHOLE_BYTES)
        finally:
            os.close(descriptor)
        if len(data) < _WHOLE_BYTES:
            return hashlib.sha256(data).hexdigest()
    with open(path, "rb") as file:  # noqa: PTH123 - text all the way: thousands of files
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolved(path: Path, shown: str) -> Path:
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise Unusable(f"'{shown}' is missing") from error
    except (OSError, RuntimeError) as error:
        raise Unusable(f"'{shown}' cannot be read: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
