"""Locking definitions with stages: real apt, a small archive of our own, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lock_author import Author, author_in
from test_lock_resolve import versions

from instar.errors import LockStale, ResolveError
from instar.lock.changes import changes
from instar.lock.file import read, write


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with author_in(tmp_path) as made:
        yield made


ONE = "{one: {base: 'debian:bookworm', packages: [libb]}}"


def publish(author: Author, version: str, suite: str = "bookworm") -> None:
    for name in ("liba", "libb"):
        author.archive.add(name, version, suite=suite)
    author.archive.publish()


def test_each_stage_has_a_part_of_the_lock(author: Author) -> None:
    publish(author, "1.0")
    author.write("liba", build=ONE)
    lock = author.lock()
    assert {name: name in versions(lock) for name in ("liba", "libb")} == {"liba": True, "libb": False}
    assert {name: name in versions(lock.build["one"]) for name in ("liba", "libb")} == {"liba": False, "libb": True}
    assert lock.build["one"].requested.packages == ("libb",)
    assert (lock.id is None, lock.build["one"].id) == (False, None)
    write(author.folder / "instar.lock", lock)
    assert read(author.folder / "instar.lock") == lock
    assert author.lock(lock) == lock
    author.write("liba")
    assert author.lock(lock).build == {}


def test_a_new_stage_has_the_versions_of_the_image_and_an_update_moves_both(author: Author) -> None:
    publish(author, "1.0")
    author.write("liba", "libb")
    old = author.lock()
    publish(author, "1.1", "bookworm-security")
    author.write("liba", "libb", build=ONE)
    lock = author.lock(old)
    assert versions(lock).items() >= {"liba": "1.0", "libb": "1.0"}.items()
    assert versions(lock.build["one"])["libb"] == "1.0"
    updated = author.lock(lock, frozenset({"libb"}))
    assert versions(updated)["libb"] == versions(updated.build["one"])["libb"] == "1.1"
    assert [str(one) for one in changes(lock, updated)] == [
        "  libb 1.0 → 1.1  (security)", "  libb 1.0 → 1.1  (security)  (build.one)",
    ]  # fmt: skip
    assert versions(updated)["liba"] == "1.0"


def test_what_cannot_be_locked_for_a_stage_is_told_with_its_place(author: Author) -> None:
    author.write("perl", build="{one: {base: 'debian:bookworm', packages: [nosuch]}}")
    with pytest.raises(ResolveError, match=r"instar\.yaml:2:51: cannot lock 'nosuch'"):
        author.lock()
    author.write("perl", build="{one: {base: 'debian:nosuch'}}")
    with pytest.raises(ResolveError, match=r"instar\.yaml:2:21: cannot find 'nosuch'"):
        author.lock()


def test_a_stage_that_is_not_in_the_lock_is_told(author: Author) -> None:
    from instar.definition import load
    from instar.lock.fit import require_fit

    author.write("perl")
    lock = author.lock()
    author.write("perl", build=ONE)
    with pytest.raises(LockStale, match=r"instar\.yaml:2:9: stage 'one' is not in instar\.lock"):
        require_fit(lock, load(author.folder / "instar.yaml"))
