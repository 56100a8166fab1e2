"""A member's header in a tar: ustar, with a PAX header before it where ustar cannot say it.

What :func:`encode` writes is part of the bake format. Names are bytes: a name that isn't UTF-8 stays as it is.
Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; star's SCHILY.xattr records.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 512
REGULAR: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
DIRECTORY: Final = b"5"
PAX: Final = b"x"
PAX_GLOBAL: Final = b"g"
XATTR_RECORD: Final = b"SCHILY.xattr."

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_NAME_BYTES = 100
_ID_LIMIT = 0o7777777
_SIZE_LIMIT = 0o77777777777


@dataclass(slots=True, kw_only=True)
class Entry:
    """One member. ``name`` is as in the tar: relative, a directory's with ``/`` at its end. ``mtime``: seconds."""

    name: bytes
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def encode(entry: Entry, more: Mapping[bytes, bytes] | None = None) -> bytes:
    """Return the blocks that stand before an entry's data; ``more`` are PAX records besides its own. Raises ValueError
    for what no tar can say."""
    records = {**_records(entry), **(more or {})}
    if not records:
        return _ustar(entry)
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    extended = Entry(name=b"PaxHeader", kind=PAX, mode=0o644, size=len(body))
    return _ustar(extended) + body + padding(len(body)) + _ustar(entry)


def padding(size: int) -> bytes:
    """Return what fills ``size`` bytes of data up to whole blocks."""
    return bytes(-size % BLOCK)


def _records(entry: Entry) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    if len(entry.name) > _NAME_BYTES or not entry.name.isascii():
        records[b"path"] = entry.name
    if len(entry.link) > _NAME_BYTES or not entry.link.isascii():
        records[b"linkpath"] = entry.link
    if entry.size > _SIZE_LIMIT:
        records[b"size"] = b"%d" % entry.size
    if entry.uid > _ID_LIMIT:
        records[b"uid"] = b"%d" % entry.uid
    if entry.gid > _ID_LIMIT:
        records[b"gid"] = b"%d" % entry.gid
    for name, value in entry.xattrs.items():
        if "=" in name:
            raise ValueError(f"a tar cannot carry an extended attribute with '=' in its name, '{name}'")
        records[XATTR_RECORD + name.encode("utf-8", "surrogateescape")] = value
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """Return "LENGTH KEY=VALUE\\n", where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _ustar(entry: Entry) -> bytes:
    block = bytearray(
        _FIELDS.pack(
            entry.name,
            b"%07o\0" % entry.mode,
            b"%07o\0" % min(entry.uid, _ID_LIMIT),
            b"%07o\0" % min(entry.gid, _ID_LIMIT),
            b"%011o\0" % min(entry.size, _SIZE_LIMIT),
            b"%011o\0" % entry.mtime,
            b"        ",
            entry.kind,
            entry.link,
            b"ustar\x0000",
            b"",
            b"",
            b"0000000\0",
            b"0000000\0",
            b"",
        )
    )
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)
