"""What is done next in an environment, and what is waited for: the decision, foretold and in words. Pure.

What follows once a group that has ended is taken from the ledger is asked of the decision itself, with a snapshot in
which it is gone: each decision is about what is seen, and who takes it away looks again before it makes another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

from instar.control.actions import Action, Wait
from instar.control.decide import decide
from instar.control.replace import is_held, paused_until, to_replace
from instar.control.roles import by_role
from instar.control.snapshot import GroupView, Snapshot, hot_releases, sleeps_when_hot
from instar.control.steps import awaited, waits_for_somebody


def next_actions(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what is done at once and, where some of the active release has ended, what is once that is gone."""
    actions = decide(snapshot)
    dead = {group.id for group in snapshot.of(snapshot.active) if group.state == "dead"}
    if dead and snapshot.environment.rollout is None:
        left = tuple(group for group in snapshot.groups if group.id not in dead)
        gone = dataclasses.replace(snapshot, groups=left, owed=None, role_owed={}, network_is_set=True)
        actions += decide(gone)
    return tuple(dict.fromkeys(action for action in actions if not isinstance(action, Wait)))


def waits(snapshot: Snapshot) -> Iterator[str]:
    """Yield what is waited for, a sentence each."""
    yield from _rollout(snapshot)
    for run in snapshot.tasks:
        if run.outcome is None:
            yield f"task '{run.name}', which began at {run.began_at:%H:%M:%S} UTC in {run.instance}"
    for group in snapshot.groups:
        text = _of_group(snapshot, group)
        if text:
            yield text
    yield from _replacements(snapshot)
    watched = snapshot.probation
    if watched is not None and watched.until > snapshot.now:
        back = f"if it does not stay well, release {watched.source} comes back"
        yield f"the end of the time in which the release is watched, at {watched.until:%H:%M:%S} UTC: {back}"


def _replacements(snapshot: Snapshot) -> Iterator[str]:
    """Say what keeps the active release from getting what it lacks."""
    active = snapshot.active
    if active is None or snapshot.environment.rollout is not None or not any(map(_lacks, by_role(snapshot))):
        return
    until = paused_until(snapshot)
    if is_held(snapshot):
        yield f"somebody's word: nothing is replaced until a deploy or rollback of {snapshot.environment.id}"
    elif until is not None:
        yield f"the end of the pause after the last replacement, at {until:%H:%M:%S} UTC"


def _lacks(snapshot: Snapshot) -> bool:
    """Tell whether something of the active release's role is missing, or to be replaced."""
    active = snapshot.active
    assert active is not None
    there = sum(group.lives for group in snapshot.of(active))
    return there < len(snapshot.layout(active)) or bool(to_replace(snapshot, active)[1])


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
