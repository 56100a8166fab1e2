"""``instar explain``: why an environment is as it is, what it waits for, what would happen next. Changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice

from instar import locks
from instar.control.health import HealthHistory
from instar.control.observe import observe
from instar.control.outlook import next_actions, waits
from instar.control.schedule import begin_due
from instar.control.timetable import Timetable
from instar.control.words import sentence
from instar.model.events import Event
from instar.model.explanation import Explanation
from instar.model.happenings import ReleaseMade
from instar.model.instance_happenings import (
    InstanceCreated,
    InstanceDestroyed,
    InstancesPlanned,
    InstanceStarted,
    InstanceStopping,
)
from instar.model.occurrence import SCHEDULED
from instar.model.release import EnvironmentState
from instar.model.rollout_happenings import SmokePassed, TaskEnded
from instar.operations.locks import environment_lock
from instar.operations.status import status
from instar.operations.workspace import Workspace

_DECISIONS, _LOOKED_AT = 8, 1000  # so many of the last are told, of so many events
_ROUTINE = (InstanceCreated, InstanceStarted, InstanceStopping, InstanceDestroyed, SmokePassed, ReleaseMade)


def explain(workspace: Workspace, environment: EnvironmentState) -> Explanation:
    """Return why ``environment`` is as it is, and what the same decision that the agent makes would be now."""
    provider = workspace.provider(environment.settings.provider)
    snapshot = HealthHistory().see(observe(workspace.ledger, provider, environment.id, replacing=True))
    timetable, last = Timetable(), workspace.ledger.last_rollout(environment.id)
    due = begin_due(snapshot, timetable.due(workspace.ledger, snapshot))
    snapshot = dataclasses.replace(snapshot, scheduled=timetable.last)
    return Explanation(
        status=status(workspace, environment),
        decisions=tuple(reversed(_decisions(workspace, environment))),
        waits=tuple(waits(snapshot)),
        next=tuple(map(sentence, next_actions(snapshot))),
        due=tuple(map(sentence, due)),
        scheduled=timetable.next(),
        failed=last if last is not None and last.state == "failed" and environment.rollout is None else None,
        working=locks.find_holder(environment_lock(workspace, environment.id)),
    )


def _decisions(workspace: Workspace, environment: EnvironmentState) -> Sequence[Event]:
    """Return the last events that tell what was decided, or befell it; not each step of carrying that out."""
    events = islice(workspace.ledger.newest_first(environment.id), _LOOKED_AT)
    return list(islice((one for one in events if _matters(one)), _DECISIONS))


def _matters(event: Event) -> bool:
    match event.what:
        case InstancesPlanned(replacing=replacing):
            return replacing is not None
        case TaskEnded(task=task, outcome="done"):
            return not task.startswith(f"{SCHEDULED} ")
        case what:
            return not isinstance(what, _ROUTINE)
