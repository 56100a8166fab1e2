"""The release that a rollout goes to: made ready, proven, given the traffic, and the others drained. Pure.

Every strategy does this in the same way; they differ in how the traffic moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from instar.control.actions import Action, Attach, Cut, Fail, Finish, OpenRouter, Plan, Preview, Retire, Smoke, Wait
from instar.control.data import keep_held, keep_shared
from instar.control.endings import has_fallen, why_ended
from instar.control.launch import Readiness, has_stayed_well, launch, made
from instar.control.roles import by_role, is_first, names_by_release, previewed_beside, starts_before, together
from instar.control.snapshot import (
    GroupView,
    Snapshot,
    alone,
    hot_releases,
    is_open_for,
    role_prefix,
    routed,
    sleeps_when_hot,
    wanted_plan,
)
from instar.control.tasks import TaskProgress, run_tasks
from instar.model.release import Release, Rollout

PAUSED_S = 0.25  # how soon a word of somebody's (pause, resume, abort) is heard


def under_way(snapshot: Snapshot) -> tuple[Rollout, Release]:
    """Return the running rollout and its target."""
    rollout, target = snapshot.environment.rollout, snapshot.target
    assert rollout is not None and target is not None
    return rollout, target


def moved(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """The traffic is with the target, or would be but for what ended with the machine: that is replaced afterwards.

    A group that ended by itself has not: while the source is still there, that is a reason to go back to it.
    """
    fallen = not rollout.stage.data and any(_fell(group, rollout) for group in snapshot.of(target))
    if snapshot.environment.active != target.number or fallen:
        return False
    live = {group.id for group in snapshot.of(target) if group.lives}
    if not live or not routed(target):
        return True
    carrying = {group.id for group in snapshot.groups if group.weight}
    wanted = len(snapshot.layout(target))  # a release that was hot may have more than are wanted
    enough = len(carrying) >= min(wanted, len(live))
    return snapshot.router_plan is not None and carrying <= live and enough


def troubled(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Return what a candidate's trouble asks for: that the rollout fails, or a group is replaced."""
    if rollout.stage.abort is not None and snapshot.environment.active != target.number:
        return (Fail(f"aborted: {rollout.stage.abort}" if rollout.stage.abort else "aborted"),)
    fallen = tuple(group for group in snapshot.of(target) if _fell(group, rollout))
    if fallen and rollout.stage.data and snapshot.environment.active == target.number:
        return (Retire(tuple(group.id for group in fallen), "it ended", unwell=True),)
    if fallen:
        return (_failure(snapshot, target, fallen),)
    worn = tuple(group.id for group in snapshot.of(target) if _worn(snapshot, group, rollout))
    return (Retire(worn, "it no longer answers", unwell=True),) if worn else ()


def prepare(snapshot: Snapshot, rollout: Rollout, target: Release, count: int | None = None) -> Readiness:
    """Return what brings ``count`` groups of the target (all: None) to where they can get traffic.

    In this order: its tasks, groups running and healthy, the router open and knowing them, smoke checks, preview. The
    groups of its other roles are made meanwhile, and are well too, of roles that start before the traffic moves. A way
    back waits for none of them.
    """
    first, others = is_first(snapshot, target), () if is_way_back(rollout, target) else by_role(snapshot)[1:]
    unfinished = _tasks_first(snapshot if first else by_role(snapshot)[0], others, target, count if first else None)
    if unfinished is not None:
        return unfinished if first else Readiness(actions=(Wait(snapshot.traits.poll_s),))
    altered = _altered(snapshot, target)
    readiness = launch(snapshot, target, count=count, without=altered)
    if altered and any(isinstance(action, Plan) for action in readiness.actions):
        return Readiness(cause=_altered_cause(altered[0], rollout), culprits=(altered[0].id,))
    beside = [one for one in others if first and not routed(one.releases[target.number])]  # the others are led alike
    readiness = _joined(readiness, [_beside(one, one.releases[target.number]) for one in beside])
    if readiness.cause or readiness.actions or not routed(target):
        return readiness
    actions = _introduce(snapshot, rollout, target, readiness.groups)
    return dataclasses.replace(readiness, actions=actions)


