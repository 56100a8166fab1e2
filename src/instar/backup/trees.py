"""The data of volumes: a folder that a service fills, as members of a tar, and back.

Who has a volume can write anything into it, and change it while it is read: no link in it is followed, no pipe waited
for, no device and no other file system read. A file that becomes shorter meanwhile ends in zeros, one that is gone is
left out. What the file system refuses of one of them costs that one alone. What is put back is only ever created, below
one folder, by the same rule.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from instar import holes
from instar.backup.contents import SPARSE_FILE_BYTES
from instar.backup.writing import Member
from instar.descent import FILE, FOLDER, Descent
from instar.model.printable import printable
from instar.model.sizes import size_text
from instar.store.extraction import dress
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry

DEEPEST: Final = 4_096
_NAME_BYTES: Final = 128 << 10  # of all names together that lead to it: a member's header has room for it twice
_REGIONS: Final = 100_000  # of more pieces those are one that are near each other
_ZEROS_BYTES: Final = 1 << 30  # of holes between these, or as much as the file has
_SHOWN: Final = 200
_NAMED: Final = 1_000  # of more that is lost it is not said which
_CHUNK_BYTES: Final = 1 << 20
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # gone; by a file, a link, a socket
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # they are of this process, whatever is read
_LEASE_S: Final = 2.0  # for whoever holds a lease on a file to give it up, as it is told to; of all files together:
_LEASES_S: Final = 30.0
_LATEST_S: Final = 0o77777777777
_XATTRS: Final = ("user.", "security.capability", "system.posix_acl_")
_XATTRS_BYTES: Final = 512 << 10
_KINDS: Final = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


class Tree:
    """One folder to be backed up under ``name`` (with "/" at its end). ``left_out``: what was found and is not among
    its members, of each kind how many. ``lost``: data that is not, what and why."""

    def __init__(self, folder: str | os.PathLike[str], name: bytes) -> None:
        self._folder = folder
        self._name = name
        self._first_names: dict[tuple[int, int], bytes | None] = {}
        self._device = 0
        self._leases_s = _LEASES_S
        self.left_out: Counter[str] = Counter()
        self.lost: list[str] = []

    def members(self) -> Iterator[Member]:
        """Yield the folder and all below it, however deep: one folder is open at a time. Raises OSError for the folder
        itself; what is below it and cannot be read is ``lost``."""
        top = os.open(self._folder, FOLDER)
        try:
            self._device = os.fstat(top).st_dev
            yield self._folder_member(top, self._name)
            yield from self._all(Descent(top))
        finally:
            os.close(top)

    def _all(self, way: Descent) -> Iterator[Member]:
        with contextlib.closing(way):
            while (one := way.next()) is not None or way.depth:
                if one is None:
                    self._leave(way)
                    continue
                name = self._name + way.name + one
                try:
                    found = os.stat(one, dir_fd=way.here, follow_symlinks=False)
                    if not stat.S_ISDIR(found.st_mode) or found.st_dev != self._device:
                        yield from self._one(way.here, one, name, found)
                    elif way.depth >= DEEPEST or len(name) > _NAME_BYTES:
                        self._lose(name, "it is nested too deep")
                    else:
                        way.enter(one)
                        yield self._folder_member(way.here, name + b"/")
                except OSError as error:
                    self._refused(name, error)

    def _folder_member(self, folder: int, name: bytes) -> Member:
        return Member(_entry(name, DIRECTORY, os.fstat(folder), self._attributes(folder)))

    def _leave(self, way: Descent) -> None:
        """Go up. A folder that was moved meanwhile is not read any further: what is above it is something else."""
        above = way.name.rstrip(b"/").split(b"/")[:-1]
        way.leave()
        for depth in range(len(above), way.depth, -1):
            self._lose(self._name + b"/".join(above[:depth]) + b"/", "it was moved while it was read")

    def _refused(self, name: bytes, error: OSError) -> None:
        """Count what cannot be read as lost, unless it is gone or something else by now. Raises ``error`` where it is
        none of what is read."""
        if error.errno in _OURS:
            raise error
        if error.errno not in _REPLACED:
            held = error.errno == errno.EAGAIN
            self._lose(name, "a process holds a lease on it" if held else (error.strerror or str(error)).lower())

    def _lose(self, name: bytes, why: str) -> None:
        shown = name.removeprefix(self._name).decode("utf-8", "backslashreplace")
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        if len(self.lost) < _NAMED:
            self.lost.append(f"{printable(shown)}: {why}")
        elif len(self.lost) == _NAMED:
            self.lost.append("and more")

    def _opened(self, folder: int, one: bytes) -> int:
        until = time.monotonic() + min(_LEASE_S, self._leases_s)
        while True:
            try:
                return os.open(one, FILE, dir_fd=folder)
            except OSError as error:
                if error.errno != errno.EAGAIN or time.monotonic() >= until:
                    raise
            time.sleep(0.1)
            self._leases_s -= 0.1

    def _one(self, folder: int, one: bytes, name: bytes, found: os.stat_result) -> Iterator[Member]:
        if found.st_dev != self._device:
            self.left_out["other file system"] += 1
            return
        if stat.S_ISLNK(found.st_mode):
            entry = _entry(name, SYMLINK, found, {})
            try:
                entry.link = os.readlink(one, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.EINVAL:  # no link any more
                    return
                raise
            yield Member(entry)
            return
        if not stat.S_ISREG(found.st_mode):
            self.left_out[_KINDS.get(stat.S_IFMT(found.st_mode), "device")] += 1
            return
        descriptor = self._opened(folder, one)
        try:
            now = os.fstat(descriptor)
            if stat.S_ISREG(now.st_mode):
                yield from self._file(descriptor, name, now)
        finally:
            os.close(descriptor)

    def _file(self, descriptor: int, name: bytes, found: os.stat_result) -> Iterator[Member]:
        which = (found.st_dev, found.st_ino)
        entry = _entry(name, REGULAR, found, self._attributes(descriptor))
        if found.st_nlink > 1 and (first := self._first_names.get(which)) is not None:
            entry.kind, entry.link = HARD_LINK, first
            yield Member(entry)
            return
        entry.size = found.st_size
        regions, zeros = holes.regions(descriptor, entry.size, _REGIONS) if holes.has_holes(found) else (None, 0)
        too_much = None if regions is None else _too_much(entry.size, zeros, found)
        if too_much is None and which in self._first_names:  # it has become less since
            too_much = "it is left out by another of its names"
        if too_much is not None:
            self._lose(name, too_much)
            self._first_names[which] = None  # its other names lead nowhere either
            return
        if found.st_nlink > 1:
            self._first_names[which] = name
        if regions is not None:
            yield Member(entry, lambda: _content_of(descriptor, regions), regions)
            return
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield Member(entry, lambda: _content(descriptor, entry.size))

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
        self._root = os.open(root, FOLDER)
        self._last: tuple[list[bytes], int] = ([], os.dup(self._root))  # members of one folder follow each other

    def close(self) -> None:
        os.close(self._last[1])
        os.close(self._root)

    def add(self, entry: Entry, content: Iterable[tuple[int, memoryview]]) -> None:
        """Make one member; ``content``: what it has besides holes, each piece with its offset. Raises OSError,
        FileExistsError among them for one that is there twice."""
        *above, name = entry.name.rstrip(b"/").split(b"/")
        with self._folder(above) as folder:
            if entry.kind == DIRECTORY:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                self._dressed(os.open(name, FOLDER, dir_fd=folder), entry)
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
                    holes.write_pieces(descriptor, content, entry.size)
                finally:
                    self._dressed(descriptor, entry)

    @contextlib.contextmanager
    def _folder(self, names: list[bytes]) -> Iterator[int]:
        """Give a folder below the root, which is made where it is missing; no link leads to it."""
        known, last = self._last
        inside = names[: len(known)] == known
        descriptor = os.dup(last if inside else self._root)
        try:
            for name in names[len(known) if inside else 0 :]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                below = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            os.close(last)
            self._last = (names, os.dup(descriptor))
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _dressed(descriptor: int, entry: Entry) -> None:
        try:
            dress(descriptor, entry, carried=lambda name: name.startswith(_XATTRS))
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


def _too_much(size: int, zeros: int, found: os.stat_result) -> str | None:
    """Return why a file with holes is left out; ``zeros``: what of them would be written."""
    if size > SPARSE_FILE_BYTES:
        limit = size_text(SPARSE_FILE_BYTES)
        return f"with its holes it has {size_text(size)}, and a file with holes may have {limit}"
    if zeros > max(_ZEROS_BYTES, found.st_blocks * 512):
        filled = f"{size_text(zeros)} of the holes between them would be written"
        return f"it has more than {_REGIONS} pieces, and {filled}"
    return None


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
