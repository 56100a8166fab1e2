"""Files with holes: what is nothing but zeros takes no room on the disk, and reads as zeros all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

_BLOCK: Final = 16 << 10  # the least hole: smaller ones would only make a file of many pieces
_MARKED_BYTES: Final = 64 << 10
_ZEROS: Final = bytes(_BLOCK)


def write(descriptor: int, chunks: Iterable[bytes | memoryview]) -> int:
    """Write ``chunks`` to a new file that is open at its beginning, blocks of zeros as holes; return its size.

    Raises OSError.
    """
    at, hole = 0, False
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            piece, rest = _cut(rest, at)
            hole = _is_hole(piece)
            at += len(piece)
            if hole:
                os.lseek(descriptor, len(piece), os.SEEK_CUR)
            else:
                _write_all(descriptor, piece)
    if hole:
        os.ftruncate(descriptor, at)
    return at


def _cut(rest: memoryview, at: int) -> tuple[memoryview, memoryview]:
    """Cut off what belongs together: a whole block of zeros of the file, or what is there until the next may begin."""
    to_block = -at % _BLOCK
    if to_block or len(rest) < _BLOCK:
        size = to_block or len(rest)
    else:
        size, whole = _BLOCK, len(rest) - len(rest) % _BLOCK
        while not _is_hole(rest[:_BLOCK]) and size < whole and not _is_hole(rest[size : size + _BLOCK]):
            size += _BLOCK
    return rest[:size], rest[size:]


def _is_hole(piece: memoryview) -> bool:
    return len(piece) == _BLOCK and not piece[0] and bytes(piece) == _ZEROS


def _write_all(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def regions(descriptor: int, size: int, at_most: int) -> list[tuple[int, int]] | None:
    """Return where a file of ``size`` bytes has something, as offsets and lengths; None where that are too many pieces.

    Raises OSError.
    """
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on, or it was made shorter meanwhile
                break
            raise
        if begin >= size:
            break
        at = min(end, size)
        if len(found) >= at_most:
            return None
        found.append((begin, at - begin))
    return found


def has_holes(status: os.stat_result) -> bool:
    """Tell whether a file takes markedly less room than it has bytes."""
    return status.st_size - status.st_blocks * 512 >= _MARKED_BYTES
