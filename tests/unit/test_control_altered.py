"""Groups that somebody has changed since they were made: no rollout gives one traffic, and each says so and ends."""

from __future__ import annotations

import dataclasses

import pytest
from control_values import DATABASE, group, ready, release, serving, snapshot

from instar.control.actions import Action, Fail, Route, Shift
from instar.control.decide import decide
from instar.control.snapshot import GroupView
from instar.model.environment import RolloutRules, RolloutStep
from instar.model.release import Stage
from instar.providers.traits import Traits

WHAT = "'kubectl-edit' wrote spec/template/spec of its Deployment at 2026-01-01T11:59:00Z"
CANARY = RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=5, pause_ms=None),))
POLICIES = [RolloutRules(), CANARY, RolloutRules(strategy="rolling")]
RELEASES = [release(1, ran_well=True, last=600), release(2, ran_well=True, last=300)]


def altered(one: GroupView) -> GroupView:
    return dataclasses.replace(one, observed=dataclasses.replace(one.observed, altered=WHAT))


def failed(actions: tuple[Action, ...]) -> str:
    (failure,) = actions
    assert isinstance(failure, Fail)
    return failure.reason


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: one.strategy)
def test_a_release_that_was_changed_before_its_first_weight_fails(policy: RolloutRules) -> None:
    groups = [*serving(1, 1, age_s=600), *map(altered, ready(2, 1))]
    told = failed(decide(snapshot([RELEASES[0], release(2)], groups, active=1, target=2, policy=policy)))
    assert told == f"shop-production-2-1 is not as it was made, and gets no traffic: {WHAT}; deploy again"


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: one.strategy)
def test_a_hot_release_that_was_changed_is_not_rolled_back_to(policy: RolloutRules) -> None:
    groups = [*serving(2, 1, age_s=300), *map(altered, ready(1, 1, age_s=600))]
    told = failed(decide(snapshot(RELEASES, groups, active=2, target=1, kind="rollback", policy=policy)))
    assert WHAT in told
    assert told.endswith("instar taint shop/production shop-production-1-1 --why …, and the agent makes another one")


def test_a_clean_group_of_the_same_release_is_rolled_back_to() -> None:
    clean = group(1, serial=2, healthy=True, weight=0, age_s=30)
    groups = [*serving(2, 1, age_s=300), *map(altered, ready(1, 1, age_s=600)), clean]
    assert decide(snapshot(RELEASES, groups, active=2, target=1, kind="rollback")) == (Shift(1, (clean.id,)),)


def test_a_canary_that_was_changed_on_its_way_gets_no_more() -> None:
    groups = [group(1, weight=95), altered(group(2, weight=5, healthy=True))]
    on_its_way = snapshot([RELEASES[0], release(2)], groups, active=1, target=2, policy=CANARY, stage=Stage(step=1))
    assert WHAT in failed(decide(on_its_way))


def test_a_release_that_has_nobody_beside_it_fails_too() -> None:
    alone = [release(1, DATABASE, ran_well=True, last=600), release(2, DATABASE)]
    held = snapshot(alone, [group(1, "created"), *map(altered, ready(2, 1))], active=1, target=2)
    assert WHAT in failed(decide(held))


def test_whoever_has_all_traffic_keeps_it_and_drift_sees_to_that() -> None:
    groups = [altered(one) for one in serving(2, 1, age_s=300)]
    traits = Traits(heals=True)
    assert not any(isinstance(one, Route | Fail) for one in decide(snapshot(RELEASES, groups, active=2, traits=traits)))
    done = decide(snapshot(RELEASES, groups, active=2, target=2, source=1, traits=traits))
    assert not any(isinstance(one, Fail) for one in done)
