"""What a verb does, or would do, with a rollout that is under way."""

from __future__ import annotations

from instar.control.steps import waits_for_somebody
from instar.model.plan import PlannedRollout
from instar.model.progress import Progress
from instar.model.release import EnvironmentState, Rollout
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
        percent=_percent(state, rollout),
        becomes="refuses" if is_refused else "goes on" if goes_on else "is given up",
        held_by=keeps_others_out(workspace, state.id),
    )


def tell_given_up(workspace: Workspace, state: EnvironmentState, rollout: Rollout) -> None:
    """Say that ``rollout``, which ``state`` has, is given up for the one that begins, with what traffic it had."""
    percent = _percent(state, rollout)
    had = f"had {percent} % of the traffic and was unfinished" if percent else "was unfinished, and had no traffic yet"
    text = f"the {rollout.kind} to release {rollout.target} {had}: it is given up for this one"
    workspace.report(Progress(stage="note", text=text, kind="warning"))


def _percent(state: EnvironmentState, rollout: Rollout) -> int:
    return 100 if state.active == rollout.target else rollout.stage.percent or 0
