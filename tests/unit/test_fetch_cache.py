from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import FetchError, HashMismatch, HostError
from instar.fetch.cache import Cache
from instar.model.digest import Digest

DATA = b"as it came"
DIGEST = Digest.of(DATA)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def everything_in(cache: Cache) -> list[str]:
    return sorted(str(path.relative_to(cache.root)) for path in cache.root.rglob("*") if path.is_file())


def test_what_was_added_is_found_under_its_digest_and_private(cache: Cache) -> None:
    assert cache.find(DIGEST) is None
    assert cache.add([DATA[:3], DATA[3:]]) == DIGEST
    path = cache.find(DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600
    assert cache.root.stat().st_mode & 0o777 == 0o700
    assert cache.verify(DIGEST) == path
    assert cache.sizes() == {DIGEST: len(DATA)}


def test_other_bytes_than_expected_leave_nothing(cache: Cache) -> None:
    with pytest.raises(HashMismatch, match=DIGEST.hex) as caught:
        cache.add([b"something else"], DIGEST)
    assert Digest.of(b"something else").hex in caught.value.message
    assert everything_in(cache) == []


def test_what_breaks_off_leaves_nothing(cache: Cache) -> None:
    def breaking() -> Iterator[bytes]:
        yield DATA
        raise FetchError("cannot go on")

    with pytest.raises(FetchError, match="cannot go on"):
        cache.add(breaking(), DIGEST)
    assert everything_in(cache) == []


def test_a_damaged_file_is_removed_when_it_is_to_be_used(cache: Cache) -> None:
    cache.add([DATA])
    path = cache.find(DIGEST)
    assert path is not None
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(HashMismatch, match="damaged"):
        cache.verify(DIGEST)
    assert cache.find(DIGEST) is None
    with pytest.raises(FetchError, match="not in the cache"):
        cache.verify(DIGEST)


def test_two_that_add_the_same_file_both_succeed(cache: Cache) -> None:
    begun = threading.Barrier(8)
    added: list[Digest] = []

    def add() -> None:
        begun.wait()
        added.append(cache.add([DATA] * 100))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added == [Digest.of(DATA * 100)] * 8
    assert len(everything_in(cache)) == 1


def test_collect_spares_what_is_kept_and_sweeps_what_a_crash_left(cache: Cache) -> None:
    other = cache.add([b"other"])
    cache.add([DATA])
    crashed = cache.folder("partial") / "crashed"
    crashed.mkdir()
    (crashed / "file").write_bytes(b"half")
    fresh = cache.folder("partial") / "fresh"
    fresh.mkdir()
    os.utime(crashed, (0, 0))
    assert cache.collect({DIGEST}) == len(b"other")
    assert cache.find(DIGEST) and not cache.find(other)
    assert fresh.exists() and not crashed.exists()


def test_a_full_disk_is_told_as_such() -> None:
    cache = Cache(Path("/proc/nowhere"))
    with pytest.raises(HostError, match="cannot write to the cache"):
        cache.add([DATA])
