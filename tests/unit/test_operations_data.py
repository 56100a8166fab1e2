"""What volumes hold: kept before a release that may change it, back with a rollback, gone with its release."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from instar.control.data import kept_volumes
from instar.errors import HostError, ProviderUnavailable, Refused
from instar.model.definition import Data, Task, Volume
from instar.model.environment import Keep, Settings
from instar.model.outcome import RolloutOutcome
from instar.model.release import EnvironmentId, Rollout
from instar.operations import converge
from instar.operations.data import data_back
from instar.operations.deploy import begin
from instar.operations.destroy import destroy
from instar.operations.gc import gc
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.rollback import data_of_rollback, rollback, unreadable_data
from instar.operations.rollback_plan import plan_rollback
from instar.operations.rollout import abort
from instar.views.plans import rollback_plan_json, rollback_plan_page
from simulated import Behaviour, Crash, EngineSimulation
from simulated.bare import bare_workspace
from simulated.data import SimulatedSnapshots
from simulated.values import ENV, ORIGIN, configuration, image, release
from simulated.workspace import SimulatedWorkspace

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = Volume(name="data", path="/data", access="exclusive", snapshot=True)
MIGRATE = (Task(command=("migrate",)),)
ONE = Settings(listen=("127.0.0.1:8080",), instances=1, keep=Keep(hot=1, releases=1))
WRITES = {"volumes": (KEPT,), "before": MIGRATE}


class World:
    def __init__(self, path: Path) -> None:
        self.workspace = SimulatedWorkspace(path)

    @property
    def data(self) -> SimulatedSnapshots:
        return self.workspace.simulation.runtime.data

    def said(self, stage: str) -> list[str]:
        return [one.text for one in self.workspace.told if one.stage == stage]

    def deploy(self, version: str, **fields: object) -> RolloutOutcome:
        with hold_environment(self.workspace, ENV), keep_from_gc(self.workspace):
            made = configuration({"VERSION": version}, **{"volumes": (KEPT,), **fields})
            baked = self.workspace.bake("one")
            found = begin(self.workspace, ENV, ONE, baked, made, "deploy", project=None, origin=ORIGIN)
            return converge.converge(self.workspace, found, time.monotonic())

    def back(self, to: int | None = None, *, with_data: bool = False, force: bool = False) -> RolloutOutcome:
        state = self.workspace.ledger.get_environment(ENV)
        found = data_of_rollback(self.workspace, state, to) if with_data else None
        return rollback(self.workspace, state, to=to, force=force, data=None if found is None else found.numbers)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.workspace.ledger.close()


@pytest.mark.parametrize(
    ("before", "wanted", "names"),
    [
        ({"volumes": (KEPT,)}, WRITES, ["data"]),
        ({"volumes": (KEPT,)}, {"volumes": (KEPT,)}, []),
        ({"volumes": (KEPT,)}, {"volumes": (KEPT,), "data": Data(version=2, reads=(2,))}, ["data"]),
        ({"volumes": (KEPT,), "data": Data(version=2, reads=(2,))}, {"volumes": (KEPT,)}, ["data"]),
        ({"volumes": (dataclasses.replace(KEPT, snapshot=False),)}, WRITES, ["data"]),
        ({"volumes": (KEPT,)}, {"volumes": (dataclasses.replace(KEPT, snapshot=False),), "before": MIGRATE}, []),
        ({"volumes": ()}, WRITES, []),
    ],
)
def test_what_is_kept_follows_from_both_releases(
    before: dict[str, object], wanted: dict[str, object], names: list[str]
) -> None:
    found = kept_volumes(release(1, **before), configuration(**wanted))
    assert [one.name for one in found] == names
    assert kept_volumes(None, configuration(**wanted)) == ()


def test_one_that_is_exclusive_for_either_release_is_kept_in_the_gap() -> None:
    shared = dataclasses.replace(KEPT, access="shared")
    (found,) = kept_volumes(release(1, volumes=(KEPT,)), configuration(volumes=(shared,), before=MIGRATE))
    assert found.access == "exclusive"


def test_it_is_said_and_taken_before_the_task_and_nothing_else(world: World) -> None:
    world.deploy("1")
    assert world.said("snapshot") == []
    world.deploy("2", before=MIGRATE)
    assert world.said("snapshot")[0] == "a snapshot of the volume 'data' is taken first, in the gap: copies 1.0 MiB"
    assert "snapshot 1" in world.said("snapshot")[-1] and "at rest" in world.said("snapshot")[-1]
    (event,) = (one for one in world.workspace.ledger.history(ENV) if one.kind == "data-kept")
    assert dict(event.detail) == {"rollout": 2, "volume": "data", "snapshot": 1, "running": False, "of": 1}


def test_without_room_nothing_is_begun_and_nothing_stops(world: World) -> None:
    world.deploy("1")
    world.data.free, done = 1, len(world.workspace.simulation.effects.names)
    with pytest.raises(HostError, match=r"1\.0 MiB are copied, 1 B are free; nothing was begun"):
        world.deploy("2", before=MIGRATE)
    assert world.workspace.simulation.effects.names[done:] == []
    assert world.workspace.ledger.get_environment(ENV).rollout is None
    world.data.free = 1 << 40
    world.deploy("2", before=MIGRATE)
    world.data.free, before = 1, world.data.holds
    with pytest.raises(HostError, match="nothing was begun"):
        world.back(with_data=True)
    assert world.data.holds == before and world.workspace.ledger.get_environment(ENV).active == 2


def test_a_plan_says_what_a_rollback_would_do_and_does_nothing(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    state, done = world.workspace.ledger.get_environment(ENV), len(world.workspace.simulation.effects.names)
    plain = plan_rollback(world.workspace, state)
    assert (plain.active, plain.target, plain.data, plain.under_way) == (2, 1, None, False)
    assert {one.what: (one.before, one.after) for one in plain.changes}["config.VERSION"] == ("2", "1")
    text = "\n".join(map(str, rollback_plan_page(plain)))
    assert text.startswith("rollback to release 1, from release 2\nhot      guestbook-dev-1-2: as soon as")
    assert "note     there will be a gap: volume 'data' is exclusive" in text
    assert "note     what release 1 left in 'data' (snapshot 1, 2026-01-01 00:00 UTC) is kept; the volumes stay" in text
    assert text.count("--to") == 1, "nothing is done yet, so there is no detour"
    assert "To have what they held then too: instar rollback guestbook/dev --to 1 --with-data" in text
    assert "will run in the gap" not in text, "a rollback runs no tasks"
    brought = plan_rollback(world.workspace, state, with_data=True)
    text = "\n".join(map(str, rollback_plan_page(brought)))
    assert "data     the volume 'data' gets what release 1 left in it: snapshot 1" in text and "\nhot " not in text
    assert "data     stops guestbook-dev-2-" in text
    assert rollback_plan_json(brought)["stops"] == brought.data.instances  # type: ignore[union-attr]
    assert plan_rollback(world.workspace, state, to=2).is_nothing
    assert world.workspace.simulation.effects.names[done:] == []
    assert world.back().active == 1


def test_a_plan_tells_of_no_task_that_is_not_run(world: World) -> None:
    world.deploy("1", before=MIGRATE)
    world.deploy("2", before=MIGRATE)
    told = plan_rollback(world.workspace, world.workspace.ledger.get_environment(ENV)).warnings
    assert any("there will be a gap" in one for one in told) and not any("before 1" in one for one in told)


def test_a_plan_is_refused_as_the_rollback_would_be(world: World) -> None:
    world.deploy("1", data=Data(version=1, reads=(1,)))
    with pytest.raises(Refused, match="is the oldest that ran well"):
        plan_rollback(world.workspace, world.workspace.ledger.get_environment(ENV))
    world.deploy("2", data=Data(version=2, reads=(1, 2)))
    state = world.workspace.ledger.get_environment(ENV)
    with pytest.raises(Refused, match="the data has version 2 since release 2"):
        plan_rollback(world.workspace, state)
    forced = plan_rollback(world.workspace, state, force=True)
    assert any(one.startswith("forced: the data has version 2") for one in forced.warnings)
    assert plan_rollback(world.workspace, state, with_data=True).warnings[0].startswith("there will be a gap")


def test_a_plain_rollback_says_that_the_data_could_come_back_and_leaves_it(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    world.back()
    assert world.said("data") == [
        "what release 1 left in 'data' (snapshot 1, 2026-01-01 00:00 UTC) is kept; the volumes stay as they are now. "
        "To have what they held then too: instar rollback guestbook/dev --to 2, and then instar rollback guestbook/dev "
        "--to 1 --with-data"
    ]
    assert world.data.holds[ENV, "data"] == ("1", "before 1", "2")


def test_of_a_release_without_volumes_nobody_is_asked_what_was_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("1", volumes=())
    world.deploy("2", volumes=())
    monkeypatch.setattr(world.data, "snapshots", Mock(side_effect=AssertionError))
    assert world.back().active == 1


def test_what_comes_back_can_be_read_again(world: World) -> None:
    """The form of the data is that of what was brought back, also for who goes further back."""
    world.deploy("0", data=Data(version=1, reads=(1,)))
    world.deploy("1", data=Data(version=1, reads=(1,)))
    world.deploy("2", data=Data(version=2, reads=(1, 2)))
    with pytest.raises(Refused, match="the data has version 2 since release 3") as caught:
        world.back()
    assert caught.value.hint is not None and "instar rollback guestbook/dev --to 2 --with-data" in caught.value.hint
    assert world.back(with_data=True).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1", "2")
    first = world.workspace.ledger.get_release(ENV, 1)
    assert unreadable_data(world.workspace, ENV, first) is None
    assert world.back(1).outcome == "done"
    world.back(3, force=True)
    assert unreadable_data(world.workspace, ENV, first) is not None, "it has written since"


def test_nothing_else_is_begun_before_a_rollback_with_data_has_ended(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    ledger = world.workspace.ledger
    ledger.begin_rollout(ENV, "rollback", 1, data={"data": 1})
    with pytest.raises(Refused, match="its rollback to release 1, with its data, has not ended"):
        world.deploy("3")
    with pytest.raises(Refused, match="has not ended"):
        world.back(2)
    assert data_of_rollback(world.workspace, ledger.get_environment(ENV), None) is None
    assert world.back(with_data=True).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1",)


def test_what_cannot_be_brought_back_fails_and_the_release_that_runs_goes_on(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    world.data.fails = "the disk says no"
    outcome = world.back(with_data=True)
    assert outcome.outcome == "failed" and "the disk says no" in str(outcome.reason)
    assert outcome.active == 2 and world.data.holds[ENV, "data"] == ("1", "before 1", "2")


def begun_back(world: World, *, die_after: str) -> None:
    """Go back with data, and be killed after ``die_after``."""
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    effects = world.workspace.simulation.effects
    effects.watch(lambda name: setattr(effects, "_after", len(effects.names) - 1) if name == die_after else None)
    with pytest.raises(Crash):
        world.back(with_data=True)
    effects.revive()
    effects._watchers.pop()


def test_who_gives_up_what_another_was_killed_at_has_the_data_of_the_release_that_runs(world: World) -> None:
    begun_back(world, die_after="restore data")
    assert world.data.holds[ENV, "data"] == ("1",), "it was brought back, and that was not written down"
    change = abort(world.workspace, world.workspace.ledger.get_environment(ENV))
    assert change.outcome is not None and change.outcome.outcome == "failed" and change.outcome.active == 2
    assert world.data.holds[ENV, "data"] == ("1", "before 1", "2")
    kinds = [one.kind for one in world.workspace.ledger.history(ENV)]
    assert kinds[kinds.index("data-begun") :].count("data-restored") == 1
    world.workspace.ledger.verify()


def test_what_may_have_been_brought_back_and_cannot_be_given_back_starts_nothing(world: World) -> None:
    begun_back(world, die_after="restore data")
    world.data.fails = "the disk says no"
    with pytest.raises(HostError, match="cannot give the volumes of 'guestbook/dev' back what they held") as caught:
        abort(world.workspace, world.workspace.ledger.get_environment(ENV))
    assert caught.value.hint is not None
    assert "'data' holds, or may hold, what snapshot 1 does, and what release 2 left is snapshot 2" in (
        caught.value.hint
    )
    assert world.workspace.simulation.runtime.traces() == ()
    world.data.fails = ""
    change = abort(world.workspace, world.workspace.ledger.get_environment(ENV))
    assert change.outcome is not None and change.outcome.active == 2
    assert world.data.holds[ENV, "data"] == ("1", "before 1", "2")


def test_who_goes_on_with_what_may_have_been_brought_back_and_fails_gives_it_back(world: World) -> None:
    begun_back(world, die_after="restore data")
    world.data.fails, world.data.fails_once = "the disk says no", True
    outcome = world.back(with_data=True)
    assert outcome.outcome == "failed" and outcome.active == 2
    assert world.data.holds[ENV, "data"] == ("1", "before 1", "2")


def test_a_provider_that_does_not_know_whether_it_came_back_has_it_given_back(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    world.data.half_done = True
    outcome = world.back(with_data=True)
    assert outcome.outcome == "failed" and "cannot be sure" in str(outcome.reason)
    assert outcome.active == 2 and world.data.holds[ENV, "data"] == ("1", "before 1", "2")


@pytest.mark.parametrize("then", [None, HostError("the pool is full")])
def test_not_yet_is_written_down_once_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, then: HostError | None
) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    restore, answers = world.data.restore_snapshot, [*(ProviderUnavailable("not yet") for _ in range(3)), then]

    def asked(environment: EnvironmentId, name: str, number: int) -> None:
        error = answers.pop(0) if answers else None
        if error is not None:
            raise error
        restore(environment, name, number)

    monkeypatch.setattr(world.data, "restore_snapshot", asked)
    outcome = world.back(with_data=True)
    assert outcome.outcome == ("done" if then is None else "failed")
    assert world.data.holds[ENV, "data"] == (("1",) if then is None else ("1", "before 1", "2"))
    kinds = [one.kind for one in world.workspace.ledger.history(ENV)]
    assert (kinds.count("data-begun"), kinds.count("data-restored")) == (1, 1)
    assert not answers and "rollout-aborted" not in kinds
    world.workspace.ledger.verify()


def test_who_is_told_not_yet_for_too_long_has_nothing_to_give_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    monkeypatch.setattr(world.data, "restore_snapshot", Mock(side_effect=ProviderUnavailable("not yet")))
    outcome = world.back(with_data=True)
    assert outcome.outcome == "failed" and "not yet" in str(outcome.reason)
    assert outcome.active == 2 and world.data.holds[ENV, "data"] == ("1", "before 1", "2")
    kinds = [one.kind for one in world.workspace.ledger.history(ENV)]
    assert (kinds.count("data-begun"), kinds.count("data-restored")) == (1, 1)


def test_a_task_that_fails_has_it_said_where_the_data_of_before_is(world: World) -> None:
    world.deploy("1")
    world.workspace.simulation.runtime.behave((2, "before 1"), Behaviour(task_exit_status=3))
    assert world.deploy("2", before=MIGRATE).outcome == "failed"
    (text,) = world.said("data")
    assert text.startswith("what 'data' (snapshot 1) held before it is kept; where its tasks have changed that: ")
    assert "instar volumes restore guestbook/dev data 1, which stops what runs" in text


def test_other_snapshots_than_were_asked_for_are_refused(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    state = world.workspace.ledger.get_environment(ENV)
    with pytest.raises(Refused, match="other snapshots are there by now"):
        rollback(world.workspace, state, data={"data": 5})
    assert data_back(world.workspace, state, 1).numbers == {"data": 1}
    with pytest.raises(Refused, match="no snapshot was taken of it before release 2"):
        data_back(world.workspace, state, 2)


def test_several_releases_back_are_so_many_steps_and_each_says_the_next(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    left = world.data.holds[ENV, "data"]
    world.deploy("3", before=MIGRATE)
    with pytest.raises(Refused, match="no snapshot was taken of it before release 3") as caught:
        world.back(1, with_data=True)
    assert caught.value.hint is not None
    assert "instar rollback guestbook/dev --to 2 --with-data, then --to 1 --with-data" in caught.value.hint
    assert world.back(2, with_data=True).outcome == "done" and world.data.holds[ENV, "data"] == left
    assert world.back(1, with_data=True).outcome == "done" and world.data.holds[ENV, "data"] == ("1",)


def test_from_further_off_the_first_step_that_is_said_is_one_that_is_done(world: World) -> None:
    world.deploy("1")
    for version in ("2", "3", "4"):
        world.deploy(version, before=MIGRATE)
    with pytest.raises(Refused) as caught:
        world.back(1, with_data=True)
    chain = "--to 3 --with-data, then --to 2 --with-data, then --to 1 --with-data"
    assert (caught.value.hint or "").endswith(f"instar rollback guestbook/dev {chain}")
    assert [world.back(to, with_data=True).outcome for to in (3, 2, 1)] == ["done"] * 3
    assert world.data.holds[ENV, "data"] == ("1",)


def test_where_a_release_between_kept_nothing_the_first_step_goes_without_data(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    world.deploy("3")
    with pytest.raises(Refused) as caught:
        world.back(1, with_data=True)
    assert (caught.value.hint or "").endswith("guestbook/dev --to 2, then --to 1 --with-data")
    assert world.back(2).outcome == "done" and world.back(1, with_data=True).outcome == "done"
    assert world.data.holds[ENV, "data"] == ("1",)


def test_data_does_not_come_with_a_rollback_that_was_begun_without(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    state = world.workspace.ledger.get_environment(ENV)
    plain = Rollout(
        id=9, environment=ENV, kind="rollback", source=2, target=1, state="running", actor="a", started_at=NOW
    )
    with pytest.raises(Refused, match="it is under way without that"):
        data_of_rollback(world.workspace, dataclasses.replace(state, rollout=plain), None)


def test_a_storage_that_keeps_nothing_is_said_with_the_way_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("1")
    refusal = Refused("no VolumeSnapshotClass is of its driver", hint="name another")
    monkeypatch.setattr(world.data, "copied_bytes", Mock(side_effect=refusal))
    with pytest.raises(Refused, match="of its driver") as refused:
        world.deploy("2", before=MIGRATE)
    assert refused.value.hint == "name another; or leave 'snapshot: true' of the volume away"


def test_what_was_kept_of_a_destroyed_environment_stays_as_its_volumes_do(world: World) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    destroy(world.workspace, world.workspace.ledger.get_environment(ENV), volumes=False)
    assert gc(world.workspace, dry_run=False).snapshots == ()
    assert [one.number for one in world.data.snapshots()] == [1]


def test_a_snapshot_goes_with_the_release_whose_data_it_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy("1")
    world.deploy("2", before=MIGRATE)
    world.data.take_snapshot(ENV, "data", running=False)  # somebody asked for it
    assert gc(world.workspace, dry_run=False).snapshots == ()
    world.deploy("3", before=MIGRATE)
    world.deploy("4", before=MIGRATE)
    assert gc(world.workspace, dry_run=True).snapshots == ("guestbook/dev data 1", "guestbook/dev data 3")
    with hold_environment(world.workspace, ENV):
        assert gc(world.workspace, dry_run=False).snapshots == (), "somebody acts on it"
    for why in (ProviderUnavailable("no answer"), Refused("a claim is yet to be filled from it")):
        with monkeypatch.context() as patched:
            patched.setattr(world.data, "remove_snapshot", Mock(side_effect=why))
            assert gc(world.workspace, dry_run=False).snapshots == ()
        assert world.said("gc")[-1] == f"snapshots of volumes of 'guestbook/dev' stay: {why.message}"
    assert gc(world.workspace, dry_run=False).snapshots == ("guestbook/dev data 1", "guestbook/dev data 3")
    assert sorted(one.number for one in world.data.snapshots()) == [2, 4]
    assert [one.kind for one in world.workspace.ledger.history(ENV)].count("snapshot-removed") == 2


def test_a_provider_that_keeps_no_snapshots_says_so_plainly(tmp_path: Path) -> None:
    world = EngineSimulation()
    from simulated import CrashableLedger

    ledger = CrashableLedger(tmp_path / "instar.db", actor="ann", clock=world.clock.now)
    workspace = bare_workspace(world.provider, ledger, tmp_path)
    wanted = configuration(**WRITES)
    with pytest.raises(Refused, match="cannot keep snapshots of volumes of 'guestbook/dev': its provider does not"):
        begin(workspace, ENV, ONE, image(), wanted, "deploy", project=None, origin=ORIGIN)
    ledger.close()
