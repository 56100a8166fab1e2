"""Rolling: a few copies of the target at a time take the place of as many of the source's, for machines without room
for twice the instances. At no moment more than ``batch`` copies run beyond those that are wanted.

What is there says how far it is: copies of the target that serve have replaced as many of the source's.
"""

from __future__ import annotations

from instar.control.actions import Action, Fail, Share, Shift, TakeStep, Wait
from instar.control.blue_green import blue_green
from instar.control.canary import analysed
from instar.control.candidate import DRAIN_PAUSE_S, PAUSED_S, moved, prepare, settle, troubled, under_way
from instar.control.stable import keep_source, retire, serves, serving
from instar.control.world import FULL, Copy, World, alone, has_weights, routed
from instar.model.release import Release, Rollout


def rolling(world: World) -> tuple[Action, ...]:
    """Return the next actions of the running rollout."""
    rollout, target = under_way(world)
    source = world.source
    if source is None or alone(source) or alone(target) or routed(source) != routed(target):
        return blue_green(world)
    if moved(world, rollout, target):
        return settle(world, rollout, target)
    done = len([copy for copy in world.of(target) if serves(world, copy)])
    stay = max(world.wanted_copies - done, 0)
    actions = keep_source(world, stay) or troubled(world, rollout, target) or _give_way(world, target, source, stay)
    if actions:
        return actions
    if rollout.stage.step and stay:
        judged = analysed(world, rollout, target, over=not rollout.stage.paused, pause_ms=0)
        if judged:
            return judged
    count = min(world.wanted_copies, done + world.environment.settings.rollout.batch)
    readiness = prepare(world, rollout, target, count)
    if readiness.cause:
        return (Fail(readiness.cause, readiness.culprits),)
    return readiness.actions or _next_batch(world, rollout, target, source, readiness.copies)


def _give_way(world: World, target: Release, source: Release, stay: int) -> tuple[Action, ...]:
    """Have copies of the source that were replaced lose their traffic, drain and go, before others are launched."""
    staying, taken = serving(world, source)[:stay], [copy for copy in world.of(target) if copy.weight]
    names = {copy.id for copy in staying}
    running = [copy for copy in world.of(source) if copy.state == "running"]
    surplus = [copy for copy in running if copy.id not in names][: max(len(running) - stay, 0)]
    if routed(target) and (taken or any(copy.weight for copy in surplus)):
        weights = {copy.id: FULL for copy in (*staying, *taken)}
        if not has_weights(world, weights):
            return (Share(tuple(weights.items())),)
    return retire(world, surplus, "another release took its place")


def _next_batch(
    world: World, rollout: Rollout, target: Release, source: Release, copies: tuple[Copy, ...]
) -> tuple[Action, ...]:
    """Give the traffic to the copies that are ready now, beside those of the source that are left."""
    if rollout.stage.paused:
        return (Wait(PAUSED_S),)
    names = tuple(copy.id for copy in copies)
    left = world.wanted_copies - len(names)
    if left <= 0:
        return (Shift(target.number, names if routed(target) else ()),)
    staying = tuple(copy.id for copy in serving(world, source)[:left])
    weights = dict.fromkeys((*staying, *names), FULL)
    if not routed(target):
        return (Wait(DRAIN_PAUSE_S),)
    percent = round(100 * len(names) / len(weights))
    return (TakeStep(rollout.stage.step + 1, percent, tuple(weights.items())),)
