"""Files with holes: what is nothing but zeros takes no room on the disk, and reads as zeros all the same."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterable, Iterator
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
        at, hole = _add(descriptor, chunk, at, hole)
    if hole:
        os.ftruncate(descriptor, at)
    return at


def write_pieces(descriptor: int, found: Iterable[tuple[int, bytes | memoryview]], size: int) -> None:
    """Write what was ``found``, each with its offset, in their order, to a new file of ``size`` bytes that is open at
    its beginning: all else is holes, and so are blocks of zeros in it. Raises OSError."""
    at, hole = 0, False
    for offset, chunk in found:
        if offset > at:
            at, hole = os.lseek(descriptor, offset, os.SEEK_SET), True
        at, hole = _add(descriptor, chunk, at, hole)
    if hole or at < size:
        os.ftruncate(descriptor, size)


def _add(descriptor: int, chunk: bytes | memoryview, at: int, hole: bool) -> tuple[int, bool]:
    """Write ``chunk`` at ``at``; return where it ends, and whether that is a hole."""
    rest = memoryview(chunk)
    while rest:
        piece, rest = _cut(rest, at)
        hole = _is_hole(piece)
        at += len(piece)
        if hole:
            os.lseek(descriptor, len(piece), os.SEEK_CUR)
        else:
            _write_all(descriptor, piece)
    return at, hole


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


def pieces(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file of ``size`` bytes has something, as offsets and lengths. Raises OSError."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on, or it was made shorter meanwhile
                return
            raise
        if begin >= size:
            return
        at = min(end, size)
        yield begin, at - begin


def regions(descriptor: int, size: int, at_most: int) -> tuple[list[tuple[int, int]], int]:
    """Return the ``pieces`` of a file, of more than ``at_most`` those with the least holes between them as one, and how
    many bytes of holes are in such ones.

    Raises OSError.
    """
    found: list[tuple[int, int]] = []
    written = 0
    for piece in pieces(descriptor, size):
        found.append(piece)
        written += piece[1]
        if len(found) >= 2 * at_most:
            found = _joined(found, at_most)
    found = _joined(found, at_most) if len(found) > at_most else found
    return found, sum(length for _, length in found) - written


def _joined(pieces: list[tuple[int, int]], at_most: int) -> list[tuple[int, int]]:
    """Return as many pieces as there may be: the holes between them are the largest."""
    holes = range(1, len(pieces))
    kept = set(heapq.nlargest(at_most - 1, holes, key=lambda one: pieces[one][0] - sum(pieces[one - 1])))
    found = [pieces[0]]
    for number in holes:
        offset, length = pieces[number]
        if number in kept:
            found.append((offset, length))
        else:
            found[-1] = (found[-1][0], offset + length - found[-1][0])
    return found


def has_holes(status: os.stat_result) -> bool:
    """Tell whether a file takes markedly less room than it has bytes."""
    return status.st_size - status.st_blocks * 512 >= _MARKED_BYTES
