"""The data of volumes: a folder that a service fills, as members of a tar, and back.

Who has a volume can write anything into it, and change it while it is read: no link in it is followed, no pipe waited
for, no device and no other file system read. A file that becomes shorter meanwhile ends in zeros, one that is gone is
left out. What is put back is only ever created, below one folder, by the same rule.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from instar import holes
from instar.backup.writing import Member
from instar.errors import BackupError
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry

DEEPEST: Final = 256
_REGIONS: Final = 100_000  # what is of more pieces is taken with its holes
_CHUNK_BYTES: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED: Final = (errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # by a file, a link, a socket
_LATEST_S: Final = 0o77777777777
_XATTRS: Final = ("user.", "security.capability", "system.posix_acl_")
_XATTRS_BYTES: Final = 512 << 10
_KINDS: Final = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


class Tree:
    """One folder to be backed up under ``name`` (with "/" at its end). ``left_out``: what was found and is not among
    its members, of each kind how many."""

    def __init__(self, folder: str | os.PathLike[str], name: bytes) -> None:
        self._folder = folder
        self._name = name
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._device = 0
        self.left_out: Counter[str] = Counter()

    def members(self) -> Iterator[Member]:
        """Yield the folder and all below it. Raises OSError, BackupError where it is nested too deep."""
        top = os.open(self._folder, _FOLDER)
        try:
            self._device = os.fstat(top).st_dev
            yield from self._below(top, self._name, DEEPEST)
        finally:
            os.close(top)

    def _below(self, folder: int, name: bytes, depth: int) -> Iterator[Member]:
        if depth < 0:
            shown = name.decode("utf-8", "backslashreplace")
            raise BackupError(f"cannot back up '{shown[:200]}': it is nested more than {DEEPEST} deep")
        yield Member(_entry(name, DIRECTORY, os.fstat(folder), self._attributes(folder)))
        for one in sorted(map(os.fsencode, os.listdir(folder))):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                found = os.stat(one, dir_fd=folder, follow_symlinks=False)
                if found.st_dev == self._device:
                    yield from self._one(folder, one, name + one, found, depth)
                else:
                    self.left_out["other file system"] += 1

    def _one(self, folder: int, one: bytes, name: bytes, found: os.stat_result, depth: int) -> Iterator[Member]:
        if stat.S_ISLNK(found.st_mode):
            entry = _entry(name, SYMLINK, found, {})
            entry.link = os.readlink(one, dir_fd=folder)
            yield Member(entry)
            return
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            self.left_out[_KINDS.get(stat.S_IFMT(found.st_mode), "device")] += 1
            return
        try:
            descriptor = os.open(one, _FOLDER if stat.S_ISDIR(found.st_mode) else _FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in _REPLACED:
                return  # meanwhile
            raise
        try:
            now = os.fstat(descriptor)
            if stat.S_ISDIR(now.st_mode):
                yield from self._below(descriptor, name + b"/", depth - 1)
            elif stat.S_ISREG(now.st_mode):
                yield self._file(descriptor, name, now)
        finally:
            os.close(descriptor)

    def _file(self, descriptor: int, name: bytes, found: os.stat_result) -> Member:
        first = self._first_names.setdefault((found.st_dev, found.st_ino), name) if found.st_nlink > 1 else name
        entry = _entry(name, REGULAR, found, self._attributes(descriptor))
        if first != name:
            entry.kind, entry.link = HARD_LINK, first
            return Member(entry)
        entry.size = found.st_size
        regions = holes.regions(descriptor, entry.size, _REGIONS) if holes.has_holes(found) else None
        if regions is not None:
            return Member(entry, lambda: _content_of(descriptor, regions), regions)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return Member(entry, lambda: _content(descriptor, entry.size))

    def _attributes(self, descriptor: int) -> dict[str, bytes]:
        """Return the attributes that are put back; none where there are more than a tar's header may have."""
        found = _xattrs(descriptor)
        if sum(map(len, found.values())) <= _XATTRS_BYTES:
            return found
        self.left_out["set of attributes"] += 1
        return {}


class Planting:
    """Puts members of volumes below the folder ``root``."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.open(root, _FOLDER)

    def close(self) -> None:
        os.close(self._root)

    def add(self, entry: Entry, content: Iterable[memoryview]) -> None:
        """Make one member. Raises OSError, FileExistsError among them for one that is there twice."""
        *above, name = entry.name.rstrip(b"/").split(b"/")
        with self._folder(above) as folder:
            if entry.kind == DIRECTORY:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                self._dressed(os.open(name, _FOLDER, dir_fd=folder), entry)
            elif entry.kind == SYMLINK:
                os.symlink(entry.link, name, dir_fd=folder)
                os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
            elif entry.kind == HARD_LINK:
                *of, target = entry.link.split(b"/")
                with self._folder(of) as source:
                    os.link(target, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            else:
                descriptor = os.open(name, _CREATE, 0o600, dir_fd=folder)
                try:
                    holes.write(descriptor, content)
                finally:
                    self._dressed(descriptor, entry)

    @contextlib.contextmanager
    def _folder(self, names: list[bytes]) -> Iterator[int]:
        """Give a folder below the root, which is made where it is missing; no link leads to it."""
        descriptor = os.dup(self._root)
        try:
            for name in names:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                below = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _dressed(descriptor: int, entry: Entry) -> None:
        try:
            os.fchown(descriptor, entry.uid, entry.gid)  # first: it takes set-user-ID and capabilities away
            for name, value in entry.xattrs.items():
                if name.startswith(_XATTRS):
                    os.setxattr(descriptor, name, value)
            os.fchmod(descriptor, entry.mode)
            os.utime(descriptor, (entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)


def _entry(name: bytes, kind: bytes, found: os.stat_result, xattrs: dict[str, bytes]) -> Entry:
    return Entry(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime=max(0, min(int(found.st_mtime), _LATEST_S)),
        xattrs=xattrs,
    )


def _xattrs(descriptor: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with contextlib.suppress(OSError):  # a file system that has none
        for name in os.listxattr(descriptor):
            if name.startswith(_XATTRS) and "=" not in name:
                found[name] = os.getxattr(descriptor, name)
    return found


def _content_of(descriptor: int, regions: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in regions:
        os.lseek(descriptor, offset, os.SEEK_SET)
        yield from _content(descriptor, length)


def _content(descriptor: int, size: int) -> Iterator[bytes]:
    missing = size
    while missing:
        chunk = os.read(descriptor, min(missing, _CHUNK_BYTES)) or bytes(min(missing, _CHUNK_BYTES))
        missing -= len(chunk)
        yield chunk
