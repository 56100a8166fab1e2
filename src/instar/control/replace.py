"""What ended, is not well, was tainted or is too old is replaced, the new one first, and not without end. Pure.

When a person asked for it just now (``snapshot.failures`` is None), a release gets one replacement in a run of the
loop. Otherwise each one waits twice as long as the one before, and when ``replace.budget`` were needed in
``replace.within_ms``, nothing is replaced any more and an alarm is raised: a bad image never cycles the fleet.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from instar.control.actions import Action, Alarm, Attach, OpenRouter, Plan, Retire, Route, Wait
from instar.control.launch import Readiness, launch
from instar.control.shift import has_traffic
from instar.control.snapshot import GroupView, Snapshot, alone, routed
from instar.model.environment import Replace
from instar.model.release import Release

LONGEST_PAUSE_S = 60.0


def replenish(snapshot: Snapshot, release: Release, count: int | None = None) -> Readiness:
    """Return the next actions towards ``count`` (all: None) well groups of ``release``; its ``groups`` are those that
    are well now, without those to be replaced."""
    dead = tuple(group.id for group in snapshot.of(release) if group.state == "dead")
    if dead:
        return Readiness(actions=(Retire(dead, "it ended"),))
    why, outgoing = to_replace(snapshot, release)
    hopeless = tuple(group.id for group in outgoing if group.instance.replacing and not group.weight)
    if hopeless and why == "unwell":
        return Readiness(actions=(Retire(hopeless, "it never got healthy", unwell=True),))
    if outgoing and alone(release):
        return Readiness(actions=_allowed(snapshot, release, why, _stop_first(snapshot, outgoing)))
    aside = tuple(group for group in snapshot.of(release) if is_aside(snapshot, group))
    why = why or ("tainted" if aside else "ended" if snapshot.owed != 0 else "")
    readiness = launch(snapshot, release, count=count, replacing=why or None, without=(*outgoing, *aside))
    if readiness.cause:
        gone = snapshot.failures is None and not snapshot.tried_for(release, why)
        actions = (Retire(readiness.culprits, "it no longer answers", unwell=True),) if gone else ()
        return Readiness(groups=readiness.groups, actions=actions)
    if any(isinstance(action, Plan) for action in readiness.actions):
        return dataclasses.replace(readiness, actions=_launched(snapshot, release, why, readiness.actions))
    return readiness


def replenish_source(snapshot: Snapshot, count: int | None = None) -> tuple[Action, ...]:
    """Return what the release that a rollout leaves needs meanwhile, so that it can have the traffic until the end.

    As many groups as were wanted when the rollout began, at most ``count``: those that ended get successors. The
    rollout waits for none of them.
    """
    source, target = snapshot.source, snapshot.target
    if source is None or snapshot.environment.active != source.number or alone(source):
        return ()
    rollout = snapshot.environment.rollout
    if target is not None and (alone(target) or (rollout is not None and rollout.stage.data)):
        return ()
    dead = tuple(group.id for group in snapshot.of(source) if group.state == "dead")
    if dead:
        return (Retire(dead, "it ended"),)
    readiness = launch(snapshot, source, count=_of_source(snapshot, source, count), replacing="ended")
    actions = readiness.actions
    if any(isinstance(action, Plan) for action in actions):
        actions = _allowed(snapshot, source, "ended", actions)
    actions = tuple(action for action in actions if not isinstance(action, Wait | Alarm))
    return actions or _let_serve(snapshot, source, readiness.groups)


def to_replace(snapshot: Snapshot, release: Release) -> tuple[str, tuple[GroupView, ...]]:
    """Return the living groups that must go once others are there, and why ("" for none).

    Those that somebody tainted go together; those that drifted or grew too old one by one.
    """
    groups = [group for group in snapshot.of(release) if group.state == "running"]
    due = [group for group in groups if is_due(snapshot, group)]
    beyond_help = snapshot.lost if snapshot.traits.heals else snapshot.unwell
    reasons = {
        "unwell": tuple(one for one in groups if one.id in beyond_help),
        "tainted": tuple(group for group in due if group.instance.taint and group.instance.taint.kind != "drift"),
        "drifted": tuple(due[:1]),
        "old": _too_old(snapshot, release),
    }
    return next(((why, found) for why, found in reasons.items() if found), ("", ()))


def is_due(snapshot: Snapshot, group: GroupView) -> bool:
    """It is tainted, and the time has come to replace it."""
    taint = group.instance.taint
    return taint is not None and snapshot.now >= taint.due_at


def is_aside(snapshot: Snapshot, group: GroupView) -> bool:
    """It has no traffic though it runs, since somebody looks at it: another serves in its place, until it is due.

    Not where only one may run: there nobody would serve.
    """
    taint, release = group.instance.taint, snapshot.releases[group.release]
    isolated = taint is not None and taint.isolated and not alone(release)
    return isolated and group.state == "running" and not is_due(snapshot, group)


def is_held(snapshot: Snapshot) -> bool:
    """Nothing is replaced until somebody comes: an alarm says so, and nobody stands by."""
    return snapshot.failures is not None and snapshot.environment.alarm is not None and snapshot.environment.alarm_holds


def paused_until(snapshot: Snapshot) -> datetime | None:
    """Return until when nothing is replaced, since others were lately; None: it may be now."""
    failures = snapshot.failures
    until = failures[-1] + timedelta(seconds=pause_after_s(len(failures))) if failures else None
    return until if until is not None and snapshot.now < until else None


def pause_after_s(failures: int) -> float:
    """Return for how long nothing is replaced after so many replacements were needed."""
    return min(2.0 ** (failures - 1), LONGEST_PAUSE_S)


def counted_for(policy: Replace, release: Release) -> timedelta:
    """Return for how long a replacement counts: as the policy says, but as long as the budget takes to be spent where
    each one fails as slowly as it may. Otherwise such ones would follow each other for ever."""
    deadline_ms = max(service.health.deadline_ms for service in release.services.values())
    slowest_ms = deadline_ms + 1000 * pause_after_s(policy.budget)
    return timedelta(milliseconds=max(policy.within_ms, policy.budget * slowest_ms))


def retire_all(snapshot: Snapshot, reason: str) -> tuple[Action, ...]:
    """Return what takes all groups away; while they only end yet, that is waited for."""
    names = tuple(group.id for group in snapshot.groups if group.state != "ending")
    return (Retire(names, reason),) if names else (Wait(snapshot.traits.poll_s, ends=True),)


def retire(snapshot: Snapshot, groups: list[GroupView], reason: str) -> tuple[Action, ...]:
    """Return what takes groups away that have no traffic, once they are drained."""
    ready = tuple(group.id for group in groups if group.state != "running" or snapshot.drained(group))
    if ready:
        return (Retire(ready, reason),)
    return (Wait(snapshot.traits.poll_s),) if groups else ()


def _of_source(snapshot: Snapshot, source: Release, count: int | None) -> int:
    """Return how many of the source's groups are kept: no more than are wanted of it in the end."""
    assert snapshot.target is not None
    return min(len(snapshot.layout(source)), len(snapshot.layout(snapshot.target)) if count is None else count)


