"""An image of somebody else's as files by name: a folder, or a tar that is read where it lies, and never trusted.

Nothing is unpacked: of a tar only the table of its members is made, and what is asked for by name is read from its
place. Names that lead out, a name that stands there twice, sparse files, devices and pipes are refused, and links are
followed within the archive alone. In a folder no link is followed at all.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from instar.frozen import dataclass
from instar.store.blobs import Blobs, write_all
from instar.store.compression import gunzipped, plain
from instar.store.header import BLOCK, DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry
from instar.store.members import Malformed, Members, Stream, begins_tar
from instar.store.room import Limit, limited

ARCHIVE_LIMIT_BYTES: Final = 256 << 30
_MEMBERS_LIMIT: Final = 100_000
_NAME_LIMIT_BYTES: Final = 4095
_LINKS_LIMIT: Final = 8
_READ_BYTES: Final = 1 << 20
_HEADERS_BYTES: Final = 1 << 14
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PACKED: Final[tuple[tuple[bytes, Callable[[Iterator[bytes]], Iterator[bytes]]], ...]] = (
    (b"\x1f\x8b", gunzipped),
    (b"\x28\xb5\x2f\xfd", plain),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a file of a source holds; ``chunks`` reads it, once or again. Raises Malformed, OSError."""

    size_bytes: int
    chunks: Callable[[], Iterator[bytes]]

    def read(self, limit_bytes: int) -> bytes:
        """Return all of it. Raises Malformed when that is more than ``limit_bytes``."""
        if self.size_bytes > limit_bytes:
            raise Malformed(f"it has {self.size_bytes:,} bytes, more than the {limit_bytes:,} that are allowed")
        return b"".join(self.chunks())


class Source(Protocol):
    """Files by name, such as ``blobs/sha256/HEX``."""

    def find(self, name: str) -> Content | None:
        """Return a file, None where there is none. Raises Malformed for what is there and is none."""


@contextlib.contextmanager
def opened(path: Path, blobs: Blobs) -> Iterator[Source]:
    """Give what is at ``path``: a folder, or a tar, as it is or in gzip or zstd. Raises Malformed, OSError."""
    if path.is_dir():
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _Folder(descriptor)
        finally:
            os.close(descriptor)
        return
    with contextlib.ExitStack() as held:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        held.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Malformed("it is neither a file nor a folder")
        yield _tar(descriptor, blobs, held)


def _tar(descriptor: int, blobs: Blobs, held: contextlib.ExitStack) -> _Tar:
    """Return a tar that is read where it lies; where it is compressed, a copy that is not."""
    start = os.pread(descriptor, BLOCK, 0)
    for mark, unpacked in _PACKED:
        if start.startswith(mark):
            scratch = held.enter_context(blobs.scratch())
            limit = limited(ARCHIVE_LIMIT_BYTES, blobs.partial)
            chunks = _unwrapped(unpacked(_span(descriptor, 0, None)))
            return _Tar(scratch.descriptor, _Unfolding(chunks, scratch.descriptor, limit))
    if not begins_tar(start):
        raise Malformed("it is no tar, and none that gzip or zstd has compressed")
    return _Tar(descriptor, _FileStream(descriptor))


def _unwrapped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except ValueError as error:
        raise Malformed(str(error)) from error


def _span(descriptor: int, start: int, size_bytes: int | None) -> Iterator[bytes]:
    """Yield bytes of a file from ``start`` on, to its end where no size is given. Raises Malformed when it is short."""
    left = size_bytes
    while left is None or left > 0:
        chunk = os.pread(descriptor, _READ_BYTES if left is None else min(_READ_BYTES, left), start)
        if not chunk:
            if left is not None:
                raise Malformed("it ends in the middle")
            return
        yield chunk
        start += len(chunk)
        left = None if left is None else left - len(chunk)


