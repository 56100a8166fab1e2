"""A volume that instances have is restored: they stop, and the active release starts again on what it held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_operations_data import KEPT, MIGRATE, World

from instar.errors import HostError, NotFound, Refused
from instar.model.outcome import RolloutOutcome
from instar.model.rollout_happenings import RolloutAborted
from instar.operations.data_restore import begin_restore, data_of_restore, environment_that_has, restore_anew
from instar.operations.locks import hold_environment
from instar.operations.snapshots import restore, snapshot
from instar.operations.status import status
from instar.views.status import status_page
from instar.views.volumes import data_back_lines
from simulated import Behaviour, Crash
from simulated.values import ENV


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.workspace.ledger.close()


def taken(world: World, **fields: object) -> None:
    """Deploy, have somebody take a snapshot, and have more written."""
    world.deploy("1", **fields)
    snapshot(world.workspace, ENV, "data")
    world.data.wrote(ENV, "data", "later")


def restored(world: World, number: int = 1) -> RolloutOutcome:
    return restore_anew(world.workspace, ENV, "data", number)


def test_another_release_of_the_same_starts_on_what_the_volume_held_and_all_of_it_can_be_undone(world: World) -> None:
    taken(world)
    state = environment_that_has(world.workspace, ENV, "data")
    assert state is not None
    back = data_of_restore(world.workspace, state, "data", 1)
    assert back is not None
    text = "\n".join(data_back_lines(back))
    assert "the volume 'data' gets what it held before: snapshot 1 of 2026-01-01 00:00:00 UTC" in text
    assert "stops guestbook-dev-1-1: nothing that has it answers until release 1 starts again, as another" in text
    assert restored(world).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1", "2")
    first, second = (world.workspace.ledger.get_release(ENV, number) for number in (1, 2))
    assert (first.image, first.configuration) == (second.image, second.configuration)
    assert second.origin is not None and second.origin.message == "release 1 on snapshot 1 of 'data'"
    assert world.workspace.ledger.get_environment(ENV).active == 2
    assert world.deploy("1").outcome == "unchanged"
    assert world.back(1, with_data=True).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1", "later")


def test_its_tasks_run_on_what_it_held_as_they_would_after_a_deploy(world: World) -> None:
    """It may have been taken before what they do to it."""
    taken(world, before=MIGRATE)
    world.data.kept[ENV, "data"][1] = (world.data.kept[ENV, "data"][1][0], ("old",))
    restored(world)
    assert world.data.holds[ENV, "data"] == ("old", "before 1", "2")


def test_one_that_does_not_start_gives_back_what_the_volume_held(world: World) -> None:
    taken(world)
    world.workspace.simulation.runtime.behave(2, Behaviour(answers=500))
    outcome = restored(world)
    assert outcome.outcome == "failed" and outcome.touched
    assert outcome.reason == "0 of 1 healthy after 30 s: GET /healthz answered 500"
    assert outcome.culprit == "guestbook-dev-2-1"
    assert world.data.holds[ENV, "data"] == ("1", "later")
    assert world.workspace.ledger.get_environment(ENV).active == 1


def test_the_same_again_goes_on_and_nothing_else_begins_before(world: World) -> None:
    taken(world)
    snapshot(world.workspace, ENV, "data")
    state = world.workspace.ledger.get_environment(ENV)
    begin_restore(world.workspace, state, "data", 1)
    with pytest.raises(Refused, match="which restores the volume 'data', has not ended") as refused:
        restored(world, 2)
    assert refused.value.hint is not None
    assert "finish it: instar volumes restore guestbook/dev data 1; or" in refused.value.hint
    with pytest.raises(Refused, match="has not ended"):
        world.back(1)
    with pytest.raises(Refused, match="has not ended"):
        world.deploy("other")
    assert restored(world).outcome == "done"
    assert len(world.workspace.ledger.releases(ENV)) == 2


def test_given_up_before_it_began_it_changes_nothing(world: World) -> None:
    taken(world)
    begin_restore(world.workspace, world.workspace.ledger.get_environment(ENV), "data", 1)
    rollout = world.workspace.ledger.get_environment(ENV).rollout
    assert rollout is not None
    world.workspace.ledger.change_stage(RolloutAborted(rollout=rollout.id, reason=""))
    assert restored(world).outcome == "failed"
    assert world.data.holds[ENV, "data"] == ("1", "later")


def test_what_cannot_be_is_refused_before_anything_is_changed(world: World) -> None:
    taken(world)
    done = len(world.workspace.simulation.effects.names)
    with pytest.raises(NotFound, match="cannot find snapshot 7 of the volume 'data'") as missing:
        restored(world, 7)
    assert missing.value.hint == "there is: 1"
    with pytest.raises(NotFound, match="cannot find snapshot 1 of the volume 'dat'") as mistyped:
        restore(world.workspace, ENV, "dat", 1)
    assert mistyped.value.hint == "none of it is kept; those that are: instar volumes snapshots"
    world.data.free = 1
    with pytest.raises(HostError, match="nothing was begun"):
        restored(world)
    with pytest.raises(Refused, match="guestbook-dev-1-1 has it") as refused:  # begun since somebody asked
        restore(world.workspace, ENV, "data", 1)
    assert "ask again" in (refused.value.hint or "")
    assert world.workspace.simulation.effects.names[done:] == []
    assert len(world.workspace.ledger.releases(ENV)) == 1


def test_while_another_rollout_is_under_way_none_begins(world: World) -> None:
    taken(world)
    ledger = world.workspace.ledger
    with ledger.transaction():
        release = ledger.add_release(ENV, ledger.get_release(ENV, 1).image, ledger.get_release(ENV, 1).configuration)
        ledger.begin_rollout(ENV, "deploy", release.number)
    with pytest.raises(Refused, match="its deploy to release 2 has not ended"):
        restored(world)


def test_where_nothing_has_it_nothing_is_stopped(world: World) -> None:
    assert environment_that_has(world.workspace, ENV, "data") is None
    world.deploy("1", volumes=())
    assert environment_that_has(world.workspace, ENV, "data") is None
    world.deploy("2", volumes=(KEPT,))
    assert environment_that_has(world.workspace, ENV, "data") is not None


def test_status_says_what_is_done_and_advises_no_repair_while_somebody_is_at_it(world: World) -> None:
    taken(world)
    workspace, effects = world.workspace, world.workspace.simulation.effects
    effects.watch(lambda name: setattr(effects, "_after", len(effects.names) - 1) if name == "restore data" else None)
    with pytest.raises(Crash):
        restored(world)
    effects.revive()
    effects._watchers.pop()

    def page() -> str:
        found = status(workspace, workspace.ledger.get_environment(ENV))
        return "\n".join(map(str, status_page(found, workspace.ledger.now())))

    killed = page()
    assert "guestbook/dev: no instance of the active release runs" in killed
    assert "· the volume 'data' gets what it held in snapshot 1" in killed
    assert "repair it with: instar agent --once" in killed
    with hold_environment(workspace, ENV):
        assert "repair it with" not in page() and "carries it out" in page()
