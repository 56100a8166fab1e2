"""``instar explain``: why an environment is as it is, what it waits for, what would happen next. Changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

from instar import locks
from instar.control.actions import Action, Wait
from instar.control.decide import decide
from instar.control.health import HealthHistory
from instar.control.observe import observe
from instar.control.snapshot import GroupView, Snapshot, hot_releases, sleeps_when_hot
from instar.control.steps import awaited, waits_for_somebody
from instar.control.timetable import Timetable
from instar.control.words import sentence
from instar.model.explanation import Explanation
from instar.model.release import EnvironmentState
from instar.operations.locks import environment_lock
from instar.operations.status import status
from instar.operations.workspace import Workspace

_DECISIONS = 8  # so many of the last are told


def explain(workspace: Workspace, environment: EnvironmentState) -> Explanation:
    """Return why ``environment`` is as it is, and what the same decision that the agent makes would be now."""
    provider = workspace.provider(environment.settings.provider)
    snapshot = HealthHistory().see(observe(workspace.ledger, provider, environment.id, replacing=True))
    timetable, last = Timetable(), workspace.ledger.last_rollout(environment.id)
    snapshot = dataclasses.replace(snapshot, due=timetable.due(workspace.ledger, snapshot), scheduled=timetable.last)
    return Explanation(
        status=status(workspace, environment),
        decisions=tuple(workspace.ledger.history(environment.id, last=_DECISIONS)),
        waits=tuple(_waits(snapshot)),
        next=tuple(map(sentence, _next(snapshot))),
        scheduled=timetable.next(),
        failed=last if last is not None and last.state == "failed" and environment.rollout is None else None,
        working=locks.find_holder(environment_lock(workspace, environment.id)),
    )


def _next(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what is done at once and, where some of the active release has ended, what is once that is gone."""
    actions = decide(snapshot)
    dead = {group.id for group in snapshot.of(snapshot.active) if group.state == "dead"}
    if dead and snapshot.environment.rollout is None:
        left = tuple(group for group in snapshot.groups if group.id not in dead)
        gone = dataclasses.replace(snapshot, groups=left, owed=None, role_owed={}, network_is_set=True)
        actions += decide(gone)
    return tuple(dict.fromkeys(action for action in actions if not isinstance(action, Wait)))


def _waits(snapshot: Snapshot) -> Iterator[str]:
    yield from _rollout(snapshot)
    for run in snapshot.tasks:
        if run.outcome is None:
            yield f"task '{run.name}', which began at {run.began_at:%H:%M:%S} UTC in {run.instance}"
    for group in snapshot.groups:
        text = _of_group(snapshot, group)
        if text:
            yield text
    watched = snapshot.probation
    if watched is not None and watched.until > snapshot.now:
        back = f"if it does not stay well, release {watched.source} comes back"
        yield f"the end of the time in which the release is watched, at {watched.until:%H:%M:%S} UTC: {back}"


def _rollout(snapshot: Snapshot) -> Iterator[str]:
    state = snapshot.environment
    rollout, policy = state.rollout, state.settings.rollout
    if rollout is None:
        return
    if waits_for_somebody(state):
        yield f"somebody's word: instar rollout resume {state.id}, or instar rollout abort {state.id}"
    few = awaited(snapshot)
    if few is not None:
        until = f", until {few.until:%H:%M:%S} UTC" if few.until else ""
        yield f"requests to judge the step by: {few.requests} of {few.wanted} have come{until}"
    stage = rollout.stage
    if policy.strategy == "canary" and stage.step_at is not None and 0 < stage.step <= len(policy.steps):
        pause_ms = policy.steps[stage.step - 1].pause_ms
        over_at = None if pause_ms is None else stage.step_at + timedelta(milliseconds=pause_ms)
        if over_at is not None and over_at > snapshot.now and not stage.resumed:
            yield f"the end of step {stage.step} of {len(policy.steps)}, at {over_at:%H:%M:%S} UTC"


def _of_group(snapshot: Snapshot, group: GroupView) -> str:
    """Return for what a group of instances is waited, "" for nothing."""
    drifting = group.release not in (snapshot.environment.active, _target(snapshot))
    if group.state == "ending":
        return f"the end of {group.id}, which was told to stop"
    if group.state == "running" and not group.healthy and not drifting and (group.silent or not group.weight):
        return f"{group.instance.shown} to get healthy{f': {group.cause}' if group.cause else ''}"
    if drifting and group.routed is not None and not group.weight and _is_awaited(snapshot, group):
        if not snapshot.settled and group.sessions is None:
            return f"the end of {group.id}: a gateway that cannot be asked from here may go by older weights yet"
        requests = "its last requests" if group.sessions is None else f"{group.sessions} requests"
        return f"{requests} to {group.id}, until {snapshot.drain_deadline(group):%H:%M:%S} UTC at most"
    return ""


def _is_awaited(snapshot: Snapshot, group: GroupView) -> bool:
    """Tell whether its last requests are waited for, and until when is known: nobody waits for such as nobody counts
    of a release that stays, nor does one look tell since when a group has had no traffic."""
    staying = {release.number for release in hot_releases(snapshot) if not sleeps_when_hot(snapshot, release)}
    since = snapshot.quiet_since.get(group.id, snapshot.now)
    if group.sessions is None and (group.release in staying or since >= snapshot.now):
        return False
    return not snapshot.drained(group)


def _target(snapshot: Snapshot) -> int | None:
    return None if snapshot.environment.rollout is None else snapshot.environment.rollout.target
