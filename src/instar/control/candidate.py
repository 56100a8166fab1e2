"""What every strategy does with the release that shall get the traffic: prove it first, and settle it at the end."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from instar.control.actions import Action, Attach, Cut, Fail, Finish, OpenRouter, Preview, Retire, Smoke, Wait
from instar.control.bring_up import Readiness, bring_up, has_stayed_well
from instar.control.endings import has_fallen, why_ended
from instar.control.snapshot import Copy, Snapshot, alone, routed, wanted_plan
from instar.control.tasks import run_tasks
from instar.model.release import Release, Rollout

DRAIN_PAUSE_S = 0.02
PAUSED_S = 0.25  # how soon a word of somebody's (pause, resume, abort) is heard


def under_way(snapshot: Snapshot) -> tuple[Rollout, Release]:
    """Return the running rollout and its target."""
    rollout, target = snapshot.environment.rollout, snapshot.target
    assert rollout is not None and target is not None
    return rollout, target


def moved(snapshot: Snapshot, rollout: Rollout, target: Release) -> bool:
    """The traffic is with the target, or would be but for what ended with the machine: that is upkeep's business.

    A copy that ended by itself has not: while the source is still there, that is a reason to go back to it.
    """
    if snapshot.environment.active != target.number or any(_fell(copy, rollout) for copy in snapshot.of(target)):
        return False
    live = {copy.id for copy in snapshot.of(target) if copy.state != "dead"}
    if not live or not routed(target):
        return True
    carrying = {copy.id for copy in snapshot.copies if copy.weight}
    enough = len(carrying) >= min(
        snapshot.wanted_copies, len(live)
    )  # a release that was hot may have more than are wanted
    return snapshot.router_plan is not None and carrying <= live and enough


def troubled(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Return what a candidate's trouble asks for: that the rollout fails, or a copy is replaced."""
    if rollout.stage.abort is not None and snapshot.environment.active != target.number:
        return (Fail(f"aborted: {rollout.stage.abort}" if rollout.stage.abort else "aborted"),)
    fallen = tuple(copy for copy in snapshot.of(target) if _fell(copy, rollout))
    if fallen:
        return (_failure(fallen),)
    worn = tuple(copy.id for copy in snapshot.of(target) if _worn(copy, rollout))
    return (Retire(worn, "it no longer answers", unwell=True),) if worn else ()


def prepare(snapshot: Snapshot, rollout: Rollout, target: Release, count: int | None = None) -> Readiness:
    """Return what brings ``count`` copies of the target (all: None) to where they can get traffic.

    In this order: its tasks, copies running and healthy, the router open and knowing them, smoke checks, preview.
    """
    tasks = run_tasks(snapshot, target, "before")
    if tasks.failure:
        return Readiness(cause=tasks.failure, culprits=tasks.culprits)
    readiness = bring_up(snapshot, target, count=count, first=tasks.actions, first_alone=tasks.alone)
    if readiness.cause or readiness.actions or not routed(target):
        return readiness
    actions = _introduce(snapshot, rollout, target, readiness.copies)
    return dataclasses.replace(readiness, actions=actions)


def settle(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Return what is left to do once the target has all traffic: drain the others, run the last tasks, end."""
    draining = _prove(snapshot, rollout, target) or drain(snapshot, target)
    if draining:
        return draining
    tasks = run_tasks(snapshot, target, "after")
    return tasks.actions or (Finish(tasks.failure),)


def _prove(snapshot: Snapshot, rollout: Rollout, target: Release) -> tuple[Action, ...]:
    """Have a target that could not be tried beside others show, with the traffic, that it stays well."""
    if not alone(target) or (rollout.kind == "rollback" and target.ran_well):
        return ()
    shaky = [
        copy for copy in snapshot.of(target) if not (copy.id in snapshot.well_since and has_stayed_well(snapshot, copy))
    ]
    if not target.service.health.steady_ms or not shaky:
        return ()
    health = target.service.health
    patience = timedelta(milliseconds=health.deadline_ms + 2 * health.steady_ms)  # who looks may have begun anew
    late = tuple(copy.id for copy in shaky if snapshot.now >= copy.began_at + patience)
    if late:
        return (Fail(f"instance {late[0]} did not stay well for {health.steady_ms / 1000:g} s", late),)
    return (Wait(PAUSED_S),)


def drain(snapshot: Snapshot, target: Release) -> tuple[Action, ...]:
    """Return what waits for the last requests of other releases, and ends those whose time is over."""
    busy = tuple(copy for copy in snapshot.others(target) if copy.sessions)
    late = tuple(copy.id for copy in busy if snapshot.drained(copy))
    if late:
        return (Cut(late),)
    return (Wait(DRAIN_PAUSE_S),) if busy else ()


def _introduce(snapshot: Snapshot, rollout: Rollout, target: Release, copies: tuple[Copy, ...]) -> tuple[Action, ...]:
    if snapshot.router_plan is None or snapshot.router_plan != wanted_plan(snapshot, target):
        return (OpenRouter(target.number),)
    unknown = tuple(copy.id for copy in copies if copy.routed is None or not copy.routed.up)
    if unknown:
        return (Attach(target.number, unknown),)
    shown = {target.number: copies[0].id}
    if snapshot.router_plan.preview is not None and dict(snapshot.previewed) != shown:
        return (Preview(tuple(shown.items())),)
    proven = target.ran_well and rollout.kind == "rollback"
    new = tuple(copy.id for copy in copies if copy.id not in rollout.stage.smoked)
    return (Smoke(target.number, new),) if target.service.smoke and new and not proven else ()


def _new(copy: Copy, rollout: Rollout) -> bool:
    """It began in this rollout: it may need its time yet, and its end is the rollout's."""
    return copy.began_at >= rollout.started_at


def _fell(copy: Copy, rollout: Rollout) -> bool:
    """It ended by itself in this rollout, not with the machine."""
    return has_fallen(copy) and _new(copy, rollout)


def _worn(copy: Copy, rollout: Rollout) -> bool:
    """A copy that can't serve, through no fault of this rollout: it is replaced, which is no reason to fail."""
    unwell = copy.state == "running" and copy.probe is not None and not copy.probe.healthy and not copy.weight
    return copy.state == "dead" or (unwell and not _new(copy, rollout))


def _failure(fallen: tuple[Copy, ...]) -> Fail:
    return Fail(f"instance {fallen[0].id} ended: {why_ended(fallen[0])}", tuple(copy.id for copy in fallen))
