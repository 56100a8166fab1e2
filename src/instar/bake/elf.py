"""ELF files: for which architecture one is, which shared libraries one of this machine's kind names, and its loader.

Nothing of a file is trusted: what leads out of it, or is not of the form, is no library that names others.

Source: System V ABI, "ELF Header", "Program Loading and Dynamic Linking".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

MARK = b"\x7fELF"
START_BYTES = 20
_MACHINES = {3: "i386", 21: "ppc64el", 22: "s390x", 40: "armhf", 62: "amd64", 183: "arm64", 243: "riscv64"}
_RUN = (2, 3)  # programs and shared libraries, and no objects that are to be linked
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: every architecture that images are for
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_END, _NEEDED, _STRINGS, _RPATH, _RUNPATH = 0, 1, 5, 15, 29
_SEGMENT_LIMIT = 256
_DYNAMIC_LIMIT_BYTES = 1 << 16
_NAME_LIMIT = 255
_PATH_LIMIT = 4095
_NAMES_LIMIT = 1024
_FOLDERS_LIMIT = 256  # every library that is named is looked for in each


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size_bytes: int


def architecture(start: bytes) -> str | None:
    """Return for which architecture (Debian's name) a program or library is, by its first bytes; None: for none that is
    known, or it is no such file."""
    if len(start) < START_BYTES or not start.startswith(MARK):
        return None
    order = ">" if start[5] == 2 else "<"
    kind, machine = struct.unpack_from(f"{order}HH", start, 16)
    return _MACHINES.get(machine) if kind in _RUN else None


class Linked(NamedTuple):
    """What an ELF file says: the ``machine`` (ELF's number), the path of its loader, "" where it has none, the
    libraries that it names, and the folders in which it looks for them first, with ``$ORIGIN`` in them."""

    machine: int
    interpreter: str
    needed: tuple[str, ...]
    run_paths: tuple[str, ...]


def linked(descriptor: int) -> Linked | None:
    """Return what a file says of others; None when it is no ELF file. Raises OSError."""
    try:
        segments = _segments(descriptor)
        machine = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))[2]
        loader = next((one for one in segments if one.kind == _INTERPRETER), None)
        interpreter = _name(descriptor, loader.offset, _PATH_LIMIT) if loader else ""
    except (struct.error, ValueError):
        return None
    try:
        paths = _names(descriptor, segments, (_RPATH, _RUNPATH), _PATH_LIMIT)
        folders = _few((folder for path in paths for folder in path.split(":") if folder), _FOLDERS_LIMIT)
        return Linked(machine, interpreter, _few(_names(descriptor, segments), _NAMES_LIMIT), folders)
    except (struct.error, ValueError, StopIteration):
        return Linked(machine, interpreter, (), ())


def _few(names: Iterable[str], limit: int) -> tuple[str, ...]:
    """Return each name once. Raises ValueError for more than any file has that is no trap."""
    found = dict[str, None]()
    for name in names:
        found[name] = None
        if len(found) > limit:
            raise ValueError
    return tuple(found)


def needed(descriptor: int) -> tuple[str, ...]:
    """Return the libraries that the file names, in its order; none when it is no ELF file. Raises OSError."""
    try:
        segments = _segments(descriptor)
        return _few(_names(descriptor, segments), _NAMES_LIMIT)
    except (struct.error, ValueError, StopIteration):
        return ()


def _segments(descriptor: int) -> list[_Segment]:
    header = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    start, size, count = header[5], header[9], header[10]
    if not header[0].startswith(_MAGIC) or size != _SEGMENT.size or count > _SEGMENT_LIMIT:
        raise ValueError
    table = os.pread(descriptor, size * count, _offset(start))
    return [_Segment(one[0], one[2], one[3], one[5]) for one in _SEGMENT.iter_unpack(table)]


def _names(
    descriptor: int, segments: list[_Segment], tags: tuple[int, ...] = (_NEEDED,), limit: int = _NAME_LIMIT
) -> tuple[str, ...]:
    dynamic = next((one for one in segments if one.kind == _DYNAMIC), None)
    if dynamic is None:
        return ()
    size = min(dynamic.size_bytes, _DYNAMIC_LIMIT_BYTES) // _ENTRY.size * _ENTRY.size
    offsets, strings = list[int](), 0
    for tag, value in _ENTRY.iter_unpack(os.pread(descriptor, size, _offset(dynamic.offset))):
        if tag == _END:
            break
        if tag in tags:
            offsets.append(value)
        elif tag == _STRINGS:
            strings = value
    within = next(one for one in segments if one.kind == _LOAD and 0 <= strings - one.address < one.size_bytes)
    begin = within.offset + strings - within.address
    return tuple(name for offset in offsets if (name := _name(descriptor, begin + offset, limit)))


def _name(descriptor: int, offset: int, limit: int) -> str:
    text, zero, _ = os.pread(descriptor, limit + 1, _offset(offset)).partition(b"\0")
    return text.decode("utf-8", "replace") if zero else ""


def _offset(value: int) -> int:
    if value >= 1 << 62:
        raise ValueError
    return value