class _Folder:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def find(self, name: str) -> Content | None:
        name = _name(name.encode())
        try:
            file = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Malformed(f"'{name}' is a link, or no file") from error
            raise
        try:
            status = os.fstat(file)
        finally:
            os.close(file)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed(f"'{name}' is no file")
        return Content(size_bytes=status.st_size, chunks=lambda: self._chunks(name, status.st_size))

    def _chunks(self, name: str, size_bytes: int) -> Iterator[bytes]:
        file = self._open(name)
        try:
            yield from _span(file, 0, size_bytes)
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        *above, last = name.split("/")
        folder = os.dup(self._descriptor)
        try:
            for part in above:
                below = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            return os.open(last, _FILE, dir_fd=folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    start: int
    size_bytes: int
    link: str  # where it leads, "" for a file's own content


class _Tar:
    def __init__(self, descriptor: int, stream: _FileStream | _Unfolding) -> None:
        self._descriptor = descriptor
        self._members: dict[str, _Member | None] = {}  # None: it stands there twice
        for entry in Members(stream, marked_end=True):
            self._note(entry, stream.taken_bytes)

    def find(self, name: str) -> Content | None:
        asked = name = _name(name.encode())
        for _ in range(_LINKS_LIMIT):
            if name not in self._members:
                return None
            member = self._members[name]
            if member is None:
                raise Malformed(f"'{name}' stands there twice")
            if not member.link:
                return self._content(member)
            name = member.link
        raise Malformed(f"'{asked}' is a link that leads nowhere")

    def _content(self, member: _Member) -> Content:
        chunks = functools.partial(_span, self._descriptor, member.start, member.size_bytes)
        return Content(size_bytes=member.size_bytes, chunks=chunks)

    def _note(self, entry: Entry, start: int) -> None:
        name = _name(entry.name)
        if len(self._members) > _MEMBERS_LIMIT:
            raise Malformed(f"it holds more than {_MEMBERS_LIMIT:,} files")
        if entry.kind == DIRECTORY:
            return
        link = ""
        if entry.kind == SYMLINK:
            link = posixpath.normpath(posixpath.join(posixpath.dirname(name), _text(entry.link)))
        elif entry.kind == HARD_LINK:
            link = _name(entry.link)
        elif entry.kind != REGULAR:
            raise Malformed(f"'{name}' is a device or a pipe")
        if link.startswith(("../", "/")) or link == "..":
            raise Malformed(f"'{name}' is a link that leads out of it")
        known = name in self._members
        self._members[name] = None if known else _Member(start=start, size_bytes=entry.size, link=link)


class _FileStream(Stream):
    """A file from its beginning; what is skipped is not read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_byte = 0
        super().__init__(iter(self._read, b""), limit_bytes=ARCHIVE_LIMIT_BYTES)

    @property
    def taken_bytes(self) -> int:
        return self._next_byte - len(self._chunk)

    def skip(self, count: int) -> None:
        there = min(count, len(self._chunk))
        self._chunk = self._chunk[there:]
        self._next_byte += count - there
        if self._next_byte > os.fstat(self._descriptor).st_size:
            raise Malformed("it ends in the middle")

    def _read(self) -> bytes:
        chunk = os.pread(self._descriptor, _HEADERS_BYTES, self._next_byte)
        self._next_byte += len(chunk)
        return chunk


class _Unfolding(Stream):
    """What comes out of a compressed file, kept in another as it is read; what lies beyond the tar's end is not."""

    def __init__(self, chunks: Iterator[bytes], into: int, limit: Limit) -> None:
        self._into = into
        super().__init__(chunks, limit_bytes=limit.size_bytes, why=limit.why)

    @property
    def taken_bytes(self) -> int:
        return self._came - len(self._chunk)

    def drain(self) -> None:
        pass

    def _next(self) -> bool:
        more = super()._next()
        write_all(self._into, self._chunk)
        return more


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _name(name: bytes) -> str:
    """Return a name as others ask for it. Raises Malformed for one that leads out."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or len(name) > _NAME_LIMIT_BYTES:
        raise Malformed(f"a name in it, '{_text(name[:200])}', leads out of it or is too long")
    return _text(b"/".join(parts))
