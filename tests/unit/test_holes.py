"""Zeros become holes, and what is read is what was written."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from instar import holes

KIB = 1024
CONTENTS = [
    b"",
    b"short",
    bytes(64 * KIB),
    bytes(64 * KIB - 1),
    bytes(640 * KIB) + b"end",
    b"start" + bytes(640 * KIB),
    bytes(128 * KIB) + b"x" * 70_000 + bytes(300 * KIB) + b"y" + bytes(200 * KIB),
]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("piece", [1 << 20, 100_000, 65_536, 7_777])
def test_what_is_read_is_what_was_written(tmp_path: Path, content: bytes, piece: int) -> None:
    file = tmp_path / "file"
    with file.open("wb", buffering=0) as opened:
        size = holes.write(opened.fileno(), (content[at : at + piece] for at in range(0, len(content), piece)))
    assert size == len(content)
    assert file.read_bytes() == content


def test_it_holds_for_chunks_of_any_lengths(tmp_path: Path) -> None:
    seed = random.Random(7)
    content = b"".join(bytes(seed.randrange(200_000)) + seed.randbytes(seed.randrange(90_000)) for _ in range(20))
    chunks, at = [], 0
    while at < len(content):
        size = seed.randrange(1, 150_000)
        chunks.append(memoryview(content)[at : at + size])
        at += size
    file = tmp_path / "file"
    with file.open("wb", buffering=0) as opened:
        holes.write(opened.fileno(), chunks)
    assert file.read_bytes() == content


def test_zeros_take_no_room(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb", buffering=0) as opened:
        holes.write(opened.fileno(), [*([bytes(1 << 20)] * 64), b"end", *([bytes(1 << 20)] * 64)])
        os.fsync(opened.fileno())
    status = file.stat()
    assert status.st_size == (128 << 20) + 3
    assert status.st_blocks * 512 < 4 << 20
    assert holes.has_holes(status)
