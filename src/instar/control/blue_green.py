"""Blue-green: all copies of the target beside the source, proven healthy, then all traffic at once, then drain.

Where two releases must not run at once, the target's copies are created first, so that whatever can fail has
failed before the source stops; the gap is from the last request the source may take to the first of the target.
"""

from __future__ import annotations

from instar.control.actions import Action, Attach, Cut, Fail, Finish, OpenRouter, Retire, Route, Shift, Wait
from instar.control.bring_up import bring_up
from instar.control.world import Copy, World, routed, wanted_plan
from instar.model.release import Release, Rollout
from instar.providers.base import RESTARTED

DRAIN_PAUSE_S = 0.02


def blue_green(world: World) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = world.environment.rollout, world.target
    assert rollout is not None and target is not None
    if world.environment.active == target.number and _moved(world, target):
        return _drain(world, target) or (Finish(),)
    fallen = tuple(copy for copy in world.of(target) if _fell(copy, rollout))
    if fallen:
        return (_failure(fallen),)
    worn = tuple(copy.id for copy in world.of(target) if _worn(copy, rollout))
    if worn:
        return (Retire(worn, "it no longer answers"),)
    readiness = bring_up(world, target)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    if readiness.actions:
        return readiness.actions
    return _move_traffic(world, rollout, target, readiness.copies) or _drain(world, target) or (Finish(),)


def _new(copy: Copy, rollout: Rollout) -> bool:
    """It began in this rollout: it may need its time yet, and its end is the rollout's."""
    return (copy.instance.started_at or copy.instance.created_at) >= rollout.started_at


def _fell(copy: Copy, rollout: Rollout) -> bool:
    """It ended by itself in this rollout, not with the machine."""
    seen = copy.observed
    return seen.state == "stopped" and seen.reason != RESTARTED and _new(copy, rollout)


def _worn(copy: Copy, rollout: Rollout) -> bool:
    """A copy that can't serve, through no fault of this rollout: it is replaced, which is no reason to fail."""
    unwell = copy.state == "running" and copy.probe is not None and not copy.probe.healthy and not copy.weight
    return copy.state == "dead" or (unwell and not _new(copy, rollout))


def _moved(world: World, target: Release) -> bool:
    """The traffic is with the target, or would be but for what ended since: that is upkeep's business."""
    live = tuple(copy.id for copy in world.of(target) if copy.state != "dead")
    return not live or not routed(target) or has_traffic(world, live)


def _failure(fallen: tuple[Copy, ...]) -> Fail:
    first = fallen[0].observed
    how = first.reason or (f"exit status {first.exit_status}" if first.exit_status is not None else "it is gone")
    return Fail(f"instance {fallen[0].id} ended: {how}", tuple(copy.id for copy in fallen))


def _move_traffic(world: World, rollout: Rollout, target: Release, copies: tuple[Copy, ...]) -> tuple[Action, ...]:
    names = tuple(copy.id for copy in copies)
    if not routed(target):
        if any(copy.weight for copy in world.copies):
            return (Route(()),)
        return () if world.environment.active == target.number else (Shift(target.number, ()),)
    if world.router_plan != wanted_plan(world, target):
        return (OpenRouter(target.number),)
    unknown = tuple(copy.id for copy in copies if copy.routed is None or not copy.routed.up)
    if unknown:
        return (Attach(target.number, unknown),)
    if world.environment.active != target.number:
        return (Shift(target.number, names),)
    return () if has_traffic(world, names) else (Route(names),)


def has_traffic(world: World, names: tuple[str, ...]) -> bool:
    """Tell whether exactly ``names`` have weight."""
    return {copy.id for copy in world.copies if copy.weight} == set(names)


def _drain(world: World, target: Release) -> tuple[Action, ...]:
    busy = tuple(copy for copy in world.others(target) if copy.sessions)
    late = tuple(copy.id for copy in busy if world.drained(copy))
    if late:
        return (Cut(late),)
    return (Wait(DRAIN_PAUSE_S),) if busy else ()