def _let_serve(snapshot: Snapshot, source: Release, groups: tuple[GroupView, ...]) -> tuple[Action, ...]:
    """Have the router know the source's well groups; they get the traffic when nobody could answer a request."""
    if not routed(source) or not groups:
        return ()
    if snapshot.router_plan is None:
        return (OpenRouter(source.number),)
    unknown = tuple(group.id for group in groups if group.routed is None)
    if unknown:
        return (Attach(source.number, unknown),)
    names = tuple(group.id for group in groups)
    served = any(group.weight and group.up for group in snapshot.groups)
    return () if served or has_traffic(snapshot, groups) else (Route(names),)


def _too_old(snapshot: Snapshot, release: Release) -> tuple[GroupView, ...]:
    limit = snapshot.environment.settings.replace.max_age_ms
    if limit is None or snapshot.failures is None or snapshot.environment.rollout is not None:
        return ()
    born = snapshot.now - timedelta(milliseconds=limit)
    old = [group for group in snapshot.of(release) if group.state == "running" and group.began_at <= born]
    return tuple(sorted(old, key=lambda group: group.began_at)[:1])


def _stop_first(snapshot: Snapshot, outgoing: tuple[GroupView, ...]) -> tuple[Action, ...]:
    """Two groups can't have its volume at once: the old one stops before the new one begins."""
    if any(group.weight for group in outgoing):
        return (Route(()),)
    return retire(snapshot, list(outgoing), "it is replaced, and holds a volume for itself")


def _launched(snapshot: Snapshot, release: Release, why: str, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return what launches groups: at once such as are wanted beyond those there were, successors when they may be."""
    if not why:
        return () if is_held(snapshot) else actions
    (plan,) = actions
    assert isinstance(plan, Plan)
    ended = _ended(snapshot, release, why, len(plan.members))
    of_ended, others = plan.members[:ended], plan.members[ended:]
    successors = _successors(snapshot, release, "ended", of_ended)
    if why == "ended":
        more = () if not others or is_held(snapshot) else (Plan(release.number, others, role=release.role),)
        return (*more, *successors)
    return tuple(dict.fromkeys((*successors, *_successors(snapshot, release, why, others))))  # both wait for the same


def _ended(snapshot: Snapshot, release: Release, why: str, count: int) -> int:
    """Return how many of ``count`` missing groups are successors of such as ended, whatever others are replaced for."""
    if why == "ended":
        return count if snapshot.owed is None else min(snapshot.owed, count)
    return min(snapshot.owed or 0, count) if release.number == snapshot.environment.active else 0


def _successors(snapshot: Snapshot, release: Release, why: str, members: tuple[int, ...]) -> tuple[Action, ...]:
    return _allowed(snapshot, release, why, (Plan(release.number, members, why, release.role),)) if members else ()


def _allowed(snapshot: Snapshot, release: Release, why: str, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return ``actions``, or what comes instead as long as nothing may be replaced."""
    if snapshot.failures is None:
        return () if snapshot.tried_for(release, why) else actions
    policy, failures = snapshot.environment.settings.replace, snapshot.failures
    if is_held(snapshot):
        return ()
    if len(failures) >= policy.budget:
        seconds = counted_for(policy, release).total_seconds()
        lately = f"{len(failures)} replacements of release {release.number} in {seconds:g} s"
        ending = snapshot.endings[-1] if snapshot.endings else None
        whose = f" of role '{ending.role}'" if ending is not None and ending.role else ""
        last = f" (the last{whose}: {ending})" if ending is not None else ""
        return (Alarm(f"{lately}{last}: replacement has stopped until you deploy or roll back"),)
    until = paused_until(snapshot)
    return actions if until is None else (Wait((until - snapshot.now).total_seconds()),)
