"""What is done while no rollout runs: the active release kept as wanted, the others drained, kept hot, or retired."""

from __future__ import annotations

from instar.control.actions import Action, Attach, CloseRouter, Create, OpenRouter, Plan, Retire, Route, Wait
from instar.control.blue_green import DRAIN_PAUSE_S, has_traffic
from instar.control.bring_up import bring_up
from instar.control.world import Copy, World, alone, routed, sleeps_when_hot, wanted_plan
from instar.model.release import Release


def upkeep(world: World) -> tuple[Action, ...]:
    """Return what the environment needs now; () when it is as wanted, or as near to it as can be."""
    if world.active is None:
        return _empty(world)
    return _serve(world, world.active) or _surplus(world, world.active) or _rest(world, world.active)


def hot_releases(world: World) -> tuple[Release, ...]:
    """Return the releases to keep ready: those that ran well and had the traffic last, without the active one."""
    candidates = [
        release
        for release in world.releases.values()
        if release.number != world.environment.active and release.ran_well and release.last_active_at
    ]
    candidates.sort(key=lambda release: (release.last_active_at, release.number), reverse=True)
    return tuple(candidates[: world.environment.settings.keep.hot])


def _empty(world: World) -> tuple[Action, ...]:
    if world.copies:
        return (Retire(tuple(copy.id for copy in world.copies), "no release is active"),)
    return (CloseRouter(),) if world.router_running else ()


def _serve(world: World, active: Release) -> tuple[Action, ...]:
    """What is well has the traffic first; what is missing comes then."""
    dead = tuple(copy.id for copy in world.of(active) if copy.state == "dead")
    if dead:
        return (Retire(dead, "it ended"),)
    readiness = bring_up(world, active, replacing=True)
    traffic = _give_traffic(world, active, readiness.copies) if routed(active) and readiness.copies else ()
    if traffic:
        return traffic
    if readiness.cause and active.number not in world.tried:
        return (Retire(readiness.culprits, "it no longer answers"),)
    given_up = any(isinstance(action, Plan) and action.release in world.tried for action in readiness.actions)
    return () if given_up else readiness.actions


def _give_traffic(world: World, active: Release, copies: tuple[Copy, ...]) -> tuple[Action, ...]:
    if world.router_plan != wanted_plan(world, active):
        return (OpenRouter(active.number),)
    unknown = tuple(copy.id for copy in copies if copy.routed is None)
    if unknown:
        return (Attach(active.number, unknown),)
    names = tuple(copy.id for copy in copies)
    return () if has_traffic(world, names) else (Route(names),)


def _surplus(world: World, active: Release) -> tuple[Action, ...]:
    """Retire copies of the active release beyond the wanted number, once they have no traffic."""
    copies = world.of(active)
    spare = [copy for copy in copies if not copy.weight] if routed(active) else list(copies[world.wanted_copies :])
    return _retire(world, spare, "fewer instances are wanted") if len(copies) > world.wanted_copies else ()


def _rest(world: World, active: Release) -> tuple[Action, ...]:
    hot = {release.number: release for release in hot_releases(world)}
    useless = [copy for copy in world.others(active) if _useless(copy, hot, active)]
    retiring = _retire(world, useless, "it is no longer needed")
    if retiring:
        return retiring
    for release in hot.values():
        if sleeps_when_hot(release) or alone(active):
            actions = _put_to_sleep(world, release)
            if actions:
                return actions
    return ()


def _useless(copy: Copy, hot: dict[int, Release], active: Release) -> bool:
    release = hot.get(copy.release)
    if release is None or copy.state == "dead":
        return True
    return copy.state == "running" and (sleeps_when_hot(release) or alone(active))


def _retire(world: World, copies: list[Copy], reason: str) -> tuple[Action, ...]:
    ready = tuple(copy.id for copy in copies if copy.state != "running" or world.drained(copy))
    if ready:
        return (Retire(ready, reason),)
    return (Wait(DRAIN_PAUSE_S),) if copies else ()


def _put_to_sleep(world: World, release: Release) -> tuple[Action, ...]:
    """Have copies of a hot release that must not run made, but not started."""
    copies = world.of(release)
    missing = world.wanted_copies - len(copies)
    if missing > 0:
        return () if release.number in world.tried else (Plan(release.number, missing, replacing=True),)
    planned = tuple(copy.id for copy in copies if copy.state == "planned")
    return (Create(planned, start=False),) if planned else ()
