"""Blue-green: all copies of the target beside the source, proven healthy, then all traffic at once, then drain.

Where two releases must not run at once, the target's copies are created first, so that whatever can fail has
failed before the source stops; the gap is from the last request the source may take to the first of the target.
"""

from __future__ import annotations

from instar.control.actions import Action, Attach, Cut, Fail, Finish, OpenRouter, Retire, Route, Shift, Wait
from instar.control.bring_up import bring_up
from instar.control.world import Copy, World, routed, wanted_plan
from instar.model.release import Release, Rollout

DRAIN_PAUSE_S = 0.02


def blue_green(world: World) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = world.environment.rollout, world.target
    assert rollout is not None and target is not None
    fallen = tuple(copy for copy in world.of(target) if copy.state == "dead" and _new(copy, rollout))
    if fallen:
        return (_fell(fallen),)
    worn = tuple(copy.id for copy in world.of(target) if not _new(copy, rollout) and _worn(copy))
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


def _worn(copy: Copy) -> bool:
    """A copy from before this rollout that can't serve: it is replaced, which is no reason to fail."""
    unwell = copy.state == "running" and copy.probe is not None and not copy.probe.healthy
    return copy.state == "dead" or (unwell and not copy.weight)


def _fell(fallen: tuple[Copy, ...]) -> Fail:
    first = fallen[0].observed
    how = first.reason or (f"exit status {first.exit_status}" if first.exit_status is not None else "it is gone")
    return Fail(f"instance {fallen[0].id} ended: {how}", tuple(copy.id for copy in fallen))


def _move_traffic(world: World, rollout: Rollout, target: Release, copies: tuple[Copy, ...]) -> tuple[Action, ...]:
    names = tuple(copy.id for copy in copies)
    if not routed(target):
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
