"""Rolling: a few groups of the target at a time take the place of as many of the source's, for machines without room
for twice the instances. At no moment more than ``batch`` groups run beyond those that are wanted.

What is there says how far it is: groups of the target that serve have replaced as many of the source's.
"""

from __future__ import annotations

from instar.control.actions import Action, Fail, Share, Shift, TakeStep, Wait
from instar.control.replace import replenish_source, retire
from instar.control.shift import has_weights, serves, serving, whole
from instar.control.snapshot import GroupView, Snapshot, alone, routed
from instar.control.steps import analysed
from instar.control.target import PAUSED_S, moved, prepare, settle, troubled, under_way
from instar.model.release import Release, Rollout


def has_batches(snapshot: Snapshot) -> bool:
    """Tell whether some instances of the target can take the place of some of the source's."""
    source, (_, target) = snapshot.source, under_way(snapshot)
    return source is not None and not alone(source) and not alone(target) and routed(source) == routed(target)


def rolling(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = under_way(snapshot)
    source = snapshot.source
    assert source is not None
    if moved(snapshot, rollout, target):
        return settle(snapshot, rollout, target)
    done = len([group for group in snapshot.of(target) if serves(snapshot, group)])
    stay = max(len(snapshot.layout(target)) - done, 0)
    actions = (
        replenish_source(snapshot, stay)
        or troubled(snapshot, rollout, target)
        or _give_way(snapshot, target, source, stay)
    )
    if actions:
        return actions
    if rollout.stage.step and stay:
        judged = analysed(snapshot, rollout, target, over=not rollout.stage.paused, pause_ms=0)
        if judged:
            return judged
    count = min(len(snapshot.layout(target)), done + snapshot.environment.settings.rollout.batch)
    if _is_full(snapshot, source, target, count):
        return (Wait(snapshot.traits.poll_s, ends=True),)
    readiness = prepare(snapshot, rollout, target, count)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    return readiness.actions or _next_batch(snapshot, rollout, target, source, readiness.groups)


def _give_way(snapshot: Snapshot, target: Release, source: Release, stay: int) -> tuple[Action, ...]:
    """Have groups of the source that were replaced lose their traffic, drain and go, before others are launched."""
    staying, taken = serving(snapshot, source)[:stay], [group for group in snapshot.of(target) if group.weight]
    names = {group.id for group in staying}
    running = [group for group in snapshot.of(source) if group.state == "running"]
    surplus = [group for group in running if group.id not in names][: max(len(running) - stay, 0)]
    if routed(target) and (taken or any(group.weight for group in surplus)):
        weights = whole((*staying, *taken))
        if not has_weights(snapshot, weights):
            return (Share(tuple(weights.items())),)
    return retire(snapshot, surplus, "another release took its place")


def _is_full(snapshot: Snapshot, source: Release, target: Release, count: int) -> bool:
    """More of the target's groups are to run, and the room for them is taken by groups that have their time to end."""
    run = sum(1 for group in snapshot.of(target) if group.state == "running")
    return run < count and any(group.state == "ending" for group in (*snapshot.of(source), *snapshot.of(target)))


def _next_batch(
    snapshot: Snapshot, rollout: Rollout, target: Release, source: Release, groups: tuple[GroupView, ...]
) -> tuple[Action, ...]:
    """Give the traffic to the groups that are ready now, beside those of the source that are left."""
    if rollout.stage.paused:
        return (Wait(PAUSED_S),)
    names = tuple(group.id for group in groups)
    left = len(snapshot.layout(target)) - len(names)
    if left <= 0:
        return (Shift(target.number, names if routed(target) else ()),)
    weights = whole((*serving(snapshot, source)[:left], *groups))
    if not routed(target):
        return (Wait(snapshot.traits.poll_s),)
    percent = round(100 * sum(weights[name] for name in names) / sum(weights.values()))
    return (TakeStep(rollout.stage.step + 1, percent, tuple(weights.items())),)
