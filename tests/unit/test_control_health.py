"""What several looks tell: who has not answered for too long, who has had no traffic since when."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from control_values import HTTP, NOW, group, release, snapshot

from instar.control.actions import Plan
from instar.control.decide import decide
from instar.control.health import HealthHistory
from instar.control.snapshot import GroupView, Snapshot
from instar.model.definition import Health
from instar.model.environment import Replace
from instar.providers.base import Observed
from instar.providers.traits import Traits

SLOW = dataclasses.replace(HTTP, health=Health(kind="http", path="/", interval_ms=5_000, deadline_ms=30_000))


def seen(
    health: HealthHistory, after_s: float, *groups: GroupView, slow: bool = False, asked: bool = False
) -> Snapshot:
    """Return what a look after so many seconds finds."""
    made = snapshot(
        [release(1, SLOW if slow else HTTP, ran_well=True)], groups, active=1, failures=None if asked else ()
    )
    return health.see(dataclasses.replace(made, now=NOW + timedelta(seconds=after_s)))


def silent(**fields: Any) -> GroupView:
    return group(1, **{"healthy": False, "weight": 100, "up": False, "age_s": 600} | fields)


def well() -> GroupView:
    return group(1, weight=100, age_s=600)


def test_who_does_not_answer_once_has_not_failed() -> None:
    health = HealthHistory()
    seen(health, 0, well())
    assert seen(health, 1, silent()).unwell == frozenset()
    assert seen(health, 2.9, silent()).unwell == frozenset()


def test_who_does_not_answer_for_two_seconds_has() -> None:
    health = HealthHistory()
    seen(health, 0, silent())
    assert seen(health, 2, silent()).unwell == {silent().id}


def test_an_answer_in_between_begins_it_anew() -> None:
    health = HealthHistory()
    seen(health, 0, silent())
    seen(health, 1.5, well())
    assert seen(health, 2.5, silent()).unwell == frozenset()
    assert seen(health, 4.4, silent()).unwell == frozenset()
    assert seen(health, 4.5, silent()).unwell == {silent().id}


def test_three_intervals_must_pass_where_they_are_long() -> None:
    health = HealthHistory()
    seen(health, 0, silent(), slow=True)
    assert seen(health, 14.9, silent(), slow=True).unwell == frozenset()
    assert seen(health, 15, silent(), slow=True).unwell == {silent().id}


def test_who_never_answered_has_its_time_to_begin() -> None:
    health = HealthHistory()
    seen(health, 0, silent(age_s=0))
    assert seen(health, 29, silent(age_s=0)).unwell == frozenset()
    assert seen(health, 30, silent(age_s=0)).unwell == {silent().id}


def test_who_answered_once_does_not() -> None:
    health = HealthHistory()
    seen(health, 0, group(1, healthy=True, age_s=0))
    seen(health, 1, silent(age_s=0))
    assert seen(health, 3, silent(age_s=0)).unwell == {silent().id}


def test_nobody_is_unwell_for_somebody_who_asks() -> None:
    health = HealthHistory()
    seen(health, 0, silent(), asked=True)
    assert seen(health, 100, silent(), asked=True).unwell == frozenset()


def test_who_has_no_traffic_is_known_since_it_had_none() -> None:
    health, quiet = HealthHistory(), group(1, weight=0)
    seen(health, 0, well())
    assert seen(health, 5, quiet).quiet_since == {quiet.id: NOW + timedelta(seconds=5)}
    assert seen(health, 9, quiet).quiet_since == {quiet.id: NOW + timedelta(seconds=5)}
    assert seen(health, 12, well()).quiet_since == {}
    assert seen(health, 15, quiet).quiet_since == {quiet.id: NOW + timedelta(seconds=15)}


def test_who_never_looked_before_goes_by_the_end_of_the_last_rollout() -> None:
    left, own = group(2, weight=0), group(1, weight=0, serial=2)
    settled = {"rollout_ended_at": NOW - timedelta(seconds=60)}
    made = snapshot([release(1, HTTP), release(2, HTTP)], [left, own], active=1)
    health = HealthHistory()
    first = health.see(dataclasses.replace(made, **settled))
    assert first.quiet_since == {left.id: NOW - timedelta(seconds=60), own.id: NOW}
    moved = HealthHistory()
    moved.see(dataclasses.replace(made, groups=(group(2, weight=100),), **settled))
    later = NOW + timedelta(seconds=5)
    assert moved.see(dataclasses.replace(made, now=later, **settled)).quiet_since[left.id] == later


def test_what_is_gone_is_forgotten() -> None:
    health = HealthHistory()
    seen(health, 0, silent())
    seen(health, 1)
    assert (health.silent, health.quiet, health.proven) == ({}, {}, set())


def looked_at(health: HealthHistory, after_s: float, ready: int) -> Snapshot:
    """Return what a look after so many seconds finds of a group of an engine that heals, with so many that answer."""
    view = group(1, weight=100, up=ready > 0, age_s=600)
    scaled = dataclasses.replace(view, observed=Observed(id=view.id, state="running", ready=ready))
    traits, policy = Traits(heals=True), Replace()
    made = snapshot([release(1, ran_well=True)], [scaled], active=1, failures=(), traits=traits, replace=policy)
    return health.see(dataclasses.replace(made, now=NOW + timedelta(seconds=after_s)))


def test_what_its_engine_does_not_bring_back_is_replaced_in_the_end() -> None:
    health, deadline_s = HealthHistory(), HTTP.health.deadline_ms / 1000
    looked_at(health, 0, 1)
    looked_at(health, 1, 0)
    assert decide(looked_at(health, deadline_s, 0)) == ()
    assert decide(looked_at(health, deadline_s + 1, 0)) == (Plan(1, (1,), "unwell"),)


def test_what_its_engine_brings_back_is_left_to_it() -> None:
    health, deadline_s = HealthHistory(), HTTP.health.deadline_ms / 1000
    looked_at(health, 0, 0)
    looked_at(health, deadline_s - 1, 1)
    looked_at(health, deadline_s, 0)
    assert decide(looked_at(health, deadline_s + 1, 0)) == ()
