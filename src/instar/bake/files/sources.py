"""The author's files: which of them an image gets, and what is in them. Nothing is written here.

Left out: ``.git``, ``__pycache__``, ``.env``, what ``exclude`` and ``.instarignore`` name (excluded.py), and always the
definition, its lock and every declared secret. Which modes, owners and times the files have here doesn't count, but for
the owner's execute bit, and what ``keep`` names.

Whoever owns the folder may change it while root reads. Links are followed once, on the way to what an entry names; from
then on no directory is entered and no file opened through one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from instar.bake.files.excluded import Excluded
from instar.bake.files.kept import NOTHING_KEPT, KeptFile, Unkeepable, kept_of, kept_of_open, same_files
from instar.frozen import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABOVE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to wait for the writer of a pipe
IGNORE_FILE = ".instarignore"
DOCKER_IGNORE_FILE = ".dockerignore"
_ALWAYS_OUT = frozenset({".git", "__pycache__", ".env", IGNORE_FILE})
_WHOLE_BYTES = 1 << 20
_PAGE_BYTES = 4096
LARGEST_BYTES = 64 << 30  # of all that one entry names: every byte of it is read, at each bake
_KINDS = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class UnusableFile(Exception):
    """What cannot be copied, as a message; the step knows the place in the definition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFile:
    """One thing to copy. ``path`` is below ``to``, empty for a file that is itself put there.

    ``content`` is a file's SHA-256 in hex, a link's target, and empty for a directory.
    """

    path: str
    kind: Literal["file", "link", "directory"]
    content: str = ""
    executable: bool = False
    size_bytes: int = 0
    kept: KeptFile = NOTHING_KEPT


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """One entry of ``files`` with what was found for it, at ``origin``.

    ``owner`` is numbers; None: those of the image's user.
    """

    origin: Path
    to: str
    owner: tuple[int, int] | None
    mode: int | None
    found: tuple[FoundFile, ...]
    place: str
    keep: tuple[str, ...] = ()


def find(
    folder: Path, source: str, *, exclude: Excluded | None, never: frozenset[Path], keep: Sequence[str] = ()
) -> tuple[Path, tuple[FoundFile, ...]]:
    """Return where ``source`` below ``folder`` really is and what it holds, each directory before what is in it.

    ``never`` are files, resolved, that no image gets. Raises UnusableFile.
    """
    top = folder / source
    real = _resolved(top, source)
    if not real.is_relative_to(folder.resolve()):
        raise UnusableFile(f"'{source}' leads out of the definition's folder, to '{real}'")
    if real.is_dir():
        out = _Out(exclude, never, real)
        found = sorted(_with_folders(_walk(real, source, out, keep)), key=_order)
        return real, same_files(found) if "hardlinks" in keep else tuple(found)
    if real in never:
        raise UnusableFile(f"'{source}' is a secret, the definition or its lock, which no image gets")
    with _readable(source), _entered(None, str(real.parent)) as parent:
        return real, (_file(parent, real.name, source, "", keep),)


def identity(found: Sequence[FoundFile]) -> str:
    """Return a digest of what was found that differs wherever a copy of it would. Names need not be UTF-8."""
    fields = [
        os.fsencode(field)
        for one in found
        for field in (one.path, one.kind, one.content, "executable" if one.executable else "")
    ]
    return hashlib.sha256(b"\0".join(fields)).hexdigest()