def _altered(snapshot: Snapshot, target: Release) -> tuple[GroupView, ...]:
    """Return the groups that get no traffic, or no more of it, for somebody has changed them. Once all of it is with
    them that is drift's affair."""
    altered = (group for group in snapshot.of(target) if group.lives and group.observed.altered)
    has_all = snapshot.environment.active == target.number
    return tuple(group for group in altered if not (group.weight and has_all)) if routed(target) else ()


def _altered_cause(group: GroupView, rollout: Rollout) -> str:
    """Say that a group is not as it was made, and how to come by one that is."""
    anew = f"instar taint {rollout.environment} {group.id} --why …, and the agent makes another one"
    back = "deploy again" if _new(group, rollout) else anew
    return f"{group.id} is not as it was made, and gets no traffic: {group.observed.altered}; {back}"


def is_way_back(rollout: Rollout, target: Release) -> bool:
    """Tell whether the target has shown before that it is well."""
    return rollout.kind == "rollback" and target.ran_well


def _tasks_first(
    snapshot: Snapshot, others: Sequence[Snapshot], target: Release, count: int | None
) -> Readiness | None:
    """Return what the tasks need that run before the target starts, None once all are done. Of what volumes hold, what
    is to be kept is so before anything may write it."""
    shared = keep_shared(snapshot)
    if shared:
        return Readiness(actions=shared)
    for one in (snapshot, *others):
        release = one.releases[target.number]
        tasks = run_tasks(one, release, "before")
        if tasks.failure:
            return Readiness(cause=tasks.failure, culprits=tasks.culprits)
        held = keep_held(one, release.service) if tasks.alone or not tasks.actions else ()
        if held or tasks.actions:
            of_this, alone_ = count if one is snapshot else None, bool(held) or tasks.alone
            return launch(one, release, count=of_this, first=held or tasks.actions, first_alone=alone_)
    return None


def _beside(snapshot: Snapshot, release: Release) -> Readiness:
    """Return what a role without traffic needs before that of the first one moves."""
    return launch(snapshot, release) if starts_before(snapshot, release) else made(snapshot, release)


def _joined(first: Readiness, others: Sequence[Readiness]) -> Readiness:
    """Return where a release stands with all its roles; its groups are those of the first."""
    if not others:
        return first
    failed = next((one for one in (first, *others) if one.cause), None)
    if failed is not None:
        return failed
    return dataclasses.replace(first, actions=together(one.actions for one in (first, *others)))


