"""Locking for several platforms: real apt and uv, an archive of our own for both architectures, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import fill, make_wheel
from lock_author import Author, author_in

from instar.errors import ResolveError
from instar.lock.changes import changes
from instar.lock.file import read, write
from instar.model.lock import Lock

BOTH = "linux/arm64, linux/amd64"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with author_in(tmp_path) as made:
        made.archive.architectures = ("amd64", "arm64")
        fill(made.archive)
        made.archive.publish()
        yield made


def publish(author: Author, name: str, version: str, *architectures: str, suite: str = "bookworm") -> None:
    for architecture in architectures or ("amd64", "arm64"):
        author.archive.add(name, version, suite=suite, architecture=architecture)
    author.archive.publish()


def on(lock: Lock, platform: str) -> dict[str, str]:
    """Return the versions of a platform's packages, all of which are for it."""
    found = lock.find_platform(platform)
    assert found is not None
    assert {one.architecture for one in found.packages} <= {found.architecture, "all"}
    assert found.architecture == platform.removeprefix("linux/")
    return {one.name: one.version for one in found.packages}


def test_each_platform_has_a_part_of_the_lock_with_its_own_files(author: Author) -> None:
    publish(author, "liba", "1.0")
    author.write("liba", platforms=BOTH)
    lock = author.lock()
    assert (lock.architecture, list(lock.platforms)) == ("amd64", ["linux/arm64"])
    assert on(lock, "linux/amd64") == on(lock, "linux/arm64") and on(lock, "linux/arm64")["liba"] == "1.0"
    files = [{one.sha256 for one in each.packages} for each in lock.whole]
    assert not files[0] & files[1]
    write(author.folder / "instar.lock", lock)
    assert read(author.folder / "instar.lock") == lock
    assert author.lock(lock) == lock
    author.write("liba", platforms="linux/amd64, linux/arm64")
    assert author.lock(lock) == lock  # their order means nothing
    author.write("liba")
    alone = author.lock(lock)
    assert alone.platforms == {} and alone.packages == lock.packages


def test_a_platform_that_is_new_has_the_versions_of_the_first_where_it_has_them(author: Author) -> None:
    publish(author, "liba", "1.0")
    publish(author, "libb", "1.0", "amd64")
    publish(author, "libb", "1.0+b1", "arm64")
    author.write("liba", "libb", platforms="linux/amd64")
    old = author.lock()
    publish(author, "liba", "1.1", suite="bookworm-security")
    author.write("liba", "libb", platforms=BOTH)
    lock = author.lock(old)
    assert [on(lock, f"linux/{one}")["liba"] for one in ("amd64", "arm64")] == ["1.0", "1.0"]
    assert [on(lock, f"linux/{one}")["libb"] for one in ("amd64", "arm64")] == ["1.0", "1.0+b1"]
    updated = author.lock(lock, frozenset({"liba"}))
    assert [on(updated, f"linux/{one}")["liba"] for one in ("amd64", "arm64")] == ["1.1", "1.1"]
    assert [str(one) for one in changes(lock, updated)] == ["  liba 1.0 → 1.1  (security)"]
    assert updated.platforms["linux/arm64"].id is None and updated.id == lock.id == old.id


def test_wheels_are_those_of_each_platform(author: Author) -> None:
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_aarch64"):
        make_wheel(author.folder, "fast", "1.0", tag)
    make_wheel(author.folder, "fast", "1.1", "cp311-cp311-manylinux_2_17_x86_64")
    make_wheel(author.folder, "plain", "2.0")
    author.write(python="fast==1.0\nplain\n", platforms=BOTH)
    lock = author.lock()
    found = {one.architecture: [wheel.filename.rpartition("_")[2] for wheel in one.wheels] for one in lock.whole}
    assert found == {
        "amd64": ["64.whl", "plain-2.0-py3-none-any.whl"],
        "arm64": ["aarch64.whl", "plain-2.0-py3-none-any.whl"],
    }
    author.write(python="fast==1.1\nplain\n", platforms=BOTH)
    with pytest.raises(ResolveError, match=r"cannot lock 'fast==1\.1'") as caught:
        author.lock(lock)
    assert caught.value.message.endswith("(for linux/arm64)")


def test_what_one_platform_has_not_is_told_with_its_name(author: Author) -> None:
    publish(author, "liba", "1.0", "amd64")
    author.write("liba", platforms=BOTH)
    with pytest.raises(ResolveError) as caught:
        author.lock()
    assert "instar.yaml:4:14: cannot lock 'liba': debian:bookworm has no such package" in caught.value.message
    assert caught.value.message.endswith("(for linux/arm64)")
    author.write("liba", platforms="linux/amd64")
    assert on(author.lock(), "linux/amd64")["liba"] == "1.0"


def test_a_stage_of_one_platform_is_locked_once(author: Author) -> None:
    publish(author, "compiler", "1.0", "amd64")
    publish(author, "liba", "1.0")
    stages = "{one: {base: 'debian:bookworm', packages: [compiler], platform: linux/amd64}, "
    stages += "two: {base: 'debian:bookworm', packages: [liba]}}"
    author.write(platforms=BOTH, build=stages)
    lock = author.lock()
    write(author.folder / "instar.lock", lock)
    assert read(author.folder / "instar.lock") == lock
    assert sorted(lock.platforms["linux/arm64"].build) == ["two"]
    arm = lock.find_platform("linux/arm64")
    assert arm is not None
    assert {name: stage.architecture for name, stage in arm.build.items()} == {"one": "amd64", "two": "arm64"}
    author.write(platforms="linux/arm64", build=stages)
    alone = author.lock(lock)
    assert (alone.architecture, alone.platforms) == ("arm64", {})
    assert {name: stage.architecture for name, stage in alone.build.items()} == {"one": "amd64", "two": "arm64"}
    write(author.folder / "instar.lock", alone)
    assert read(author.folder / "instar.lock") == alone and author.lock(alone) == alone
