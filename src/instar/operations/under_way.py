"""What a verb that is planned would do with a rollout that is under way."""

from __future__ import annotations

from instar.control.steps import waits_for_somebody
from instar.model.plan import PlannedRollout
from instar.model.release import EnvironmentState
from instar.operations.locks import keeps_others_out
from instar.operations.workspace import Workspace


def planned_rollout(
    workspace: Workspace, state: EnvironmentState | None, *, goes_on: bool, may_be_paused: bool = False
) -> PlannedRollout | None:
    """Return what becomes of the rollout of ``state``; None where none is under way. ``goes_on``: the verb is for that
    very release. ``may_be_paused``: it gives up one, too, that waits for a person."""
    if state is None or state.rollout is None:
        return None
    rollout = state.rollout
    is_refused = not goes_on and not may_be_paused and waits_for_somebody(state)
    return PlannedRollout(
        kind=rollout.kind,
        release=rollout.target,
        actor=rollout.actor,
        percent=100 if state.active == rollout.target else rollout.stage.percent or 0,
        becomes="refuses" if is_refused else "goes on" if goes_on else "is given up",
        held_by=keeps_others_out(workspace, state.id),
    )
