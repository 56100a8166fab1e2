"""``instar explain``: why an environment is as it is, what it waits for, what would happen next. Changes nothing."""

from __future__ import annotations

import dataclasses

from instar import locks
from instar.control.health import HealthHistory
from instar.control.observe import observe
from instar.control.outlook import next_actions, waits
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
        waits=tuple(waits(snapshot)),
        next=tuple(map(sentence, next_actions(snapshot))),
        scheduled=timetable.next(),
        failed=last if last is not None and last.state == "failed" and environment.rollout is None else None,
        working=locks.find_holder(environment_lock(workspace, environment.id)),
    )
