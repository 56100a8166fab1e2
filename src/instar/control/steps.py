"""A step of a rollout: a share of the traffic, how long it lasts, for whom it waits, and its verdict. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import timedelta

from instar.control.actions import Action, Fail, Judge, Wait
from instar.control.analysis import Verdict, answered, judge, judge_few
from instar.control.roles import by_role, role_of
from instar.control.snapshot import GroupView, Snapshot, routed
from instar.control.target import PAUSED_S
from instar.model.environment import Analysis, RolloutStep
from instar.model.release import EnvironmentState, Release, Rollout, Served
from instar.model.status import AwaitedRequests


def waits_for_somebody(state: EnvironmentState) -> bool:
    """Tell whether a running rollout goes on only when a person says so."""
    rollout, steps = state.rollout, state.settings.rollout.steps
    if rollout is None or rollout.stage.paused:
        return rollout is not None
    stage = rollout.stage
    manual = 0 < stage.step <= len(steps) and steps[stage.step - 1].pause_ms is None
    return manual and not stage.resumed and state.active != rollout.target


def awaited(snapshot: Snapshot) -> AwaitedRequests | None:
    """Return for which requests the running rollout waits before it can judge its step; None for none."""
    rollout, policy = snapshot.environment.rollout, snapshot.environment.settings.rollout
    if (
        rollout is None
        or policy.analysis is None
        or not snapshot.counts
        or snapshot.environment.active == rollout.target
    ):
        return None
    stage, canary = rollout.stage, policy.strategy == "canary"
    if stage.judged or stage.step_at is None:
        return None
    step = policy.steps[min(stage.step, len(policy.steps)) - 1] if canary and policy.steps else None
    came, role = _came(snapshot, stage.counted)
    if came >= policy.analysis.min_requests or (step is not None and not step.weight_percent):
        return None
    if waits_for_somebody(snapshot.environment):
        return AwaitedRequests(requests=came, wanted=policy.analysis.min_requests, until=None, role=role)
    over_at = stage.step_at + _ms(0 if stage.resumed or step is None else step.pause_ms or 0)
    until = over_at + _ms(policy.analysis.wait_ms)
    late = snapshot.now >= over_at
    return AwaitedRequests(
        requests=came,
        wanted=policy.analysis.min_requests,
        until=until,
        late=late,
        trouble=snapshot.uncounted,
        role=role,
    )


def _came(snapshot: Snapshot, counted: Mapping[str, Served]) -> tuple[int, str | None]:
    """Return how many requests have come to the target; of several roles to that to which the fewest have, and which
    it is."""
    each = by_role(snapshot)
    parts = [one for one in each if one.target is not None and routed(one.target)] or each
    came = [(answered(one.of(one.target), counted).requests, role_of(one)) for one in parts]
    return min(came, key=lambda one: one[0])


def step_over(snapshot: Snapshot, rollout: Rollout, step: RolloutStep) -> bool:
    """Tell whether a step has lasted as long as it shall."""
    if rollout.stage.resumed:
        return True
    began = rollout.stage.step_at
    return step.pause_ms is not None and began is not None and snapshot.now >= began + _ms(step.pause_ms)


def analysed(
    snapshot: Snapshot, rollout: Rollout, target: Release, *, over: bool, pause_ms: int | None
) -> tuple[Action, ...]:
    """Return what the step's analysis asks for; () when it has passed, or there is none."""
    policy, stage = snapshot.environment.settings.rollout.analysis, rollout.stage
    if policy is None or stage.judged:
        return ()
    if not snapshot.counts:
        policy = dataclasses.replace(policy, min_requests=0)
    candidate = answered(snapshot.of(target), stage.counted)
    stable = answered(_known_since(snapshot, rollout), stage.counted)
    verdict = judge(policy, candidate, stable, over=over, timed=target.service.http)
    if verdict.passed is not None:
        return (Judge(verdict),)
    if over and stage.resumed:
        return (Judge(Verdict(passed=True, candidate=candidate, stable=stable)),)
    return _without_verdict(snapshot, rollout, policy, verdict, pause_ms) if over else ()


def _known_since(snapshot: Snapshot, rollout: Rollout) -> Iterator[GroupView]:
    """Yield the groups of the stable release whose figures were known when the step began, or that began after it:
    of others all that they ever answered would be taken for what they answered since."""
    stage = rollout.stage
    for group in snapshot.of(snapshot.source):
        if group.id in stage.counted or stage.step_at is None or group.began_at >= stage.step_at:
            yield group


def _without_verdict(
    snapshot: Snapshot, rollout: Rollout, policy: Analysis, verdict: Verdict, pause_ms: int | None
) -> tuple[Action, ...]:
    began = rollout.stage.step_at
    assert began is not None
    if snapshot.now < began + _ms((pause_ms or 0) + policy.wait_ms):
        return (Wait(PAUSED_S),)
    if policy.quiet == "pass":
        timed = snapshot.releases[rollout.target].service.http
        return (Judge(judge_few(policy, verdict.candidate, verdict.stable, timed=timed)),)
    role = role_of(snapshot)
    whom = f"release {rollout.target}" if role is None else f"role '{role}' of release {rollout.target}"
    came = f"only {verdict.candidate.requests} of {policy.min_requests} requests came to {whom}"
    why = f": {snapshot.uncounted}" if snapshot.uncounted else ""
    advice = "lower rollout.analysis.min_requests, raise its wait, or say 'quiet: pass' if no traffic is fine"
    return (Fail(f"its analysis cannot tell: {came} in {policy.wait_ms / 1000:g} s beyond the pause{why}; {advice}"),)


def _ms(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def left_s(snapshot: Snapshot, rollout: Rollout, step: RolloutStep) -> float:
    began = rollout.stage.step_at
    if rollout.stage.paused or step.pause_ms is None or began is None:
        return PAUSED_S
    left = (began + _ms(step.pause_ms) - snapshot.now).total_seconds()
    return min(PAUSED_S, max(left, 0.01))
