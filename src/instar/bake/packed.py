"""Files that are packed (zip, jar, gzip): they keep times, and look drawn by lot as a secret does."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

_GZIP = b"\x1f\x8b\x08"
_GZIP_TIME = slice(4, 8)  # Source: RFC 1952, 2.3


def why_packed(one: bytes, two: bytes) -> str | None:
    """Say why two files that are not the same differ, where both are packed; None of others."""
    if one.startswith(_GZIP) and two.startswith(_GZIP):
        alone = _without_time(one) == _without_time(two)
        return "only the time in its head differs: pack it with gzip -n" if alone else "what is packed in it differs"
    before, after = _parts(one), _parts(two)
    if before is None or after is None:
        return None
    if different := sorted(name for name, _ in before.items() ^ after.items()):
        return f"{different[0]!r}, which is packed in it, differs"
    return "only the times of what is packed in it differ: give all the same one, as jar --date does"


def _without_time(packed: bytes) -> bytes:
    return packed[: _GZIP_TIME.start] + packed[_GZIP_TIME.stop :]


def _parts(packed: bytes) -> Mapping[str, int] | None:
    """Return the checksum of each part; None of what is no zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as opened:
            return {part.filename: part.CRC for part in opened.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return None
