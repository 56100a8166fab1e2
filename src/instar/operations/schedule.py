"""``instar schedule``: what runs by the clock, when it did last, and when it will; or one of it now."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from instar.control.actions import RunTask
from instar.control.schedule import is_zone_known, next_at, outcome_of
from instar.definition.problems import nearest
from instar.errors import EnvironmentBusy, InstarError, NotFound, ProviderError, Refused
from instar.model.occurrence import SCHEDULED, Occurrence
from instar.model.release import Command, EnvironmentState, Release, TaskRun
from instar.model.rollout_happenings import TaskEnded
from instar.model.schedule import Begun, Ended, Schedule, ScheduledEntry
from instar.operations.converge import make_loop
from instar.operations.leading import agent_in_charge
from instar.operations.locks import hold_environment, take_turn
from instar.operations.privilege import require_root_for
from instar.operations.refusals import refuse_destroying, refuse_volumes_changing_hands
from instar.operations.workspace import Workspace

_LOOK_EACH_S: Final = 0.5


def schedule(workspace: Workspace, environment: EnvironmentState) -> Schedule:
    """Return the schedule of an environment's active release. Changes nothing."""
    ledger, active = workspace.ledger, environment.active
    release = None if active is None else ledger.get_release(environment.id, active)
    now = ledger.now()
    tasks = {} if release is None else release.configuration.schedule
    last = {name: ledger.schedules.last(environment.id, name) for name in tasks}
    by_hand = {name: ledger.schedules.last_by_hand(environment.id, name) for name in tasks}
    runs = [run for run in (*last.values(), *by_hand.values()) if run is not None]
    missed = ledger.schedules.missed_until(environment.id) if tasks else {}
    ended = _ended(workspace, environment, [run.instance for run in runs if run.outcome is None])
    return Schedule(
        environment=environment.id,
        release=active,
        entries=tuple(
            ScheduledEntry(
                name=name,
                task=task,
                last=_as_seen(last[name], ended),
                by_hand=_as_seen(by_hand[name], ended),
                next_at=next_at(task, now),
                zone_known=is_zone_known(task),
                missed_at=missed.get(name),
            )
            for name, task in sorted(tasks.items())
        ),
        agent=_agent(workspace, environment),
    )


def _as_seen(run: TaskRun | None, ended: Mapping[str, str]) -> TaskRun | None:
    return run if run is None or run.instance not in ended else replace(run, outcome=ended[run.instance])


def _ended(workspace: Workspace, environment: EnvironmentState, names: Collection[str]) -> Mapping[str, str]:
    """Return how those of these instances have ended that the ledger says nothing of yet; what can't be seen from here
    is taken to run."""
    instances = [one for one in workspace.ledger.instances(environment.id) if one.id in names and one.was_made]
    if not instances:
        return {}
    with contextlib.suppress(InstarError, OSError):
        seen = workspace.provider(environment.settings.provider).observe(environment.id, instances).groups
        return {one.id: outcome_of(one) for one in seen if one.state in ("stopped", "absent")}
    return {}


def begin_now(workspace: Workspace, environment: EnvironmentState, name: str) -> Begun:
    """Begin an entry of the schedule now, beside what the clock begins; its end is seen to by the agent, or the next
    command there. Raises NotFound, Refused, and ProviderError where it could not begin."""
    require_root_for(workspace, environment.settings.provider, "schedule run")
    ledger = workspace.ledger
    with take_turn(workspace, environment.id):
        state = ledger.get_environment(environment.id)
        refuse_destroying(state)
        release = _active(workspace, state)
        task = release.configuration.schedule.get(name)
        if task is None:
            raise _not_there(name, release)
        loop_run = make_loop(workspace, workspace.provider(state.settings.provider)).begin(state.id)
        snapshot = loop_run.clear()
        running = [group.id for group in snapshot.task_groups if (group.instance.task or "").split(" ")[1:2] == [name]]
        if running and not task.overlap:
            raise Refused(
                f"cannot run '{name}' of '{state.id}': {running[0]} runs it already",
                hint="wait for its end; 'overlap: true' has several run at once",
            )
        refuse_volumes_changing_hands(snapshot, release.of_role(task.role or release.role))
        occurrence = Occurrence(entry=name, number=ledger.schedules.count_by_hand(state.id, name) + 1)
        instance = ledger.schedules.begin(
            state.id, release.number, occurrence, Command(argv=task.command), role=task.role or release.role
        )
        assert instance is not None
        loop_run.executor.execute(loop_run.clear(), RunTask(release.number, occurrence.name, instance.id))
    ended = next((one for one in ledger.given_tasks(state.id) if one.instance == instance.id), None)
    if ended is not None and ended.outcome is not None:
        raise ProviderError(f"cannot run '{name}' of '{state.id}': {ended.outcome}")
    return Begun(
        environment=state.id,
        release=release.number,
        task=occurrence.name.removeprefix(f"{SCHEDULED} "),
        instance=instance.id,
        agent=_agent(workspace, state),
    )


def await_end(workspace: Workspace, begun: Begun) -> Ended:
    """Return how a command of the schedule ended, once it has. Without an agent its end is written down here."""
    while True:
        runs = workspace.ledger.tasks(begun.environment, begun.release)
        outcome = next((one.outcome for one in runs if one.instance == begun.instance), None)
        if outcome is not None:
            return Ended(outcome=outcome, last_lines=_last_lines(workspace, begun))
        workspace.cancellation.pause(_LOOK_EACH_S)
        if _agent(workspace, workspace.ledger.get_environment(begun.environment)) is None:
            with contextlib.suppress(EnvironmentBusy), hold_environment(workspace, begun.environment):
                state = workspace.ledger.get_environment(begun.environment)
                make_loop(workspace, workspace.provider(state.settings.provider)).begin(state.id).clear()


def _last_lines(workspace: Workspace, begun: Begun) -> tuple[str, ...]:
    """Return what it printed last, as the history has it."""
    events = (event.what for event in workspace.ledger.newest_first(begun.environment))
    ends = (what for what in events if isinstance(what, TaskEnded) and what.task == f"{SCHEDULED} {begun.task}")
    return next((what.last_lines or () for what in ends), ())


def _not_there(name: str, release: Release) -> NotFound:
    known = sorted(release.configuration.schedule)
    near = nearest(name, known)
    shown = f"there are {', '.join(known)}" if known else "it has none; what the definition has comes with a deploy"
    return NotFound(
        f"cannot run '{name}': release {release.number} has no such entry in its schedule",
        hint=f"did you mean '{near}'? {shown}" if near else shown,
    )


def _active(workspace: Workspace, state: EnvironmentState) -> Release:
    if state.active is None:
        raise Refused(
            f"cannot run anything of the schedule of '{state.id}': no release of it is active",
            hint=f"instar deploy {state.id.name}",
        )
    return workspace.ledger.get_release(state.id, state.active)


def _agent(workspace: Workspace, environment: EnvironmentState) -> str | None:
    return agent_in_charge(workspace, workspace.provider_package(environment.settings.provider).traits)
