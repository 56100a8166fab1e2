"""Files that are packed (zip, jar, gzip): they keep times, and look drawn by lot as a secret does."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

_GZIP = b"\x1f\x8b\x08"
_GZIP_TIME = slice(4, 8)  # Source: RFC 1952, 2.3
_CHUNK_BYTES = 1 << 20


def why_packed(one: BinaryIO, two: BinaryIO) -> str | None:
    """Say why two files that are not the same differ, where both are packed; None of others."""
    heads = [_head(each) for each in (one, two)]
    if all(head.startswith(_GZIP) for head in heads):
        alone = first_difference(one, two, begin=_GZIP_TIME.stop) is None
        return "only the time in its head differs: pack it with gzip -n" if alone else "what is packed in it differs"
    before, after = _parts(one), _parts(two)
    if before is None or after is None:
        return None
    if different := sorted(name for name, _ in before.items() ^ after.items()):
        more = f", and {len({*different}) - 1} more" if len({*different}) > 1 else ""
        return f"{different[0]!r}, which is packed in it, differs{more}"
    return "only the times of what is packed in it differ: give all the same one, as jar --date does"


def first_difference(one: BinaryIO, two: BinaryIO, *, begin: int = 0) -> int | None:
    """Return the first byte from ``begin`` on that is not the same; where one ends, it is that after its last. None:
    there is none."""
    one.seek(begin)
    two.seek(begin)
    at = begin
    while True:
        before, after = one.read(_CHUNK_BYTES), two.read(_CHUNK_BYTES)
        if before != after:
            pairs = enumerate(zip(before, after, strict=False))
            return at + next((number for number, pair in pairs if pair[0] != pair[1]), min(len(before), len(after)))
        if not before:
            return None
        at += len(before)


def _head(packed: BinaryIO) -> bytes:
    packed.seek(0)
    return packed.read(len(_GZIP))


def _parts(packed: BinaryIO) -> Mapping[str, int] | None:
    """Return the checksum of each part; None of what is no zip."""
    try:
        with zipfile.ZipFile(packed) as opened:
            return {part.filename: part.CRC for part in opened.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return None