def settle(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Return what is left to do once the target has all traffic: drain the others, run the last tasks, end."""
    following = _follow(snapshot, target) or _prove(snapshot, rollout, target)
    if following:
        return following
    draining = together(drain(one, rollout, one.releases[target.number]) for one in by_role(snapshot))
    if draining:
        return draining
    tasks = TaskProgress()
    for one in by_role(snapshot):
        tasks = run_tasks(one, one.releases[target.number], "after")
        if tasks.actions or tasks.failure:
            break
    return tasks.actions or (Finish(tasks.failure),)


def _follow(snapshot: Snapshot, target: Release) -> tuple[Action, ...]:
    """Return what the roles without traffic need once the traffic has moved, until all are well."""
    rollout, _ = under_way(snapshot)
    others = by_role(snapshot)[1:]
    if not others:
        return ()
    following = [launch(one, one.releases[target.number]) for one in others]
    failed = next((one for one in following if one.cause), None)
    if failed is not None:
        return (Fail(failed.cause, failed.culprits),)
    shaky = (_prove(one, rollout, one.releases[target.number]) for one in others)
    return together(one.actions for one in following) or next(filter(None, shaky), ())


def _prove(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Have a target that could not be tried beside others show, with the traffic, that it stays well."""
    if not alone(target) or is_way_back(rollout, target):
        return ()
    shaky = [
        group
        for group in snapshot.of(target)
        if not (group.id in snapshot.well_since and has_stayed_well(snapshot, group))
    ]
    if not target.service.health.steady_ms or not shaky:
        return ()
    health = target.service.health
    patience = timedelta(milliseconds=health.deadline_ms + 2 * health.steady_ms)  # who looks may have begun anew
    late = tuple(group.id for group in shaky if snapshot.now >= group.began_at + patience)
    if late:
        text = f"instance {late[0]} did not stay well for {health.steady_ms / 1000:g} s"
        return (Fail(f"{role_prefix(snapshot, target)}{text}", late),)
    return (Wait(PAUSED_S),)


def drain(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Return what waits for the last requests of other releases, and ends those whose time is over."""
    busy = tuple(group for group in snapshot.others(target) if group.sessions != 0 and group.state != "ending")
    if _may_be_left(snapshot, rollout, target):
        staying = {release.number for release in hot_releases(snapshot) if not sleeps_when_hot(snapshot, release)}
        busy = tuple(group for group in busy if group.sessions is not None or group.release not in staying)
    late = tuple(group for group in busy if group.sessions and snapshot.drained(group))
    cut = tuple(group.id for group in late if not _ends_by_itself(snapshot, target, group))
    if cut:
        return (Cut(cut),)
    return () if all(map(snapshot.drained, busy)) else (Wait(snapshot.traits.poll_s),)


def _ends_by_itself(snapshot: Snapshot, target: Release, group: GroupView) -> bool:
    """Tell whether a group is to be ended once the rollout is over, and may close then, in its grace, what is still
    with it. The last tasks may change what that is about."""
    staying = {release.number for release in hot_releases(snapshot) if not sleeps_when_hot(snapshot, release)}
    return group.release not in staying and not _has_last_tasks(snapshot, target)


def _has_last_tasks(snapshot: Snapshot, target: Release) -> bool:
    rollout, _ = under_way(snapshot)
    everything = (snapshot.whole or snapshot).releases[target.number]
    return any(service.after for service in everything.services.values()) and rollout.kind != "rollback"


def _may_be_left(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """Tell whether a rollout may end while requests that nobody counts are with a release that stays: they are finished
    there, however long they take. A time that is only waited for shows nothing more of a target that ran well before,
    or that its engine keeps alive; but the last tasks may change what such requests are about."""
    proven = is_way_back(rollout, target) or snapshot.traits.heals
    return proven and not _has_last_tasks(snapshot, target) and not alone(target)


def _introduce(
    snapshot: Snapshot, rollout: Rollout, target: Release, groups: tuple[GroupView, ...]
) -> tuple[Action, ...]:
    if not is_open_for(snapshot, target):
        return (OpenRouter(target.number),)
    unknown = tuple(group.id for group in groups if group.routed is None or not group.up)
    if unknown:
        return (Attach(target.number, unknown),)
    shown = {target.number: groups[0].id}
    plan = wanted_plan(snapshot, target) if is_first(snapshot, target) else None
    if plan is not None and plan.preview is not None:
        beside = previewed_beside(snapshot, plan, target.number)
        known = snapshot.previewed_beside
        if dict(snapshot.previewed) != shown or (known is not None and dict(known) != names_by_release(beside)):
            return (Preview(tuple(shown.items()), beside),)
    proven = is_way_back(rollout, target)
    new = tuple(group.id for group in groups if group.id not in rollout.stage.smoked)
    return (Smoke(target.number, new),) if target.service.smoke and new and not proven else ()


def _new(group: GroupView, rollout: Rollout) -> bool:
    """It began in this rollout: it may need its time yet, and its end is the rollout's."""
    return group.began_at >= rollout.started_at


def _fell(group: GroupView, rollout: Rollout) -> bool:
    """It ended by itself in this rollout, not with the machine."""
    return has_fallen(group) and _new(group, rollout)


def _worn(snapshot: Snapshot, group: GroupView, rollout: Rollout) -> bool:
    """A group that can't serve, through no fault of this rollout: it is replaced, which is no reason to fail."""
    unwell = group.silent and not group.weight and not snapshot.traits.heals
    return group.state == "dead" or (unwell and not _new(group, rollout))


def _failure(snapshot: Snapshot, target: Release, fallen: tuple[GroupView, ...]) -> Fail:
    cause = f"{role_prefix(snapshot, target)}instance {fallen[0].id} ended: {why_ended(fallen[0])}"
    return Fail(cause, tuple(group.id for group in fallen))
