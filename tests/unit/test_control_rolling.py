"""A rolling rollout's decisions, one rule a test; and one played to its end, with every group counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from control_values import DATABASE, WORKER, ago, group, names, ready, release, serving, snapshot

from instar.control.actions import Create, Fail, Finish, Judge, Plan, Retire, Route, Share, Shift, Start, TakeStep, Wait
from instar.control.decide import decide
from instar.control.snapshot import GroupView, Snapshot
from instar.model.environment import Analysis, RolloutRules
from instar.model.release import Ending, Served, Stage

ROLLING = RolloutRules(strategy="rolling", batch=1)
RELEASES = [release(1, ran_well=True, last=600), release(2)]


def roll(
    groups: Sequence[GroupView],
    *,
    batch: int = 1,
    instances: int = 3,
    active: int = 1,
    source: int | None = 1,
    **fields: Any,
) -> Snapshot:
    policy = dataclasses.replace(ROLLING, batch=batch, analysis=fields.pop("analysis", None))
    releases = fields.pop("releases", RELEASES)
    return snapshot(releases, groups, active=active, target=2, source=1, policy=policy, instances=instances, **fields)


def test_a_batch_is_launched_beside_what_serves_and_not_more() -> None:
    assert decide(roll(serving(1, 3))) == (Plan(2, (1,)),)
    assert decide(roll(serving(1, 3), batch=2)) == (Plan(2, (1,) * 2),)
    assert decide(roll(serving(1, 3), batch=5)) == (Plan(2, (1,) * 3),)


def test_a_batch_that_is_ready_takes_the_place_of_as_many() -> None:
    groups = [*serving(1, 3), *ready(2, 1)]
    (action,) = decide(roll(groups))
    assert isinstance(action, TakeStep)
    assert (action.step, action.percent) == (1, 33)
    assert dict(action.weights) == dict.fromkeys((groups[0].id, groups[1].id, groups[3].id), 100)


def test_who_was_replaced_goes_before_the_next_are_launched() -> None:
    stay, gone = serving(1, 2), group(1, weight=0, serial=3)
    taken = group(2, weight=100)
    busy = group(1, weight=0, serial=3, sessions=2)
    quiet = {busy.id: ago(1)}
    assert isinstance(decide(roll([*stay, busy, taken], stage=Stage(step=1), quiet_since=quiet))[0], Wait)
    (action,) = decide(roll([*stay, gone, taken], stage=Stage(step=1)))
    assert action == Retire((gone.id,), "another release took its place")
    assert decide(roll([*stay, taken], stage=Stage(step=1))) == (Plan(2, (1,)),)


def test_the_next_are_launched_when_who_was_replaced_has_ended() -> None:
    taken = [*serving(1, 2), group(2, weight=100)]
    (action,) = decide(roll([*taken, ending(group(1, serial=3))], stage=Stage(step=1)))
    assert isinstance(action, Wait) and action.ends, "others may act meanwhile"
    launched = [*taken, group(2, weight=0, healthy=False, serial=2)]
    (action,) = decide(roll([*launched, ending(group(1, serial=3))], stage=Stage(step=1)))
    assert isinstance(action, Wait) and not action.ends, "they run already"
    assert decide(roll(taken, stage=Stage(step=1))) == (Plan(2, (1,)),)


def test_who_drains_for_too_long_goes_all_the_same() -> None:
    busy = group(1, weight=0, serial=3, sessions=2)
    late = roll([*serving(1, 2), busy, group(2, weight=100)], stage=Stage(step=1), quiet_since={busy.id: ago(31)})
    assert decide(late) == (Retire((busy.id,), "another release took its place"),)


def test_the_last_batch_makes_the_target_active() -> None:
    taken = serving(2, 2)
    last = [group(1, weight=100), *taken, group(2, healthy=True, weight=0, serial=3)]
    assert decide(roll(last, stage=Stage(step=2))) == (Shift(2, names(last[1:])),)


def test_copies_beyond_the_wanted_number_lose_their_traffic_before_they_go() -> None:
    groups = serving(1, 3)
    assert decide(roll(groups, instances=1)) == (Share(((groups[0].id, 100),)),)


def test_a_source_copy_that_ended_is_replaced_only_while_it_would_stay() -> None:
    dead = group(1, "stopped", weight=100, serial=3)
    assert decide(roll([*serving(1, 2), dead])) == (Retire((dead.id,), "it ended"),)
    assert decide(roll(serving(1, 2))) == (Plan(1, (1,), "ended"),)
    taken = group(2, weight=100)
    assert decide(roll([*serving(1, 2), taken], stage=Stage(step=1))) == (Plan(2, (1,)),)


def test_a_batch_that_fails_undoes_it_all() -> None:
    groups = [*serving(1, 2), group(2, weight=100), group(2, healthy=False, serial=2, age_s=31)]
    (action,) = decide(roll(groups, stage=Stage(step=1)))
    assert isinstance(action, Fail)
    assert action.instances == (groups[3].id,)
    (ended,) = decide(roll([*serving(1, 2), group(2, "stopped", weight=100)], stage=Stage(step=1)))
    assert isinstance(ended, Fail)


def test_a_pause_keeps_the_shares_as_they_are() -> None:
    groups = [*serving(1, 3), *ready(2, 1)]
    assert isinstance(decide(roll(groups, stage=Stage(paused=True)))[0], Wait)


def test_each_batch_is_judged_before_the_next() -> None:
    analysis = Analysis(min_requests=10)
    stable = [group(1, weight=100, serial=serial, served=Served(requests=40)) for serial in (1, 2)]
    stage = Stage(step=1, step_at=ago(1))
    few = group(2, weight=100, served=Served(requests=9))
    assert isinstance(decide(roll([*stable, few], stage=stage, analysis=analysis))[0], Wait)
    bad = group(2, weight=100, served=Served(requests=10, failed=5))
    (action,) = decide(roll([*stable, bad], stage=stage, analysis=analysis))
    assert isinstance(action, Judge)
    assert action.verdict.passed is False
    good = group(2, weight=100, served=Served(requests=10))
    (action,) = decide(roll([*stable, good], stage=stage, analysis=analysis))
    assert isinstance(action, Judge)
    assert action.verdict.passed is True
    judged = dataclasses.replace(stage, judged=True)
    assert decide(roll([*stable, good], stage=judged, analysis=analysis)) == (Plan(2, (1,)),)


def test_a_paused_batch_is_not_given_up_for_want_of_requests() -> None:
    stage = Stage(step=1, step_at=ago(100_000), paused=True)
    groups = [*serving(1, 2), group(2, weight=100), group(2, weight=0, healthy=True, serial=2)]
    assert isinstance(decide(roll(groups, stage=stage, analysis=Analysis(min_requests=10)))[0], Wait)


def test_exclusive_volumes_are_moved_at_once() -> None:
    releases = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    groups = [group(1, weight=100), group(2, "created")]
    assert decide(roll(groups, releases=releases, instances=1)) == (Route(()),)


def test_what_is_hot_sleeps() -> None:
    releases = [release(1, ran_well=True, last=5), release(2, ran_well=True)]
    awake = group(1, weight=0)
    policy = dataclasses.replace(ROLLING)
    (action,) = decide(snapshot(releases, [awake, *serving(2, 1)], active=2, policy=policy))
    assert action == Retire((awake.id,), "it is no longer needed")
    asleep = group(1, "created")
    assert decide(snapshot(releases, [asleep, *serving(2, 1)], active=2, policy=policy)) == ()
    going = ending(group(1, serial=2))
    assert decide(snapshot(releases, [going, *serving(2, 1)], active=2, policy=policy)) == (
        Plan(1, (1,), replacing="hot"),
    ), "what ends is none of those that are kept"


def test_a_rolling_rollback_wakes_a_batch_at_a_time() -> None:
    releases = [release(1, ran_well=True), release(2, ran_well=True, last=600)]
    asleep = [group(2, "created", serial=serial) for serial in (1, 2, 3)]
    made = roll([*serving(1, 3), *asleep], releases=releases, kind="rollback")
    assert decide(made) == (Start((asleep[0].id,)),)


def done(groups: list[GroupView], snapshot: Snapshot) -> list[GroupView]:
    """Return what becomes of ``groups`` by the next actions."""
    for action in decide(snapshot):
        match action:
            case Plan():
                serials = range(1 + max((one.instance.serial % 100 for one in groups), default=0), 100)
                groups += [
                    group(action.release, "absent", serial=serial)
                    for serial, _ in zip(serials, action.members, strict=False)
                ]
            case Create() | Start():
                groups = [
                    group(one.release, healthy=True, weight=None, serial=one.instance.serial % 100, age_s=3)
                    if one.id in action.instances
                    else one
                    for one in groups
                ]
            case TakeStep() | Share():
                groups = [share(one, dict(action.weights).get(one.id, 0)) for one in groups]
            case Shift():
                groups = [share(one, 100 if one.id in action.instances else 0) for one in groups]
            case Retire():
                groups = [ending(one) if one.id in action.instances else one for one in groups]
            case Wait(ends=True):
                groups = [one for one in groups if one.state != "ending"]
            case _:
                groups = [share(one, one.weight) for one in groups]
    return groups


def ending(one: GroupView) -> GroupView:
    """Return ``one`` as it was told to end, and has time to."""
    told = Ending(reason="instar", at=ago(1), why="another release took its place")
    gone = group(one.release, "ending", serial=one.instance.serial % 100)
    return dataclasses.replace(gone, instance=dataclasses.replace(gone.instance, ending=told))


def share(one: GroupView, weight: int) -> GroupView:
    if one.state == "ending":
        return one
    return group(one.release, healthy=True, weight=weight, serial=one.instance.serial % 100, age_s=3)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("instances", [1, 2, 5])
def test_never_more_than_a_batch_too_many_run_and_never_fewer_serve(batch: int, instances: int) -> None:
    groups, active, moves = serving(1, instances), 1, 0
    while not (active == 2 and all(one.release == 2 or not one.weight for one in groups)):
        made = roll(groups, batch=batch, instances=instances, active=active, stage=Stage(step=moves))
        moves += 1
        assert moves < 100, "it never ends"
        active = 2 if any(isinstance(action, Shift) for action in decide(made)) else active
        groups = done(list(groups), made)
        running = [one for one in groups if one.is_there]
        assert len(running) <= instances + batch, "also those that have their time to end"
        assert sum(1 for one in running if one.weight) >= instances
    assert sum(1 for one in groups if one.release == 2 and one.weight) == instances


def test_a_rolling_worker_replaces_one_by_one_too() -> None:
    releases = [release(1, WORKER, ran_well=True), release(2, WORKER)]
    old = [group(1, healthy=True, age_s=60, serial=serial) for serial in (1, 2)]
    young = group(2, healthy=True, age_s=1)
    assert isinstance(decide(roll([*old, young], releases=releases, instances=2, router=False))[0], Wait)
    proven = group(2, healthy=True, age_s=3)
    (action,) = decide(roll([*old, proven], releases=releases, instances=2, router=False))
    assert action == Retire((old[1].id,), "another release took its place")
    last = [old[0], proven, group(2, healthy=True, age_s=3, serial=2)]
    (gone,) = decide(roll(last, releases=releases, instances=2, router=False))
    assert gone == Retire((old[0].id,), "another release took its place")
    both = last[1:]
    assert decide(roll(both, releases=releases, instances=2, router=False)) == (Shift(2, ()),)


def test_a_release_that_was_hot_with_more_copies_than_are_wanted_now_is_settled_all_the_same() -> None:
    releases = [release(1, ran_well=True, last=1), release(2, ran_well=True)]
    groups = [*serving(2, 2), group(2, healthy=True, weight=0, serial=3)]
    assert decide(roll(groups, releases=releases, instances=2, active=2, kind="rollback")) == (Finish(),)