def in_memory_bytes(size_bytes: int) -> int:
    """Return what a file takes of a tmpfs: whole pages, and one for itself."""
    return (-(-size_bytes // _PAGE_BYTES) + 1) * _PAGE_BYTES


class _Out:
    """What is left out."""

    def __init__(self, exclude: Excluded | None, never: frozenset[Path], top: Path) -> None:
        self._exclude = exclude
        self._never = never
        self._top = top
        self._never_names = {path.name for path in never}

    def always(self, entry: os.DirEntry[str], path: str) -> bool:
        return entry.name in _ALWAYS_OUT or (entry.name in self._never_names and self._top / path in self._never)

    def by_pattern(self, path: str, *, is_folder: bool) -> bool:
        return self._exclude is not None and self._exclude.leave_out(path, is_folder=is_folder)

    def may_bring_back(self, path: str) -> bool:
        return self._exclude is not None and self._exclude.may_bring_back(path)


def _walk(top: Path, shown: str, out: _Out, keep: Sequence[str]) -> Iterator[FoundFile]:
    room = LARGEST_BYTES
    with _readable(shown), _entered(None, str(top)) as opened:
        waiting = [""]
        while waiting:
            above = waiting.pop()
            with _readable(f"{shown}/{above}".rstrip("/")), _entered(opened, above) as folder:
                for entry in _entries(folder):
                    path = f"{above}/{entry.name}" if above else entry.name
                    if out.always(entry, path):
                        continue
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if out.by_pattern(path, is_folder=is_folder):
                        if is_folder and out.may_bring_back(path):
                            waiting.append(path)
                    elif is_folder:
                        waiting.append(path)
                        yield FoundFile(path=path, kind="directory", kept=kept_of(folder, entry.name, keep))
                    elif entry.is_symlink():
                        yield _link(folder, f"{shown}/{path}", path, keep)
                    else:
                        file = _file(folder, entry.name, f"{shown}/{path}", path, keep, room)
                        room -= file.size_bytes
                        yield file


def _with_folders(found: Iterable[FoundFile]) -> Iterator[FoundFile]:
    """Yield what was found, and the folders above it that were left out themselves."""
    every, folders = list(found), set[str]()
    there = {one.path for one in every if one.kind == "directory"}
    for one in every:
        above = one.path.rpartition("/")[0]
        while above and above not in there and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    yield from every
    yield from (FoundFile(path=path, kind="directory") for path in folders)


@contextlib.contextmanager
def _entered(start: int | None, path: str) -> Iterator[int]:
    """Give a descriptor of the directory ``path``, below the one that is opened as ``start``. No part of it is a link.

    (One ``openat2`` would do, but loading ctypes for it takes longer than most folders take this way.)
    """
    parts = [part for part in path.split("/") if part]
    descriptor = os.open(".", _ABOVE, dir_fd=start) if start is not None else os.open("/", _ABOVE)
    try:
        for part in [*parts, "."]:
            below = os.open(part, _DIRECTORY if part == "." else _ABOVE, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _order(source: FoundFile) -> bytes:
    return os.fsencode(source.path)


def _entries(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)


@contextlib.contextmanager
def _readable(shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnusableFile(f"'{shown}' cannot be read: {_cause(error)}") from error
    except Unkeepable as error:
        raise UnusableFile(f"'{shown}' cannot be copied as it is: {error}") from error


def _link(folder: int, shown: str, path: str, keep: Sequence[str]) -> FoundFile:
    target = os.readlink(path.rpartition("/")[2], dir_fd=folder)
    if "links" not in keep and leads_out(path, target):
        hint = "'keep: [links]' copies it as it is"
        raise UnusableFile(f"'{shown}' is a link that leads out of what is copied, to '{target}'; {hint}")
    return FoundFile(path=path, kind="link", content=target)


def leads_out(path: str, target: str) -> bool:
    """Tell whether a link at ``path``, which is relative to what is copied, has a target that is not in that."""
    landed = os.path.normpath(os.path.join("/top", os.path.dirname(path), target))  # noqa: PTH118, PTH120 - text
    return os.path.isabs(target) or not f"{landed}/".startswith("/top/")  # noqa: PTH117


def _file(folder: int, name: str, shown: str, path: str, keep: Sequence[str], room: int = LARGEST_BYTES) -> FoundFile:
    """Read a file, if there is ``room`` for it. It may grow meanwhile: no more is read than it had."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(f"'{shown}' is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')} and cannot be copied")
    if status.st_size > room:
        hint = "an entry of 'files' has room for 64 GiB; leave it out with 'exclude', or keep it in a volume"
        raise UnusableFile(f"'{shown}' has {status.st_size / 1e9:,.1f} GB: {hint}")
    with _readable(shown):
        descriptor = os.open(name, _READ, dir_fd=folder)
        try:
            digest = sha256_of(descriptor, status.st_size)
            kept = kept_of_open(descriptor, keep) if keep else NOTHING_KEPT
        finally:
            os.close(descriptor)
    executable = bool(status.st_mode & stat.S_IXUSR)
    return FoundFile(
        path=path, kind="file", content=digest, executable=executable, size_bytes=status.st_size, kept=kept
    )


def sha256_of(descriptor: int, size: int) -> str:
    """Return a file's SHA-256. Most files are small, and reading one in one call takes half the time."""
    if size < _WHOLE_BYTES:
        data = os.read(descriptor, _WHOLE_BYTES)
        if len(data) < _WHOLE_BYTES:
            return hashlib.sha256(data).hexdigest()
        os.lseek(descriptor, 0, os.SEEK_SET)
    found, left = hashlib.sha256(), size
    while left > 0 and (data := os.read(descriptor, min(left, _WHOLE_BYTES))):
        found.update(data)
        left -= len(data)
    return found.hexdigest()


def _resolved(path: Path, shown: str) -> Path:
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise UnusableFile(f"'{shown}' is missing") from error
    except (OSError, RuntimeError) as error:
        raise UnusableFile(f"'{shown}' cannot be read: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
