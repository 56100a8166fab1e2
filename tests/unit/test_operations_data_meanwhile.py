"""What else somebody does, or is due, while what a volume holds is being replaced, or was killed at that."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_operations_data import KEPT, MIGRATE, NOW, ONE, World

from instar.control.actions import Create
from instar.errors import LedgerUnreachable, Refused
from instar.model.definition import Health, Service, Volume
from instar.model.environment import RoleSettings, RolloutRules, ScheduledTask
from instar.model.release import Command, EnvironmentState, Release
from instar.operations import converge, data_restore
from instar.operations.attendance import attend
from instar.operations.data_restore import data_of_restore, restore_anew
from instar.operations.deploy import begin
from instar.operations.gc import gc
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.rollback import data_of_rollback, rollback
from instar.operations.rollback_plan import plan_rollback
from instar.operations.rollout import pause
from instar.operations.run import RunRequest, run
from instar.operations.schedule import begin_now
from instar.operations.snapshots import remove_snapshot, snapshot
from instar.operations.volumes import remove_volume
from instar.views.outcomes import outcome_lines
from simulated import Behaviour, Crash
from simulated.values import ENV, ORIGIN, configuration

SHARED = dataclasses.replace(KEPT, access="shared")
POLL = ScheduledTask(command=("poll",), cron="0 3 * * *")
UNDER_WAY = "its rollout to release 2, which restores the volume 'data', has not ended"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.workspace.meanwhile = lambda: _require_patience(made)
    yield made
    made.workspace.ledger.close()


def _require_patience(world: World) -> None:
    """Nothing here takes long: what waits for ever would keep all tests waiting."""
    assert (world.workspace.simulation.clock.peek() - NOW).total_seconds() < 600, "it waits for ever"


def deploy(world: World, **fields: object) -> None:
    """Deploy, have somebody take a snapshot of it, and have more written."""
    workspace, settings = world.workspace, fields.pop("settings", ONE)
    with hold_environment(workspace, ENV), keep_from_gc(workspace):
        wanted = dataclasses.replace(configuration(**fields), schedule={"poll": POLL})  # type: ignore[arg-type]
        image = workspace.bake("one")
        found = begin(workspace, ENV, settings, image, wanted, "deploy", project=None, origin=ORIGIN)  # type: ignore[arg-type]
        assert converge.converge(workspace, found, time.monotonic()).outcome == "done"
    snapshot(workspace, ENV, "data")
    world.data.wrote(ENV, "data", "later")


def killed_at_it(world: World, *, after: str = "restore data", volume: Volume = SHARED) -> None:
    """Restore what was deployed first, and be killed at that."""
    deploy(world, volumes=(volume,))
    killed(world, after)


def killed(world: World, after: str, number: int = 1) -> None:
    effects = world.workspace.simulation.effects
    effects.watch(lambda name: setattr(effects, "_after", len(effects.names) - 1) if name == after else None)
    with pytest.raises(Crash):
        restore_anew(world.workspace, ENV, "data", number)
    effects.revive()
    effects._watchers.pop()


def state(world: World) -> EnvironmentState:
    return world.workspace.ledger.get_environment(ENV)


@contextlib.contextmanager
def command_runs(world: World, release: int) -> Iterator[str]:
    """Somebody runs a command meanwhile."""
    workspace = world.workspace
    workspace.simulation.runtime.behave((release, "run 1"), Behaviour(task_hangs=True))
    one = workspace.ledger.begin_run(ENV, release, Command(argv=("psql",)), role="")
    with attend(workspace, one.id):
        looking = converge.make_loop(workspace, workspace.provider("local")).begin(ENV)
        looking.executor.execute(looking.clear(), Create((one.id,), start=True))
        yield one.id


def test_a_command_that_has_a_shared_volume_has_its_restore_refused_before_anything_stops(world: World) -> None:
    deploy(world, volumes=(SHARED,))
    with command_runs(world, 1) as name:
        assert data_of_restore(world.workspace, state(world), "data", 1) is not None, "asks, and takes nothing away"
        with pytest.raises(Refused, match=r"run 1 \('psql'\) has its shared volume 'data'") as refused:
            restore_anew(world.workspace, ENV, "data", 1)
        assert name in (refused.value.hint or "")
    assert world.workspace.simulation.router.serving(ENV)
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done", "nobody attends it any more"


def test_so_it_does_with_a_rollback_with_data_and_its_plan_says_so(world: World) -> None:
    world.deploy("1", volumes=(SHARED,))
    world.deploy("2", volumes=(SHARED,), before=MIGRATE)
    with command_runs(world, 2) as name:
        plan = plan_rollback(world.workspace, state(world), with_data=True)
        assert f"refused while {name} (run 1) runs: it has the shared volume 'data'" in plan.warnings
        found = data_of_rollback(world.workspace, state(world), None)
        assert found is not None
        with pytest.raises(Refused, match="has its shared volume 'data'"):
            rollback(world.workspace, state(world), data=found.numbers)
    assert state(world).active == 2 and state(world).rollout is None


@pytest.mark.parametrize("volume", [SHARED, KEPT])
def test_no_command_begins_on_what_is_being_replaced(world: World, volume: Volume) -> None:
    killed_at_it(world, volume=volume)
    with pytest.raises(Refused, match=UNDER_WAY):
        run(world.workspace, state(world), RunRequest(argv=("psql",)), None)
    with pytest.raises(Refused, match=UNDER_WAY):
        begin_now(world.workspace, state(world), "poll")
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1", "2")


def test_what_it_needs_is_not_removed_meanwhile(world: World) -> None:
    deploy(world, volumes=(SHARED,))
    snapshot(world.workspace, ENV, "data")
    killed(world, "restore data")
    for number in (1, 3):  # by which it comes, and what would be given back
        with pytest.raises(Refused, match=UNDER_WAY):
            remove_snapshot(world.workspace, ENV, "data", number)
    with pytest.raises(Refused, match=UNDER_WAY):
        remove_volume(world.workspace, ENV, "data")
    remove_snapshot(world.workspace, ENV, "data", 2)  # for which there may be no room
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done"
    remove_snapshot(world.workspace, ENV, "data", 1)


def test_gc_leaves_the_snapshot_that_is_being_restored_though_nobody_keeps_its_release(world: World) -> None:
    world.deploy("1")
    for version in ("2", "3", "4", "5"):
        world.deploy(version, before=MIGRATE)
    killed(world, "keep data")
    assert gc(world.workspace, dry_run=False).snapshots == tuple(f"guestbook/dev data {number}" for number in (2, 3))
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1", "before 1", "6")
    assert gc(world.workspace, dry_run=False).snapshots[:1] == ("guestbook/dev data 1",)


def test_an_answer_that_was_lost_makes_no_release_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(world, volumes=(SHARED,))
    write, lost = data_restore.begin_restore, [LedgerUnreachable("the connection is gone")]

    def written(*args: object) -> Release:
        made = write(*args)  # type: ignore[arg-type]
        if lost:
            raise lost.pop()
        return made

    monkeypatch.setattr(data_restore, "begin_restore", written)
    outcome = restore_anew(world.workspace, ENV, "data", 1)
    assert (outcome.outcome, outcome.release, outcome.active) == ("done", 2, 2)
    assert [one.number for one in world.workspace.ledger.releases(ENV)] == [2, 1]


def test_the_way_back_from_it_is_said_with_the_data_and_leads_there(world: World) -> None:
    deploy(world, volumes=(SHARED,))
    (done,) = outcome_lines(restore_anew(world.workspace, ENV, "data", 1))
    assert done.detail == ("back with: instar rollback dev --with-data",)
    back = world.back(with_data=True)
    assert world.data.holds[ENV, "data"] == ("1", "later") and back.replaced == ("data",)
    (done,) = outcome_lines(back)
    assert done.detail == ("back with: instar rollback dev --to 2 --with-data",)
    assert world.back(2, with_data=True).active == 2 and world.data.holds[ENV, "data"] == ("1", "2")


def test_the_gap_is_said_to_be_for_what_was_replaced(world: World) -> None:
    deploy(world, volumes=(SHARED,))
    restore_anew(world.workspace, ENV, "data", 1)
    assert world.said("shift")[-1].endswith("ms: what the volume holds was replaced")


def test_who_pauses_it_once_all_has_stopped_does_not_keep_it_there(world: World) -> None:
    killed_at_it(world)
    pause(world.workspace, state(world))
    assert not world.workspace.simulation.router.serving(ENV)
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done"


def test_a_role_that_does_not_start_on_what_it_held_has_it_given_back(world: World) -> None:
    """Also one that starts, usually, once the traffic has moved: then nothing would be given back."""
    worker = Service(command=("work",), health=Health(kind="none"), volumes=(SHARED,))
    settings = dataclasses.replace(ONE, roles={"web": RoleSettings(instances=1), "worker": RoleSettings(instances=1)})
    deploy(world, settings=settings, volumes=(), roles={"worker": worker})
    for name in ("guestbook-dev-2-1", "guestbook-dev-2-2"):
        world.workspace.simulation.runtime.behave(name, Behaviour(dies_after_s=0.5))
    held = world.data.holds[ENV, "data"]
    outcome = restore_anew(world.workspace, ENV, "data", 1)
    assert (outcome.outcome, outcome.active) == ("failed", 1)
    assert world.data.holds[ENV, "data"] == held


def test_a_release_that_does_not_stay_well_on_it_is_not_left_for_the_same(world: World) -> None:
    watched = dataclasses.replace(ONE, rollout=RolloutRules(watch_ms=60_000))
    deploy(world, settings=watched, volumes=(SHARED,))
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "done"
    workspace = world.workspace
    workspace.simulation.runtime.kill("guestbook-dev-2-1")
    looking = converge.make_loop(workspace, workspace.provider("local")).begin(ENV, asked=False)
    for _ in range(5):
        looking.advance()
        workspace.simulation.clock.sleep(1)
    assert state(world).active == 2
    assert "because its rollout restored the volume 'data'" in (state(world).alarm or "")


def test_of_other_volumes_that_its_tasks_may_have_changed_it_is_said_where_they_are(world: World) -> None:
    other = dataclasses.replace(KEPT, name="other", path="/other")
    deploy(world, volumes=(KEPT, other), before=MIGRATE)
    world.workspace.simulation.runtime.behave((2, "before 1"), Behaviour(task_exit_status=3))
    assert restore_anew(world.workspace, ENV, "data", 1).outcome == "failed"
    assert world.said("data")[-1].startswith("what 'other' (snapshot 1) held before it is kept; where its tasks have")


def test_several_volumes_are_not_advised_to_be_restored_one_by_one_under_what_runs(world: World) -> None:
    both = (KEPT, dataclasses.replace(KEPT, name="other", path="/other"))
    world.deploy("1", volumes=both)
    world.workspace.simulation.runtime.behave((2, "before 1"), Behaviour(task_exit_status=3))
    assert world.deploy("2", volumes=both, before=MIGRATE).outcome == "failed"
    (text,) = world.said("data")
    assert (
        "instar destroy guestbook/dev, which keeps volumes, instar volumes restore guestbook/dev data 1, inst" in text
    )
