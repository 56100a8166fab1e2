"""The encoder that is part of the bake format: the same bytes whatever the threads and the chunks."""

from __future__ import annotations

import gzip
import hashlib
import random

import pytest

from instar.errors import StoreError
from instar.store import compression, require_encoder
from instar.store.compression import compressed, gzipped, plain

NOISE = random.Random(7).randbytes(1 << 20)
DATA = b"".join(b"line %d of a file that looks like a file\n" % number for number in range(200_000)) + NOISE


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_threads_and_chunks_make_no_difference() -> None:
    forms = {
        hashlib.sha256(b"".join(compressed(cut(DATA, size), threads=threads))).hexdigest()
        for threads, size in ((1, 1 << 20), (2, 1 << 20), (4, 1 << 20), (2, 65_537), (2, len(DATA)), (4, 3_000_000))
    }
    assert forms == {"fab0766f91fd063f47645037f4d228843fd2091f1d7ba7e0c7cbef5c65577cbf"}


def test_what_was_compressed_comes_back_and_gzip_is_gzip() -> None:
    assert b"".join(plain(compressed(cut(DATA, 1 << 20)))) == DATA
    assert gzip.decompress(b"".join(gzipped(cut(DATA, 1 << 20)))) == DATA


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = b"".join(compressed(bytes(1 << 20) for _ in range(64)))
    assert len(bomb) < 10_000
    assert max(len(piece) for piece in plain(iter([bomb]))) <= 1 << 20


@pytest.mark.parametrize("data", [b"not zstd at all", b"".join(compressed([DATA]))[:5000] + b"\xff" * 5000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not zstd"):
        list(plain(iter([data])))


def test_another_version_of_zstd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_encoder()
    monkeypatch.setattr(compression, "ENCODER", (1, 5, 6))
    with pytest.raises(StoreError, match=r"zstd is 1\.5\.7, bake format 1 is 1\.5\.6"):
        require_encoder()
