"""What is done while no rollout runs: the active release kept as wanted, the others drained, kept hot, or retired."""

from __future__ import annotations

from instar.control.actions import Action, CloseRouter, Create, Plan, Preview, Route, Wait
from instar.control.alike import joined
from instar.control.launch import fill, is_well, launch
from instar.control.probation import go_back
from instar.control.replace import is_aside, is_due, replenish, retire, retire_all
from instar.control.roles import by_role
from instar.control.shift import give_traffic
from instar.control.snapshot import GroupView, Snapshot, alone, hot_releases, routed, sleeps_when_hot
from instar.model.release import Release


def keep(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what the environment needs now; () when it is as wanted, or as near to it as can be."""
    if snapshot.active is None:
        return _empty(snapshot)
    return go_back(snapshot) or joined([(one, _kept(one)) for one in by_role(snapshot)])


def _kept(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what one role needs now."""
    active = snapshot.active
    assert active is not None
    return _serve(snapshot, active) or _surplus(snapshot, active) or _rest(snapshot, active)


def _empty(snapshot: Snapshot) -> tuple[Action, ...]:
    if any(group.weight for group in snapshot.groups):
        return (Route(()),)
    if snapshot.groups:
        return retire_all(snapshot, "no release is active")
    return (CloseRouter(),) if snapshot.router_running else ()


def _serve(snapshot: Snapshot, active: Release) -> tuple[Action, ...]:
    """What is well has the traffic first; what is missing comes then. What is to be replaced serves until then."""
    readiness = replenish(snapshot, active)
    groups = readiness.groups
    if len(groups) < len(snapshot.layout(active)):
        names = {group.id for group in groups}
        groups += tuple(group for group in snapshot.of(active) if group.id not in names and _still_serves(group))
    if routed(active) and groups:
        traffic = give_traffic(snapshot, active, groups)
        if traffic:
            return traffic
    if snapshot.previewed or snapshot.previewed_beside:
        return (Preview(()),)
    return readiness.actions


def _still_serves(group: GroupView) -> bool:
    return group.state == "running" and group.weight > 0 and group.up


def _surplus(snapshot: Snapshot, active: Release) -> tuple[Action, ...]:
    """Retire groups of the active release beyond the wanted number, once they have no traffic."""
    groups = [group for group in snapshot.of(active) if group.state != "ending"]
    if len(groups) <= len(snapshot.layout(active)):
        return ()
    if routed(active):
        spare = [group for group in groups if not group.weight]
    else:
        wanted = {group.id for group in replenish(snapshot, active).groups}
        spare = [group for group in groups if group.id not in wanted]
    spare = [group for group in spare if not is_aside(snapshot, group)]
    return retire(snapshot, spare, "others are in its place")


def _rest(snapshot: Snapshot, active: Release) -> tuple[Action, ...]:
    hot = {release.number: release for release in hot_releases(snapshot)}
    others = (group for group in snapshot.others(active) if group.state != "ending")
    useless = [group for group in others if _useless(snapshot, group, hot, active)]
    retiring = retire(snapshot, useless, "it is no longer needed")
    if retiring:
        return retiring
    for release in hot.values():
        actions = _keep_hot(snapshot, release, asleep=sleeps_when_hot(snapshot, release) or alone(active))
        if actions:
            return actions
    return ()


def _useless(snapshot: Snapshot, group: GroupView, hot: dict[int, Release], active: Release) -> bool:
    if routed(active) and group.weight and group.state == "running":
        return False  # nobody else can answer: once the active release can, it has no traffic any more
    release = hot.get(group.release)
    if release is None or group.state == "dead":
        return True
    if is_due(snapshot, group) and _has_successors(snapshot, release, active):
        return True
    asleep = sleeps_when_hot(snapshot, release) or alone(active)
    return asleep and (group.state == "running" or not snapshot.traits.waits_to_begin)


def _has_successors(snapshot: Snapshot, release: Release, active: Release) -> bool:
    """As many other groups of a hot release are ready as are wanted: the way back is there without those that go."""
    others = [group for group in snapshot.of(release) if group.lives and not is_due(snapshot, group)]
    if sleeps_when_hot(snapshot, release) or alone(active):
        ready = [group for group in others if group.state == "created"]
    else:
        ready = [group for group in others if group.state == "running" and is_well(snapshot, release, group)]
    return len(ready) >= len(snapshot.layout(release))


def _keep_hot(snapshot: Snapshot, release: Release, *, asleep: bool) -> tuple[Action, ...]:
    """Have the groups of a hot release made, and begun unless they must not run: by the agent also such as ended."""
    if asleep:
        return _put_to_sleep(snapshot, release)
    if snapshot.failures is None:
        return ()
    due = tuple(group for group in snapshot.of(release) if is_due(snapshot, group))
    readiness = launch(snapshot, release, replacing="hot", without=due)
    if any(isinstance(action, Plan) for action in readiness.actions) and snapshot.tried_for(release, "hot"):
        return ()
    return tuple(action for action in readiness.actions if not isinstance(action, Wait))


def _put_to_sleep(snapshot: Snapshot, release: Release) -> tuple[Action, ...]:
    """Have groups of a hot release that must not run made, but not started."""
    if not snapshot.traits.waits_to_begin:
        return ()
    staying = [group for group in snapshot.of(release) if group.lives and not is_due(snapshot, group)]
    groups, missing = fill(snapshot.layout(release), staying)
    if missing:
        return () if snapshot.tried_for(release, "hot") else (Plan(release.number, missing, "hot", release.role),)
    planned = tuple(group.id for group in groups if group.state == "planned")
    return (Create(planned, start=False),) if planned else ()
