"""What follows when a release does not stay well after its rollout, one rule a test."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from control_values import DATABASE, HTTP, NOW, ago, group, ready, release, serving, snapshot

from instar.control.actions import Alarm, Fail, GoBack, Shift, Wait
from instar.control.decide import decide
from instar.control.health import HealthHistory
from instar.control.snapshot import Probation, Snapshot
from instar.model.definition import Data, Health, Service, Task
from instar.model.release import Ending, Release

STARVED = Ending(reason="out-of-memory", at=ago(5), why="killed: out of memory")
WATCHED = Probation(source=1, until=NOW, endings=(STARVED,))
STEADY = dataclasses.replace(HTTP, health=Health(kind="http", path="/healthz", steady_ms=5_000))


def watched(old: Service = HTTP, new: Service = HTTP, *, how: Probation | None = WATCHED, **fields: Any) -> Snapshot:
    releases = [release(1, old, ran_well=True, last=60), release(2, new, ran_well=True, last=60)]
    groups = fields.pop("groups", [group(1, weight=0), *serving(2, 1)])
    return snapshot(releases, groups, active=2, probation=how, **{"failures": (), **fields})


def test_an_instance_that_ended_sends_the_traffic_back_whoever_looks() -> None:
    reason = "release 2 did not stay well: an instance of it ended: killed: out of memory"
    assert decide(watched()) == (GoBack(1, reason),)
    assert decide(watched(failures=None)) == (GoBack(1, reason),)


def test_one_that_no_longer_answers_does_so_too() -> None:
    silent = group(2, weight=100, healthy=False, up=False)
    calm = Probation(source=1, until=NOW)
    (action,) = decide(watched(how=calm, groups=[group(1, weight=0), silent], unwell=frozenset({silent.id})))
    assert isinstance(action, GoBack)
    assert "shop-production-2-1 no longer answers: GET /healthz answered 500" in action.reason


def test_a_release_that_is_well_or_not_watched_stays() -> None:
    assert decide(watched(how=Probation(source=1, until=NOW))) == ()
    assert decide(watched(how=None)) == ()
    silent = group(1, weight=0, healthy=False)
    calm = Probation(source=1, until=NOW)
    assert decide(watched(how=calm, groups=[silent, *serving(2, 1)], unwell=frozenset({silent.id}))) == ()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (DATABASE, DATABASE, "holds a volume for itself"),
        (HTTP, dataclasses.replace(HTTP, before=(Task(command=("migrate",)),)), "a task ran before its rollout"),
        (HTTP, dataclasses.replace(HTTP, data=Data(version=2, reads=(1, 2))), "different versions of the data"),
    ],
)
def test_where_more_than_traffic_changed_hands_somebody_is_called_and_nothing_moves(
    old: Service, new: Service, why: str
) -> None:
    groups = [group(1, "created"), *serving(2, 1)]
    (action,) = decide(watched(old, new, groups=groups))
    assert isinstance(action, Alarm)
    assert not action.holds, "what ended is replaced all the same"
    assert why in action.reason
    assert "instar rollback shop/production" in action.reason
    assert not any(isinstance(one, Alarm | GoBack) for one in decide(watched(old, new, groups=groups, alarm="it")))


def test_nobody_goes_back_to_a_release_that_never_ran_well() -> None:
    made = watched()
    releases: dict[int, Release] = {**made.releases, 1: dataclasses.replace(made.releases[1], ran_well=False)}
    assert isinstance(decide(dataclasses.replace(made, releases=releases))[0], Alarm)


# how long a candidate has to stay well


def trying(seconds: float | None, **fields: Any) -> Snapshot:
    """Return a snapshot whose candidate has answered for so many seconds."""
    releases = [release(1, HTTP, ran_well=True, last=60), release(2, STEADY)]
    groups = fields.pop("groups", [*serving(1, 1), *ready(2, 1, age_s=10)])
    since = {} if seconds is None else {"shop-production-2-1": ago(seconds)}
    return snapshot(releases, groups, well_since=since, **{"active": 1, "target": 2, **fields})


def test_a_candidate_gets_traffic_when_it_has_stayed_well_for_as_long_as_it_must() -> None:
    assert isinstance(decide(trying(None))[0], Wait)
    assert isinstance(decide(trying(4.9))[0], Wait)
    assert decide(trying(5)) == (Shift(2, ("shop-production-2-1",)),)


def test_one_that_ends_meanwhile_fails() -> None:
    dead = group(2, "stopped", weight=0, age_s=3)
    (action,) = decide(trying(None, groups=[*serving(1, 1), dead]))
    assert isinstance(action, Fail)


def test_the_time_to_stay_well_comes_on_top_of_the_time_to_get_well() -> None:
    def young(age_s: float, *, healthy: bool) -> Snapshot:
        candidate = group(2, healthy=healthy, weight=0, age_s=age_s)
        return trying(1 if healthy else None, groups=[*serving(1, 1), candidate])

    assert isinstance(decide(young(34, healthy=True))[0], Wait)
    assert isinstance(decide(young(31, healthy=False))[0], Fail)
    (late,) = decide(young(35, healthy=True))
    assert isinstance(late, Fail)
    assert "did not stay well for 5 s" in late.reason


def test_a_rollback_to_what_ran_well_waits_for_nothing_nor_does_a_replacement() -> None:
    releases = [release(1, STEADY, ran_well=True, last=60), release(2, HTTP, ran_well=True)]
    back = snapshot(releases, [*serving(2, 1), *ready(1, 1)], active=2, target=1, kind="rollback")
    assert decide(back) == (Shift(1, ("shop-production-1-1",)),)
    alone = snapshot([release(2, STEADY, ran_well=True)], ready(2, 1), active=2, failures=())
    assert not isinstance(decide(alone)[0], Wait)


def test_an_exclusive_one_shows_with_the_traffic_that_it_stays_well_before_the_rollout_is_done() -> None:
    service = dataclasses.replace(STEADY, volumes=DATABASE.volumes)
    releases = [release(1, service, ran_well=True, last=60), release(2, service)]

    def moved(seconds: float, age_s: float = 10) -> Snapshot:
        since = {"shop-production-2-1": ago(seconds)}
        return snapshot(releases, serving(2, 1, age_s=age_s), active=2, target=2, source=1, well_since=since)

    assert isinstance(decide(moved(4.9))[0], Wait)
    assert not isinstance(decide(moved(5))[0], Wait | Fail)
    assert isinstance(decide(moved(1, age_s=41))[0], Fail)


def test_since_when_a_copy_answers_is_known_from_looks_before() -> None:
    watch = HealthHistory()
    first = watch.see(trying(None))
    later = watch.see(dataclasses.replace(trying(None), now=ago(-3)))
    assert first.well_since["shop-production-2-1"] == later.well_since["shop-production-2-1"] == NOW
    silent = group(2, healthy=False, weight=0)
    assert "shop-production-2-1" not in watch.see(trying(None, groups=[*serving(1, 1), silent])).well_since
    again = watch.see(dataclasses.replace(trying(None), now=ago(-9)))
    assert again.well_since["shop-production-2-1"] == ago(-9)
