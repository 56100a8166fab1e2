"""Canary: all groups of the target beside the source, then its share of the traffic in steps, each judged, then all.

Each step is written down before its shares are given. A step lasts as long as its pause, or until somebody says so;
meanwhile the target's figures are held against the source's over the same time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from instar.control.actions import Action, Fail, Judge, Share, Shift, TakeStep, Wait
from instar.control.analysis import Verdict, answered, judge, judge_few
from instar.control.blue_green import blue_green
from instar.control.candidate import PAUSED_S, moved, prepare, settle, troubled, under_way
from instar.control.snapshot import FULL, GroupView, Snapshot, has_weights, routed
from instar.control.stable import keep_source, serving
from instar.model.definition import Analysis, Step
from instar.model.release import EnvironmentState, Release, Rollout

HEAVIEST = 256  # Source: Router.route


def canary(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = under_way(snapshot)
    if _at_once(snapshot, rollout, target):
        return blue_green(snapshot)
    if moved(snapshot, rollout, target):
        return settle(snapshot, rollout, target)
    actions = keep_source(snapshot) or troubled(snapshot, rollout, target)
    if actions:
        return actions
    readiness = prepare(snapshot, rollout, target)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    if readiness.actions:
        return readiness.actions
    return _next_share(snapshot, rollout, target, readiness.groups)


def shares(percent: int, candidate: Sequence[str], stable: Sequence[str]) -> Mapping[str, int]:
    """Return weights (1–256) that give ``candidate`` together ``percent`` of the requests and ``stable`` the rest.

    Exact where the numbers allow it, else as near as whole weights come. Who has no groups gets nothing.
    """
    if not candidate or not stable or not 0 < percent < 100:
        return dict.fromkeys((candidate or stable) if percent >= 100 else (stable or candidate), FULL)
    one, other = percent * len(stable), (100 - percent) * len(candidate)
    divisor = math.gcd(one, other)
    one, other = one // divisor, other // divisor
    if max(one, other) > HEAVIEST:
        light, heavy = _nearest(min(one, other), max(one, other))
        one, other = (light, heavy) if one < other else (heavy, light)
    return {**dict.fromkeys(stable, other), **dict.fromkeys(candidate, one)}


def _nearest(small: int, big: int) -> tuple[int, int]:
    """Return the two weights whose ratio is nearest to that of ``small`` and ``big``."""
    pairs = [(max(1, round(heavy * small / big)), heavy) for heavy in range(HEAVIEST // 2, HEAVIEST + 1)]
    return min(pairs, key=lambda pair: abs(pair[0] * big - pair[1] * small) / pair[1])


def waits_for_somebody(state: EnvironmentState) -> bool:
    """Tell whether a running rollout goes on only when a person says so."""
    rollout, steps = state.rollout, state.settings.rollout.steps
    if rollout is None or rollout.stage.paused:
        return rollout is not None
    stage = rollout.stage
    manual = 0 < stage.step <= len(steps) and steps[stage.step - 1].pause_ms is None
    return manual and not stage.resumed and state.active != rollout.target


@dataclass(frozen=True, kw_only=True, slots=True)
class Awaited:
    """So many ``requests`` of those that an analysis wants came to the candidate in this step; ``until``: when it is
    no longer waited for the others, None where a person decides. ``late``: the step's own pause is over."""

    requests: int
    wanted: int
    until: datetime | None
    late: bool = False


def awaited(snapshot: Snapshot) -> Awaited | None:
    """Return for which requests the running rollout waits before it can judge its step; None for none."""
    rollout, policy = snapshot.environment.rollout, snapshot.environment.settings.rollout
    if rollout is None or policy.analysis is None or snapshot.environment.active == rollout.target:
        return None
    stage, canary = rollout.stage, policy.strategy == "canary"
    if stage.judged or stage.step_at is None:
        return None
    step = policy.steps[min(stage.step, len(policy.steps)) - 1] if canary and policy.steps else None
    came = answered(snapshot.of(snapshot.target), stage.counted).requests
    if came >= policy.analysis.min_requests or (step is not None and not step.weight_percent):
        return None
    if waits_for_somebody(snapshot.environment):
        return Awaited(requests=came, wanted=policy.analysis.min_requests, until=None)
    over_at = stage.step_at + _ms(0 if stage.resumed or step is None else step.pause_ms or 0)
    until = over_at + _ms(policy.analysis.wait_ms)
    return Awaited(requests=came, wanted=policy.analysis.min_requests, until=until, late=snapshot.now >= over_at)


