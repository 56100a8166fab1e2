"""Sparse members of a tar: where the pieces of a file belong that has holes. GNU's forms: old, PAX 0.1 and PAX 1.0.

Source: GNU tar manual, "Sparse Formats".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from instar.store.header import BLOCK, padding

OLD_GNU = b"S"
Region = tuple[int, int]
"""Offset and length of bytes that are there."""

RECORD = b"GNU.sparse."
_REGION_LIMIT = 1 << 20
_PIECE_BYTES = 24
_DIGITS = 20
_HOLE = bytes(1 << 16)


class WrongMap(ValueError):
    """The map is none."""


def is_sparse(kind: bytes, records: Mapping[bytes, bytes]) -> bool:
    return kind == OLD_GNU or any(key.startswith(RECORD) for key in records)


def old_map(block: bytes, number: Callable[[bytes], int], take: Callable[[int], bytes]) -> tuple[list[Region], int]:
    """Return the regions and the whole size of a member of the old form; its further headers are taken."""
    size = number(block[483:495])
    pieces, more = block[386:482], block[482]
    while more:
        block = take(BLOCK)
        pieces, more = pieces + block[:504], block[504]
        if len(pieces) > _REGION_LIMIT * _PIECE_BYTES:
            raise WrongMap("it has too many holes")
    entries = [pieces[at : at + _PIECE_BYTES] for at in range(0, len(pieces), _PIECE_BYTES)]
    regions = [(number(entry[:12]), number(entry[12:])) for entry in entries if any(entry)]
    return _checked(regions, size), size


def pax_map(records: Mapping[bytes, bytes], take: Callable[[int], bytes]) -> tuple[list[Region], int, int]:
    """Return the regions, the whole size, and how many bytes of the member's data the map took."""
    size = _decimal(records.get(RECORD + b"realsize") or records.get(RECORD + b"size") or b"")
    if records.get(RECORD + b"major") == b"1" and records.get(RECORD + b"minor") == b"0":
        numbers, taken = _numbers_in_data(take)
    elif RECORD + b"map" in records:
        numbers, taken = [_decimal(text) for text in records[RECORD + b"map"].split(b",") if text], 0
    else:
        raise WrongMap("it has a sparse file of a form that isn't read here")
    if len(numbers) % 2 or len(numbers) > 2 * _REGION_LIMIT:
        raise WrongMap("the map of a sparse file is damaged")
    return _checked(list(zip(numbers[::2], numbers[1::2], strict=True)), size), size, taken


def records_of(name: bytes, size: int) -> Mapping[bytes, bytes]:
    """Return the PAX records of a sparse file, by the form PAX 1.0: its map stands before its data."""
    numbers = {b"major": b"1", b"minor": b"0", b"name": name, b"realsize": b"%d" % size}
    return {RECORD + key: value for key, value in numbers.items()}


def map_of(regions: Sequence[Region]) -> bytes:
    """Return the map that stands before the data, in whole blocks."""
    numbers = [len(regions), *(number for region in regions for number in region)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def name_of(records: Mapping[bytes, bytes]) -> bytes | None:
    return records.get(RECORD + b"name")


def filled(regions: Sequence[Region], size: int, pieces: Callable[[int], Iterator[memoryview]]) -> Iterator[memoryview]:
    """Yield the whole content: what ``pieces`` gives where there is something, zeros elsewhere."""
    at = 0
    for offset, length in (*regions, (size, 0)):
        while at < offset:
            hole = memoryview(_HOLE)[: min(offset - at, len(_HOLE) - at % len(_HOLE))]  # in whole blocks of the file
            at += len(hole)
            yield hole
        yield from pieces(length)
        at += length


def located(
    regions: Sequence[Region], pieces: Callable[[int], Iterator[memoryview]]
) -> Iterator[tuple[int, memoryview]]:
    """Yield what there is, each piece with its offset in the file; not its holes."""
    for offset, length in regions:
        at = offset
        for piece in pieces(length):
            yield at, piece
            at += len(piece)


def _numbers_in_data(take: Callable[[int], bytes]) -> tuple[list[int], int]:
    """Read the map that stands before the data: how many regions, then the numbers of each, a line each."""
    parts = [take(BLOCK)]
    lines = parts[0].count(b"\n")
    wanted = 1 + 2 * _decimal(parts[0].partition(b"\n")[0])
    while lines < wanted:
        if len(parts) * BLOCK > _REGION_LIMIT * 2 * _DIGITS or wanted > 2 * _REGION_LIMIT:
            raise WrongMap("it has too many holes")
        parts.append(take(BLOCK))
        lines += parts[-1].count(b"\n")
    numbers = b"".join(parts).split(b"\n")[1:wanted]
    return [_decimal(text) for text in numbers], len(parts) * BLOCK


def _checked(regions: list[Region], size: int) -> list[Region]:
    for (offset, length), (following, _) in pairwise([*regions, (size, 0)]):
        if not 0 <= offset <= offset + length <= following:
            raise WrongMap("the map of a sparse file is damaged")
    return regions


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > _DIGITS:
        raise WrongMap(f"a sparse file's number is {text[:40]!r}")
    return int(text)
