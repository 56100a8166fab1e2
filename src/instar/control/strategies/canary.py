"""Canary: all groups of the target beside the source, then its share of the traffic in steps, each judged, then all.

Each step is written down before its shares are given. A step lasts as long as its pause, or until somebody says so;
meanwhile the target's figures are held against the source's over the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

from instar.control.actions import Action, Fail, Share, Shift, TakeStep, Wait
from instar.control.replace import replenish_source
from instar.control.shift import has_weights, serving, shares
from instar.control.snapshot import GroupView, Snapshot, routed
from instar.control.steps import analysed, left_s, step_over
from instar.control.target import PAUSED_S, moved, prepare, settle, troubled, under_way
from instar.model.release import Release, Rollout


def has_steps(snapshot: Snapshot) -> bool:
    """Tell whether there is traffic to share, and the target has not shown before that it is well."""
    rollout, target = under_way(snapshot)
    back = rollout.kind == "rollback" and target.ran_well
    shared = snapshot.source is not None and routed(target)
    return shared and not back and bool(snapshot.environment.settings.rollout.steps)


def canary(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = under_way(snapshot)
    if moved(snapshot, rollout, target):
        return settle(snapshot, rollout, target)
    actions = replenish_source(snapshot) or troubled(snapshot, rollout, target)
    if actions:
        return actions
    readiness = prepare(snapshot, rollout, target)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    if readiness.actions:
        return readiness.actions
    return _next_share(snapshot, rollout, target, readiness.groups)


def _next_share(
    snapshot: Snapshot, rollout: Rollout, target: Release, groups: tuple[GroupView, ...]
) -> tuple[Action, ...]:
    steps, stage = snapshot.environment.settings.rollout.steps, rollout.stage
    stable = serving(snapshot, snapshot.source)
    if snapshot.environment.active == target.number:
        return (Shift(target.number, tuple(group.id for group in groups)),)
    if stage.step == 0:
        return (Wait(PAUSED_S),) if stage.paused else (_take(snapshot, 1, groups, stable),)
    step = steps[min(stage.step, len(steps)) - 1]
    weights = shares(step.weight_percent, groups, stable, snapshot.traits.heaviest_weight)
    if not has_weights(snapshot, weights):
        return (Share(tuple(weights.items())),)
    over = step_over(snapshot, rollout, step) and not stage.paused
    actions = analysed(snapshot, rollout, target, over=over, pause_ms=step.pause_ms) if step.weight_percent else ()
    if actions:
        return actions
    if not over:
        return (Wait(left_s(snapshot, rollout, step)),)
    if stage.step < len(steps):
        return (_take(snapshot, stage.step + 1, groups, stable),)
    return (Shift(target.number, tuple(group.id for group in groups)),)


def _take(snapshot: Snapshot, number: int, groups: Sequence[GroupView], stable: Sequence[GroupView]) -> TakeStep:
    percent = snapshot.environment.settings.rollout.steps[number - 1].weight_percent
    weights = shares(percent, groups, stable, snapshot.traits.heaviest_weight)
    return TakeStep(number, percent, tuple(weights.items()))
