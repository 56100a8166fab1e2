"""A canary's decisions, one rule a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from control_values import HTTP, NOW, WORKER, ago, group, names, ready, release, serving, snapshot

from instar.control.actions import (
    Fail,
    Finish,
    Judge,
    OpenRouter,
    Plan,
    Preview,
    Retire,
    Share,
    Shift,
    Smoke,
    TakeStep,
    Wait,
)
from instar.control.decide import decide
from instar.control.report import RolloutReport
from instar.control.snapshot import GroupView, Snapshot
from instar.control.steps import awaited, waits_for_somebody
from instar.model.environment import Analysis, Check, RolloutRules, RolloutStep, Settings
from instar.model.progress import Progress
from instar.model.release import Served, Stage
from instar.model.status import AwaitedRequests

STEPS = (RolloutStep(weight_percent=20, pause_ms=30_000), RolloutStep(weight_percent=50, pause_ms=None))
CANARY = RolloutRules(strategy="canary", steps=STEPS)
JUDGED = dataclasses.replace(CANARY, analysis=Analysis(min_requests=10))
RELEASES = [release(1, ran_well=True, last=600), release(2)]


def at(
    stage: Stage,
    groups: Sequence[GroupView],
    *,
    policy: RolloutRules = CANARY,
    active: int = 1,
    **fields: Any,
) -> Snapshot:
    fields = {"source": 1, "target": 2} | fields
    return snapshot(RELEASES, groups, active=active, policy=policy, stage=stage, **fields)


def shared(candidate: int, stable: int, **fields: Any) -> list[GroupView]:
    """Return one group of each release, with these weights."""
    return [group(1, weight=stable, **fields), group(2, weight=candidate, healthy=True, **fields)]


def answered(candidate: Served, stable: Served) -> list[GroupView]:
    """Both began with the step: what they answered, they answered in it."""
    return [group(1, weight=4, served=stable), group(2, weight=1, healthy=True, served=candidate)]


def step(number: int, seconds: float = 1, **fields: Any) -> Stage:
    """Return the stage of a step that began so many seconds ago."""
    return Stage(step=number, step_at=ago(seconds), **fields)


def test_a_proven_candidate_gets_the_first_step_and_no_more() -> None:
    groups = [*serving(1, 1), *ready(2, 1)]
    assert decide(at(Stage(), groups)) == (TakeStep(1, 20, ((groups[0].id, 4), (groups[1].id, 1))),)


def test_several_copies_share_the_step_between_them() -> None:
    groups = [*serving(1, 2), *ready(2, 2)]
    (action,) = decide(at(Stage(), groups, instances=2))
    assert isinstance(action, TakeStep)
    assert dict(action.weights) == dict(zip(names(groups), (4, 4, 1, 1), strict=True))


def test_a_crash_between_the_record_of_a_step_and_its_shares_is_repaired() -> None:
    groups = [*serving(1, 1), *ready(2, 1)]
    (action,) = decide(at(step(1), groups))
    assert isinstance(action, Share)
    assert dict(action.weights) == {groups[0].id: 4, groups[1].id: 1}


def test_a_step_lasts_as_long_as_its_pause() -> None:
    (waiting,) = decide(at(step(1, 29.9), shared(1, 4)))
    assert isinstance(waiting, Wait)
    assert 0 < waiting.seconds <= 0.1001
    (action,) = decide(at(step(1, 30), shared(1, 4)))
    assert isinstance(action, TakeStep)
    assert (action.step, action.percent) == (2, 50)


def test_a_step_without_a_pause_lasts_until_somebody_says_so() -> None:
    for seconds in (1, 1_000_000):
        assert isinstance(decide(at(step(2, seconds), shared(1, 1)))[0], Wait)
    groups = shared(1, 1)
    assert decide(at(step(2, resumed=True), groups)) == (Shift(2, (groups[1].id,)),)


def test_the_last_step_is_followed_by_all_traffic_and_then_the_end() -> None:
    groups = [group(1, weight=0), group(2, weight=100)]
    assert decide(at(step(2, resumed=True), groups, active=2)) == (Finish(),)


def test_a_crash_between_the_record_of_the_shift_and_the_switch_is_repaired() -> None:
    groups = shared(1, 1)
    assert decide(at(step(2, resumed=True), groups, active=2)) == (Shift(2, (groups[1].id,)),)


@pytest.mark.parametrize("stage", [Stage(paused=True), step(1, 31, paused=True), step(2, resumed=True, paused=True)])
def test_nothing_moves_while_somebody_has_paused_it(stage: Stage) -> None:
    groups = {0: [*serving(1, 1), *ready(2, 1)], 1: shared(1, 4), 2: shared(1, 1)}[stage.step]
    assert isinstance(decide(at(stage, groups))[0], Wait)


def test_an_abort_fails_at_once_whatever_is_going_on() -> None:
    assert decide(at(step(1, abort="a typo", paused=True), shared(1, 4))) == (Fail("aborted: a typo"),)


def test_an_abort_that_comes_after_the_shift_is_too_late() -> None:
    groups = [group(1, weight=0), group(2, weight=100)]
    assert decide(at(step(2, abort=""), groups, active=2)) == (Finish(),)


def test_a_rollback_to_what_ran_well_skips_the_steps() -> None:
    releases = [release(1, ran_well=True, last=5), release(2, ran_well=True, last=600)]
    groups = [*serving(1, 1), *ready(2, 1)]
    made = snapshot(releases, groups, active=1, target=2, policy=JUDGED, kind="rollback")
    assert decide(made) == (Shift(2, (groups[1].id,)),)


def test_a_rollback_to_what_never_ran_well_takes_them() -> None:
    groups = [*serving(1, 1), *ready(2, 1)]
    assert isinstance(decide(at(Stage(), groups, kind="rollback"))[0], TakeStep)


def test_a_first_deploy_has_nothing_to_share_with() -> None:
    groups = ready(1, 1)
    assert decide(snapshot([release(1)], groups, target=1, policy=CANARY)) == (Shift(1, (groups[0].id,)),)


def test_a_worker_has_nothing_to_share() -> None:
    releases = [release(1, WORKER, ran_well=True), release(2, WORKER)]
    groups = [group(1, age_s=60), group(2, healthy=True, age_s=5)]
    assert decide(snapshot(releases, groups, active=1, target=2, policy=CANARY, router=False)) == (Shift(2, ()),)


def test_a_stable_copy_that_cannot_answer_leaves_its_share_to_the_others() -> None:
    stable = [group(1, weight=4, serial=1, healthy=False, up=False), group(1, weight=4, serial=2)]
    candidate = [group(2, weight=1, serial=serial, healthy=True) for serial in (1, 2)]
    (action,) = decide(at(step(1), [*stable, *candidate], instances=2))
    assert isinstance(action, Share)
    assert dict(action.weights) == {stable[1].id: 8, candidate[0].id: 1, candidate[1].id: 1}


def test_a_step_of_nothing_is_for_looking_and_is_not_judged() -> None:
    policy = dataclasses.replace(JUDGED, steps=(RolloutStep(weight_percent=0, pause_ms=30_000), *STEPS))
    groups = [*serving(1, 1), *ready(2, 1)]
    assert decide(at(Stage(), groups, policy=policy)) == (TakeStep(1, 0, ((groups[0].id, 100),)),)
    assert isinstance(decide(at(step(1), groups, policy=policy))[0], Wait)
    assert isinstance(decide(at(step(1, 31), groups, policy=policy))[0], TakeStep)


# the source, meanwhile


def test_a_stable_copy_that_ended_gets_a_successor_for_which_nothing_waits() -> None:
    dead, left = group(1, "stopped", weight=4, serial=1), group(1, weight=4, serial=2)
    candidate = [group(2, weight=1, serial=serial, healthy=True) for serial in (1, 2)]
    assert decide(at(step(1), [dead, left, *candidate], instances=2)) == (Retire((dead.id,), "it ended"),)
    assert decide(at(step(1), [left, *candidate], instances=2)) == (Plan(1, (1,), "ended"),)
    young = group(1, serial=3, healthy=False)
    (action,) = decide(at(step(1), [left, young, *candidate], instances=2))
    assert isinstance(action, Share), "shares are for those who serve"


def test_without_any_stable_copy_one_is_made_before_a_candidate_gets_more() -> None:
    candidate = group(2, weight=1, healthy=True)
    assert decide(at(step(1), [candidate])) == (Plan(1, (1,), "ended"),)


def test_the_source_gets_no_more_copies_than_it_had() -> None:
    before = Settings(listen=("127.0.0.1:8080",), instances=1)
    groups = [*serving(1, 1), *ready(2, 3)]
    (action,) = decide(at(Stage(settings_before=before), groups, instances=3))
    assert isinstance(action, TakeStep)


def test_a_successor_of_the_source_waits_its_time_but_the_rollout_does_not() -> None:
    candidate = group(2, weight=100, healthy=True)
    made = at(step(1), [candidate], failures=(ago(1), ago(0.5)))
    assert isinstance(decide(made)[0], Wait)
    assert not any(isinstance(action, Plan) for action in decide(made))


# before traffic


def test_smoke_checks_come_before_any_traffic_and_once_for_each_copy() -> None:
    smoky = dataclasses.replace(HTTP, smoke=(Check(kind="http", path="/deep"),))
    releases = [release(1, ran_well=True), release(2, smoky)]
    groups = [*serving(1, 2), *ready(2, 2)]
    candidates = names(groups[2:])
    made = snapshot(releases, groups, active=1, target=2, policy=CANARY, instances=2)
    assert decide(made) == (Smoke(2, candidates),)
    one = snapshot(releases, groups, active=1, target=2, policy=CANARY, instances=2, stage=Stage(smoked=candidates[:1]))
    assert decide(one) == (Smoke(2, candidates[1:]),)
    both = snapshot(releases, groups, active=1, target=2, policy=CANARY, instances=2, stage=Stage(smoked=candidates))
    assert isinstance(decide(both)[0], TakeStep)


def test_a_candidate_can_be_looked_at_before_it_has_traffic() -> None:
    groups = [*serving(1, 1), *ready(2, 1)]
    assert decide(at(Stage(), groups, preview="header")) == (Preview(((2, groups[1].id),)),)
    shown = at(Stage(), groups, preview="header", previewed={2: groups[1].id})
    assert isinstance(decide(shown)[0], TakeStep)


def test_what_another_rollout_showed_is_shown_no_longer() -> None:
    groups = [*serving(1, 1), *ready(2, 1)]
    stale = at(Stage(), groups, preview="header", previewed={1: groups[0].id, 2: groups[1].id})
    assert decide(stale) == (Preview(((2, groups[1].id),)),)


def test_nothing_is_shown_when_the_rollout_is_over() -> None:
    made = snapshot(RELEASES, serving(1, 1), active=1, preview="header", previewed={1: "shop-production-1-1"})
    assert decide(made) == (Preview(()),)


# analysis


def test_a_step_that_is_well_is_judged_when_it_is_over() -> None:
    groups = answered(Served(requests=20, response_ms=100), Served(requests=80, response_ms=400))
    assert isinstance(decide(at(step(1, 29), groups, policy=JUDGED))[0], Wait)
    (action,) = decide(at(step(1, 30), groups, policy=JUDGED))
    assert isinstance(action, Judge)
    assert action.verdict.passed is True
    assert action.verdict.candidate.requests == 20
    assert isinstance(decide(at(step(1, 30, judged=True), groups, policy=JUDGED))[0], TakeStep)


def test_a_gross_failure_is_judged_at_once() -> None:
    groups = answered(Served(requests=20, failed=20), Served(requests=80))
    (action,) = decide(at(step(1, 1), groups, policy=JUDGED))
    assert isinstance(action, Judge)
    assert action.verdict.passed is False


def test_only_what_came_in_this_step_counts() -> None:
    stable, candidate = answered(Served(requests=120, failed=50), Served(requests=500))
    counted = {candidate.id: Served(requests=100, failed=50), stable.id: Served(requests=400)}
    (action,) = decide(at(step(1, 30, counted=counted), [stable, candidate], policy=JUDGED))
    assert isinstance(action, Judge)
    assert (action.verdict.candidate, action.verdict.stable) == (Served(requests=20), Served(requests=100))
    assert action.verdict.passed is True


def test_too_few_requests_are_waited_for_and_then_it_is_given_up() -> None:
    groups = answered(Served(requests=9), Served(requests=90))
    assert isinstance(decide(at(step(1, 629), groups, policy=JUDGED))[0], Wait)
    (action,) = decide(at(step(1, 630), groups, policy=JUDGED))
    assert isinstance(action, Fail)
    assert "only 9 of 10 requests came to release 2" in action.reason


def test_no_traffic_is_fine_where_the_definition_says_so() -> None:
    quiet = dataclasses.replace(CANARY, analysis=Analysis(min_requests=10, quiet="pass"))
    for came, passed in ((Served(), True), (Served(requests=9), True), (Served(requests=9, failed=9), False)):
        groups = answered(came, Served(requests=90))
        assert isinstance(decide(at(step(1, 629), groups, policy=quiet))[0], Wait)
        (action,) = decide(at(step(1, 630), groups, policy=quiet))
        assert isinstance(action, Judge)
        assert action.verdict.passed is passed
        assert f"only {came.requests} of 10 requests came" in action.verdict.cause


def test_no_requests_are_waited_for_where_none_are_asked_for() -> None:
    none = dataclasses.replace(CANARY, analysis=Analysis(min_requests=0))
    (action,) = decide(at(step(1, 30), answered(Served(), Served()), policy=none))
    assert isinstance(action, Judge)
    assert action.verdict.passed is True
    assert awaited(at(step(1, 31), answered(Served(), Served()), policy=none)) is None


def test_where_nobody_counts_requests_the_checks_alone_decide() -> None:
    made = at(step(1, 30), answered(Served(), Served()), policy=JUDGED, counts=False)
    (action,) = decide(made)
    assert isinstance(action, Judge), "the executor asks the checks of what is judged well"
    assert action.verdict.passed is True
    assert awaited(made) is None
    assert isinstance(decide(at(step(1, 29), answered(Served(), Served()), policy=JUDGED, counts=False))[0], Wait)


def test_figures_that_cannot_be_had_are_waited_for_and_then_it_is_given_up_with_the_reason() -> None:
    groups = shared(1, 4, served=None)
    made = at(step(1, 40), groups, policy=JUDGED, uncounted="Prometheus does not answer")
    assert isinstance(decide(made)[0], Wait)
    found = awaited(made)
    assert found is not None and found.trouble == "Prometheus does not answer"
    (action,) = decide(at(step(1, 630), groups, policy=JUDGED, uncounted="Prometheus does not answer"))
    assert isinstance(action, Fail)
    assert "only 0 of 10 requests came to release 2 in 600 s beyond the pause: Prometheus does not" in action.reason


def test_what_the_stable_release_answered_before_the_step_is_not_taken_for_what_it_answered_in_it() -> None:
    """Nobody knew its figures when the step began: all that it ever answered says nothing of these seconds."""
    stable = group(1, weight=4, age_s=900, served=Served(requests=1_000, failed=500))
    candidate = group(2, weight=1, healthy=True, served=Served(requests=20, failed=2))
    (action,) = decide(at(step(1, 30), [stable, candidate], policy=JUDGED))
    assert isinstance(action, Judge)
    assert (action.verdict.stable, action.verdict.passed) == (Served(), False)


def test_it_is_said_how_many_requests_are_waited_for_and_until_when() -> None:
    groups = answered(Served(requests=7), Served(requests=90))
    early, late = at(step(1, 20), groups, policy=JUDGED), at(step(1, 40), groups, policy=JUDGED)
    assert awaited(early) == AwaitedRequests(requests=7, wanted=10, until=ago(20 - 630), late=False)
    assert awaited(late) == AwaitedRequests(requests=7, wanted=10, until=ago(40 - 630), late=True)
    counted = {"shop-production-2-1": Served(requests=3)}
    since = awaited(at(step(1, 40, counted=counted), groups, policy=JUDGED))
    assert since is not None
    assert since.requests == 4, "those of the step before don't count"


@pytest.mark.parametrize(
    "made",
    [
        at(step(1, 40), answered(Served(requests=10), Served()), policy=JUDGED),
        at(step(1, 40, judged=True), answered(Served(), Served()), policy=JUDGED),
        at(step(1, 40), answered(Served(), Served())),
        at(step(2), [group(1, weight=0), group(2, weight=100)], active=2, policy=JUDGED),
        at(Stage(), [group(1, weight=100), group(2, healthy=True, weight=0)], policy=JUDGED),
    ],
    ids=["they came", "it is judged", "there is no analysis", "all traffic has moved", "no step was begun"],
)
def test_nothing_is_said_of_requests_that_nothing_waits_for(made: Snapshot) -> None:
    assert awaited(made) is None


def test_a_step_that_waits_for_somebody_has_no_end_that_could_be_said() -> None:
    for stage in (step(2, 100), step(1, 100, paused=True)):
        found = awaited(at(stage, answered(Served(requests=7), Served()), policy=JUDGED))
        assert found == AwaitedRequests(requests=7, wanted=10, until=None)


def test_the_waiting_is_told_on_a_line_that_changes_and_once_a_minute_for_good() -> None:
    told: list[Progress] = []
    report = RolloutReport(report=told.append)
    began = at(step(1, 0), answered(Served(requests=7), Served(requests=90)), policy=JUDGED)
    for seconds in (20, 31, 50, 92):
        report.waiting(dataclasses.replace(began, now=NOW + timedelta(seconds=seconds)))
    assert [one.kind for one in told] == ["running", "done", "running", "done"]
    assert {one.text for one in told} == {"7 of 10 requests, until 12:10:30 UTC"}


def test_whoever_resumes_passes_a_step_that_could_not_be_told() -> None:
    groups = answered(Served(requests=9), Served(requests=90))
    (action,) = decide(at(step(1, 1, resumed=True), groups, policy=JUDGED))
    assert isinstance(action, Judge)
    assert action.verdict.passed is True


def test_nobody_resumes_what_fails() -> None:
    groups = answered(Served(requests=50, failed=3), Served(requests=90))
    (action,) = decide(at(step(1, 1, resumed=True), groups, policy=JUDGED))
    assert isinstance(action, Judge)
    assert action.verdict.passed is False


def test_a_paused_step_is_never_given_up_for_want_of_requests() -> None:
    groups = answered(Served(requests=9), Served(requests=90))
    assert isinstance(decide(at(step(1, 100_000, paused=True), groups, policy=JUDGED))[0], Wait)


# the candidate's end


def test_a_candidate_that_ends_in_its_step_fails() -> None:
    (action,) = decide(at(step(1), [group(1, weight=4), group(2, "stopped", weight=1)]))
    assert isinstance(action, Fail)


def test_a_candidate_that_ends_by_itself_after_the_shift_fails_too() -> None:
    (action,) = decide(at(step(2), [group(1, weight=0), group(2, "stopped", weight=100)], active=2))
    assert isinstance(action, Fail)


def test_a_router_that_died_after_the_shift_is_opened_again() -> None:
    groups = [group(1, weight=0), group(2, weight=100, healthy=True, up=False)]
    assert decide(at(step(2), groups, active=2, router=False)) == (OpenRouter(2),)


def test_who_waits_for_somebody() -> None:
    def waits(stage: Stage, active: int = 1) -> bool:
        return waits_for_somebody(at(stage, [], active=active).environment)

    assert not waits(Stage())
    assert not waits(step(1))
    assert waits(step(1, paused=True))
    assert waits(step(2))
    assert not waits(step(2, resumed=True))
    assert not waits(step(2), active=2)
    assert not waits_for_somebody(snapshot(RELEASES, active=1).environment)
