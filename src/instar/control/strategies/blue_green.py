"""Blue-green: all groups of the target beside the source, proven healthy, then all traffic at once, then drain.

Where two releases must not run at once, the target's groups are created first, so that whatever can fail has
failed before the source stops; the gap is from the last request the source may take to the first of the target.
"""

from __future__ import annotations

from instar.control.actions import Action, Fail, Route, Shift, Wait
from instar.control.launch import in_the_way
from instar.control.replace import replenish_source
from instar.control.shift import has_weights, whole
from instar.control.snapshot import GroupView, Snapshot, alone, routed
from instar.control.target import PAUSED_S, moved, prepare, settle, troubled, under_way
from instar.model.release import Release, Rollout


def blue_green(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = under_way(snapshot)
    if moved(snapshot, rollout, target):
        return settle(snapshot, rollout, target)
    actions = () if _is_ready(snapshot, rollout, target) else replenish_source(snapshot)
    actions = actions or troubled(snapshot, rollout, target)
    if actions:
        return actions
    if rollout.stage.paused and in_the_way(snapshot, target):
        return (Wait(PAUSED_S),)
    readiness = prepare(snapshot, rollout, target)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    if readiness.actions:
        return readiness.actions
    return _move(snapshot, rollout, target, readiness.groups) or settle(snapshot, rollout, target)


def _is_ready(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """The way back is open: nothing that the source lacks is made before the traffic has gone there."""
    if rollout.kind != "rollback" or not target.ran_well:
        return False
    ready = [group for group in snapshot.of(target) if group.healthy and group.up]
    return len(ready) >= len(snapshot.layout(target))


def _move(snapshot: Snapshot, rollout: Rollout, target: Release, groups: tuple[GroupView, ...]) -> tuple[Action, ...]:
    active = snapshot.environment.active == target.number
    if rollout.stage.paused and not active and not _gap(snapshot, rollout, target):
        return (Wait(PAUSED_S),)
    if not routed(target):  # what it follows is kept serving until then
        if not active:
            return (Shift(target.number, ()),)
        return (Route(()),) if any(group.weight for group in snapshot.groups) else ()
    names = tuple(group.id for group in groups)
    if not active:
        return (Shift(target.number, names),)
    return () if has_weights(snapshot, whole(groups)) else (Route(names),)


def _gap(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """The source had to stop for the target: whoever says pause now would hold it where nobody serves."""
    swapped = bool(rollout.stage.data)  # whatever had these volumes has stopped
    return swapped or alone(target) or (snapshot.source is not None and alone(snapshot.source))