def step_over(snapshot: Snapshot, rollout: Rollout, step: Step) -> bool:
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
    candidate = answered(snapshot.of(target), stage.counted)
    stable = answered(snapshot.of(snapshot.source), stage.counted)
    verdict = judge(policy, candidate, stable, over=over, timed=target.service.protocol == "http")
    if verdict.passed is not None:
        return (Judge(verdict),)
    if over and stage.resumed:
        return (Judge(Verdict(passed=True, candidate=candidate, stable=stable)),)
    return _until_told(snapshot, rollout, policy, verdict, pause_ms) if over else ()


def _until_told(
    snapshot: Snapshot, rollout: Rollout, policy: Analysis, verdict: Verdict, pause_ms: int | None
) -> tuple[Action, ...]:
    began = rollout.stage.step_at
    assert began is not None
    if snapshot.now < began + _ms((pause_ms or 0) + policy.wait_ms):
        return (Wait(PAUSED_S),)
    if policy.quiet == "pass":
        timed = snapshot.releases[rollout.target].service.protocol == "http"
        return (Judge(judge_few(policy, verdict.candidate, verdict.stable, timed=timed)),)
    came = f"only {verdict.candidate.requests} of {policy.min_requests} requests came to release {rollout.target}"
    advice = "lower rollout.analysis.min_requests, raise its wait, or say 'quiet: pass' if no traffic is fine"
    return (Fail(f"its analysis cannot tell: {came} in {policy.wait_ms / 1000:g} s beyond the pause; {advice}"),)


def _at_once(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """There is nothing to share, or the target has shown before that it is well."""
    back = rollout.kind == "rollback" and target.ran_well
    return back or snapshot.source is None or not routed(target) or not snapshot.environment.settings.rollout.steps


def _next_share(
    snapshot: Snapshot, rollout: Rollout, target: Release, groups: tuple[GroupView, ...]
) -> tuple[Action, ...]:
    steps, stage = snapshot.environment.settings.rollout.steps, rollout.stage
    names, stable = [group.id for group in groups], [group.id for group in serving(snapshot, snapshot.source)]
    if snapshot.environment.active == target.number:
        return (Shift(target.number, tuple(names)),)
    if stage.step == 0:
        return (Wait(PAUSED_S),) if stage.paused else (_take(1, steps[0], names, stable),)
    step = steps[min(stage.step, len(steps)) - 1]
    weights = shares(step.weight_percent, names, stable)
    if not has_weights(snapshot, weights):
        return (Share(tuple(weights.items())),)
    over = step_over(snapshot, rollout, step) and not stage.paused
    actions = analysed(snapshot, rollout, target, over=over, pause_ms=step.pause_ms) if step.weight_percent else ()
    if actions:
        return actions
    if not over:
        return (Wait(_left_s(snapshot, rollout, step)),)
    if stage.step < len(steps):
        return (_take(stage.step + 1, steps[stage.step], names, stable),)
    return (Shift(target.number, tuple(names)),)


def _take(number: int, step: Step, names: Sequence[str], stable: Sequence[str]) -> TakeStep:
    weights = shares(step.weight_percent, names, stable)
    return TakeStep(number, step.weight_percent, tuple(weights.items()))


def _left_s(snapshot: Snapshot, rollout: Rollout, step: Step) -> float:
    began = rollout.stage.step_at
    if rollout.stage.paused or step.pause_ms is None or began is None:
        return PAUSED_S
    left = (began + _ms(step.pause_ms) - snapshot.now).total_seconds()
    return min(PAUSED_S, max(left, 0.01))


def _ms(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)
