"""``bake --check``: what is not the same twice is found, with its layer, its file and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, shell_packages

from instar.bake.checking import FileDifference, baked_elsewhere, differences

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def check(world: World, *lines: str) -> list[FileDifference]:
    text = "".join(f"  - {line}\n" for line in lines)
    loaded, lock = world.load(f"base: debian:test\nrun:\n{text}"), world.lock(shell_packages(world), bake_format=2)
    baked = world.bake(loaded, lock)
    where = {"cache": world.cache, "state": world.state, "report": world.said.append, "bases": world.store}
    place = baked_elsewhere(loaded, lock=lock, **where)  # type: ignore[arg-type]
    with place as (store, again):
        found = list(differences(world.store, baked, store, again))
    assert not (world.state.steps / "check").exists()
    return found


def test_what_is_the_same_is_the_same(world: World) -> None:
    assert check(world, "echo hello > /srv/a", "umask > /srv/b; echo > '/srv/name with blanks'") == []


def test_what_differs_is_named_with_its_reason(world: World) -> None:
    uuid = "read -r id < /proc/sys/kernel/random/uuid; echo"
    named = '"at 2026-01-01 12:00:00 of $id"'
    found = check(
        world, f"{uuid} run $id > /srv/id", f"{uuid} {named} > /srv/at; {uuid} x > /srv/$id", "echo > /srv/same"
    )
    assert [one.step[:5] for one in found] == ["run 1", "run 2", "run 2", "run 2"]
    why = {one.path: one.why for one in found}
    assert why.pop("/srv/id").startswith("it differs, from byte ")
    assert why.pop("/srv/at").startswith("a moment is written in it, from byte ")
    assert list(why.values()) == ["it is there only once of two times"] * 2


def test_what_a_killed_check_left_is_cleared(world: World) -> None:
    left = world.state.steps / "check/steps/work/abcdef"
    left.mkdir(parents=True)
    assert check(world, "echo > /srv/a") == []


def test_a_secret_is_called_one(world: World) -> None:
    lot = "read -r id < /proc/sys/kernel/random/uuid; echo secret=${id%%-*}${id##*-}aZ"
    found = check(world, f"{lot} > /srv/conf")
    assert [one.why for one in found] == ["it looks like a key or a secret, which is another one each time"]
