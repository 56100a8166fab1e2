"""The lines of a log that were not shipped yet, from a place that can be written down.

A log is up to three files that follow on one another; a file is known by its inode and by how it begins, as inodes are
given again. Where the file of the last place is gone, lines are lost: how many bytes at least, is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass as mutable
from typing import IO, Final

from instar import durable
from instar.frozen import dataclass
from instar.model.log_stream import FULL_BYTES, LogStream

BATCH_BYTES: Final = 256 << 10
MESSAGE_BYTES: Final = 32 << 10  # of one message; what goes on longer is cut into several
_HEAD_BYTES: Final = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """How far a log was shipped: ``offset`` in the file of that ``inode`` that begins with ``head`` (hexadecimal) and
    had ``size`` bytes then. ``at``: when the last line before it was written, as the log has it."""

    inode: int
    head: str
    offset: int
    size: int
    at: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """``partial``: it goes on in the stream's next line."""

    at: str
    stream: str
    message: str
    partial: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What was read of a log, from where to where, how many bytes before it are gone, and how many come after it.
    ``lost_from`` and ``lost_to``: the times of the lines around those that are gone, as far as they are known."""

    lines: tuple[Line, ...]
    begin: Place | None
    end: Place | None
    lost_bytes: int = 0
    behind_bytes: int = 0
    lost_from: str | None = None
    lost_to: str | None = None


def read(stream: LogStream, place: Place | None, most_bytes: int = BATCH_BYTES) -> Piece:
    """Return what comes after ``place`` (None: all that is there), up to so many bytes. Raises OSError."""
    if place is not None and _is_read(stream, place):
        return Piece(lines=(), begin=place, end=place)
    files = list(_opened(stream))
    try:
        return _read(files, place, most_bytes)
    finally:
        for file in files:
            file.close()


def waiting_bytes(stream: LogStream, place: Place | None) -> int:
    """Return how many bytes come after ``place``, by the files' sizes alone; where its file is gone, all there are."""
    found = 0
    for path in stream.files:  # the newest first
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue
        if place is not None and seen.st_ino == place.inode:
            return found + max(0, seen.st_size - place.offset)
        found += seen.st_size
    return found


def _is_read(stream: LogStream, place: Place) -> bool:
    """Tell by one look at the newest file whether anything came."""
    try:
        found = stream.files[0].stat()
    except FileNotFoundError:
        return False
    return (found.st_ino, found.st_size) == (place.inode, place.offset)


def _opened(stream: LogStream) -> Iterator[IO[bytes]]:
    """Yield the files, the oldest first."""
    seen = set[int]()
    found = list[IO[bytes]]()
    for path in stream.files:
        try:
            file = durable.reader(path)
        except FileNotFoundError:
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode in seen:
            file.close()
        else:
            seen.add(inode)
            found.append(file)
    yield from reversed(found)


def _read(files: Sequence[IO[bytes]], place: Place | None, most_bytes: int) -> Piece:
    number = None if place is None else next((n for n, file in enumerate(files) if _is_at(file, place)), None)
    lost = 0 if place is None or number is not None else max(FULL_BYTES, place.size) - place.offset
    now, offset = (number, place.offset) if place is not None and number is not None else (0, 0)
    if not files:
        gone = 0 if place is None else place.size - place.offset
        return Piece(lines=(), begin=None, end=None, lost_bytes=gone, lost_from=place.at if place is not None else None)
    at = None if place is None else place.at
    lines, begin = list[Line](), _place(files[now], offset, at)
    while True:
        data = _whole(os.pread(files[now].fileno(), most_bytes, offset), most_bytes)
        lines += parsed(data)
        offset += len(data)
        if data or now + 1 == len(files):
            break
        now, offset = now + 1, 0  # what is left there is a line that was cut
    sizes = [os.fstat(file.fileno()).st_size for file in files]
    behind = sizes[now] - offset + sum(sizes[now + 1 :])
    end = _place(files[now], offset, lines[-1].at if lines else at)
    around = (at, lines[0].at if lines else None) if lost else (None, None)
    return Piece(
        lines=tuple(lines),
        begin=begin,
        end=end,
        lost_bytes=lost,
        behind_bytes=behind,
        lost_from=around[0],
        lost_to=around[1],
    )


def _whole(data: bytes, asked: int) -> bytes:
    """Return the lines of ``data`` that have ended: all of it where not one of so many bytes has."""
    end = data.rfind(b"\n") + 1
    return data[:end] if end or len(data) < asked else data


def _is_at(file: IO[bytes], place: Place) -> bool:
    found, head = os.fstat(file.fileno()), bytes.fromhex(place.head)
    return (
        found.st_ino == place.inode and found.st_size >= place.offset and os.pread(file.fileno(), len(head), 0) == head
    )


def _place(file: IO[bytes], offset: int, at: str | None) -> Place:
    found, head = os.fstat(file.fileno()), os.pread(file.fileno(), _HEAD_BYTES, 0)
    return Place(inode=found.st_ino, head=head.hex(), offset=offset, size=found.st_size, at=at)


@mutable(slots=True)
class _Begun:
    """A message of one stream that has not ended."""

    at: str
    parts: list[str]
    length: int = 0

    def line(self, stream: str, *, partial: bool) -> Line:
        return Line(at=self.at, stream=stream, message="".join(self.parts), partial=partial)


def parsed(data: bytes) -> Iterator[Line]:
    """Yield the messages in whole lines of a log's file; what is damaged, a disk having been full, is left out."""
    begun = dict[str, _Begun]()
    for one in data.split(b"\n"):
        try:
            at, stream, tag, text = one.decode(errors="replace").split(" ", 3)
        except ValueError:
            continue
        for start in range(0, max(1, len(text)), MESSAGE_BYTES):
            part = text[start : start + MESSAGE_BYTES]
            if (before := begun.get(stream)) is not None and before.length + len(part) > MESSAGE_BYTES:
                yield begun.pop(stream).line(stream, partial=True)
            now = begun.setdefault(stream, _Begun(at, []))
            now.parts.append(part)
            now.length += len(part)
        if tag != "P":
            yield begun.pop(stream).line(stream, partial=False)
    yield from (one.line(stream, partial=True) for stream, one in begun.items())
