"""Package files → a bare tree, several at a time, with the same result whatever their order.

Always true of the tree:
- /bin, /sbin and /lib are links into /usr, made first; what a package has there lands in /usr
- files are written before any other link exists, and no directory is ever reached through a link, so no name leads
  out of the tree or through another package's link
- of two packages with one file, the one whose name sorts last has it; of two with one directory, the first dresses it
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from instar.bake.debian.deb import Deb
from instar.bake.root import open_without_links
from instar.errors import BakeError
from instar.frozen import dataclass
from instar.model.lock import Package
from instar.store.extraction import dress
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry
from instar.store.members import Members
from instar.store.overlay import DEEPEST
from instar.threads import carried

_MERGED: Mapping[str, tuple[bytes, ...]] = {"amd64": (b"bin", b"lib", b"lib64", b"sbin")}
_MERGED_ELSEWHERE = (b"bin", b"lib", b"sbin")
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WORKERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """``paths`` are as dpkg lists them; ``conffiles`` are path → MD5."""

    package: Package
    control: Mapping[str, bytes]
    paths: tuple[bytes, ...]
    conffiles: Mapping[bytes, str]


def unpack(debs: Sequence[tuple[Package, Path]], tree: Path, architecture: str) -> tuple[Unpacked, ...]:
    """Unpack package files into ``tree``, which is empty; return what each had. Raises BakeError, OSError."""
    merged = _MERGED.get(architecture, _MERGED_ELSEWHERE)
    work = _Tree(tree, merged)
    try:
        workers = ThreadPoolExecutor(max_workers=min(_WORKERS, os.cpu_count() or 1))
        try:
            unpacked = tuple(workers.map(carried(work.unpack), range(len(debs)), debs))
        finally:
            workers.shutdown(cancel_futures=True)
        work.finish()
    finally:
        work.close()
    return unpacked


class _Tree:
    def __init__(self, path: Path, merged: Sequence[bytes]) -> None:
        self._root = os.open(path, _FOLDER)
        self._merged = frozenset(merged)
        self._guard = threading.Lock()
        self._files: dict[bytes, int] = {}  # path → the place in the order of the package that has it
        self._directories: dict[bytes, tuple[int, Entry]] = {}
        self._links: list[tuple[int, bytes, Entry]] = []
        for name in sorted(merged):
            os.close(self._folder(b"usr/" + name))
            os.symlink(b"usr/" + name, name, dir_fd=self._root)

    def close(self) -> None:
        os.close(self._root)

    def unpack(self, order: int, deb: tuple[Package, Path]) -> Unpacked:
        package, path = deb
        archive = Deb(path, package.name)
        control = archive.control()
        conffiles = dict.fromkeys(_conffiles(control), "")
        with archive.data() as members:
            try:
                paths = tuple(self._add_all(order, members, conffiles))
            except _Refused as error:
                raise BakeError(f"cannot unpack package '{package.name}': {error}") from error
        return Unpacked(package=package, control=control, paths=paths, conffiles=conffiles)

    def finish(self) -> None:
        """Make the links, then give the directories what the packages say of them."""
        for _, path, entry in sorted(self._links, key=lambda link: link[:2]):
            above, name = os.path.split(path)
            with _closing(self._above(path, above)) as parent, contextlib.suppress(FileExistsError):
                os.symlink(entry.link, name, dir_fd=parent)
                os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
                os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        for path in sorted(self._directories, reverse=True):
            _, entry = self._directories[path]
            with _closing(self._folder(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as folder:
                dress(folder, entry)

    def _above(self, link: bytes, folder: bytes) -> int:
        """Return a descriptor of the directory that ``link`` lies in."""
        try:
            return self._folder(folder)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise BakeError(
                f"cannot unpack '/{link.decode(errors='backslashreplace')}': it lies in what is no directory but a link"
            ) from error

    def _add_all(self, order: int, members: Members, conffiles: dict[bytes, str]) -> Iterator[bytes]:
        opened: dict[bytes, int] = {}
        try:
            for entry in members:
                named = _relative(entry.name)
                self._add(order, self._landed(named), entry, members.content(), opened, conffiles)
                yield b"/" + named if named else b"/."
        finally:
            for folder in opened.values():
                os.close(folder)

    def _add(
        self,
        order: int,
        path: bytes,
        entry: Entry,
        content: Iterable[memoryview],
        opened: dict[bytes, int],
        conffiles: dict[bytes, str],
    ) -> None:
        if entry.kind == DIRECTORY:
            with self._guard:
                if path not in self._directories or order < self._directories[path][0]:
                    self._directories[path] = (order, entry)
            os.close(self._folder(path))
        elif entry.kind == SYMLINK:
            if path.removeprefix(b"usr/") not in self._merged or entry.link.strip(b"/") != path:
                with self._guard:
                    self._links.append((order, path, entry))
        elif entry.kind in (REGULAR, HARD_LINK):
            self._add_file(order, path, entry, content, opened, conffiles)
        else:
            raise _Refused(f"'/{path.decode(errors='replace')}' is a device or a pipe")

    def _add_file(
        self,
        order: int,
        path: bytes,
        entry: Entry,
        content: Iterable[memoryview],
        opened: dict[bytes, int],
        conffiles: dict[bytes, str],
    ) -> None:
        above, name = os.path.split(path)
        if above not in opened:
            opened[above] = self._folder(above)
        parent = opened[above]
        with self._guard:
            if order < self._files.get(path, -1):
                return
            self._files[path] = order
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            if entry.kind == HARD_LINK:
                self._link(self._landed(_relative(entry.link)), name, parent)
                return
            file = os.open(name, _CREATE, 0o600, dir_fd=parent)
        with _closing(file):
            seen = _write(file, content, hashed=b"/" + _relative(entry.name) in conffiles)
            if seen:
                conffiles[b"/" + _relative(entry.name)] = seen
            dress(file, entry)

    def _link(self, target: bytes, name: bytes, parent: int) -> None:
        above, target_name = os.path.split(target)
        with _closing(self._folder(above)) as source:
            os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _landed(self, path: bytes) -> bytes:
        """Return where ``path`` really is: below /usr, when it begins with one of the links that were made first."""
        return b"usr/" + path if path.split(b"/", 1)[0] in self._merged else path

    def _folder(self, path: bytes, flags: int = _FOLDER) -> int:
        """Return a descriptor of the directory, made where it is missing. No part of ``path`` is a link."""
        try:
            return open_without_links(self._root, path or b".", flags)
        except FileNotFoundError:
            above, name = os.path.split(path)
        with _closing(self._folder(above)) as parent:
            with contextlib.suppress(FileExistsError):  # another package was quicker
                os.mkdir(name, dir_fd=parent)
                os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - whatever the umask
            return os.open(name, flags, dir_fd=parent)


class _Refused(Exception):
    """A member that no package has any business to hold."""


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _relative(name: bytes) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or any(b"\n" in part for part in parts):
        raise _Refused(f"{name.decode(errors='replace')!r} is no name of a file to install")
    if len(parts) > DEEPEST + 1:
        raise _Refused(f"'/{name[:80].decode(errors='replace')}…' is nested more than {DEEPEST} deep")
    return b"/".join(parts)


def _conffiles(control: Mapping[str, bytes]) -> Iterator[bytes]:
    for line in control.get("conffiles", b"").splitlines():
        if line.startswith(b"/"):
            yield line.strip()


def _write(file: int, content: Iterable[memoryview], *, hashed: bool) -> str:
    seen = hashlib.md5(usedforsecurity=False) if hashed else None
    for piece in content:
        rest = piece
        if seen:
            seen.update(piece)
        while rest:
            rest = rest[os.write(file, rest) :]
    return seen.hexdigest() if seen else ""
