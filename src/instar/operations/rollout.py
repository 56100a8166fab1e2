"""``instar rollout``: a word to the rollout that is under way: pause, resume, abort.

The word is written to the ledger, where whoever carries the rollout on hears it within a second. Where nobody does (its
command was killed, no agent runs), this process goes on with it itself.
"""

from __future__ import annotations

import time

from instar import locks
from instar.control.steps import waits_for_somebody
from instar.errors import EnvironmentBusy, Refused
from instar.model.outcome import RolloutChange
from instar.model.release import EnvironmentId, EnvironmentState, Rollout
from instar.model.rollout_happenings import RolloutAborted, RolloutPaused, RolloutResumed
from instar.operations.converge import converge
from instar.operations.locks import agent_pid, environment_lock, hold_environment
from instar.operations.privilege import require_root_for
from instar.operations.workspace import Workspace
from instar.waiting import Deadline, until

_HEARD_S = 60.0
_POLL_S = 0.05


def pause(workspace: Workspace, environment: EnvironmentState, *, why: str = "") -> RolloutChange:
    """Hold the rollout where it is: no further share of the traffic moves. What was given stays."""
    require_root_for(workspace, environment.settings.provider, "rollout pause")
    rollout = _before_the_end(workspace, environment, "pause")
    if rollout.stage.paused:
        raise Refused(
            f"cannot pause '{rollout.environment}': the {rollout.kind} to release {rollout.target} is paused already",
            hint=f"instar rollout resume {rollout.environment}",
        )
    return RolloutChange(rollout=workspace.ledger.change_stage(RolloutPaused(rollout=rollout.id, reason=why)))


def resume(workspace: Workspace, environment: EnvironmentState) -> RolloutChange:
    """Go on: after ``pause``, or from a step whose pause is over only when somebody says so."""
    require_root_for(workspace, environment.settings.provider, "rollout resume")
    rollout = _before_the_end(workspace, environment, "resume")
    state = workspace.ledger.get_environment(environment.id)
    if not waits_for_somebody(state):
        raise Refused(
            f"cannot resume '{rollout.environment}': the {rollout.kind} to release {rollout.target} is not paused",
            hint=f"see where it is: instar status {rollout.environment}",
        )
    rollout = workspace.ledger.change_stage(RolloutResumed(rollout=rollout.id, step=rollout.stage.step))
    return _carried_on(workspace, rollout)


def abort(workspace: Workspace, environment: EnvironmentState, *, why: str = "") -> RolloutChange:
    """Give the rollout up: the release before has all traffic again. Returns when it has."""
    require_root_for(workspace, environment.settings.provider, "rollout abort")
    rollout = _before_the_end(workspace, environment, "abort")
    rollout = workspace.ledger.change_stage(RolloutAborted(rollout=rollout.id, reason=why))
    change = _carried_on(workspace, rollout)
    if change.outcome is None:
        until(
            lambda: _has_ended(workspace, rollout),
            Deadline.after(_HEARD_S),
            every_s=_POLL_S,
        )
    return RolloutChange(rollout=workspace.ledger.get_rollout(rollout.id), pid=change.pid, outcome=change.outcome)


def _has_ended(workspace: Workspace, rollout: Rollout) -> bool:
    """Tell whether another process has ended the rollout. Raises Cancelled when that is waited for no longer."""
    workspace.cancellation.check()
    return workspace.ledger.get_rollout(rollout.id).state != "running"


def _before_the_end(workspace: Workspace, environment: EnvironmentState, verb: str) -> Rollout:
    """Return the running rollout, whose target has not all traffic yet. Raises Refused."""
    environment_id = environment.id
    state = workspace.ledger.get_environment(environment_id)
    rollout = state.rollout
    if rollout is None:
        way_back = f"to go back to the release before: instar rollback {environment_id}" if verb == "abort" else None
        raise Refused(f"cannot {verb} '{environment_id}': no rollout is under way there", hint=way_back)
    if state.active == rollout.target:
        raise Refused(
            f"cannot {verb} '{environment_id}': all traffic has moved to release {rollout.target} already",
            hint=f"to go back: instar rollback {environment_id}",
        )
    return rollout


def _carried_on(workspace: Workspace, rollout: Rollout) -> RolloutChange:
    """Go on with the rollout unless another process does just now, or an agent is there to."""
    environment: EnvironmentId = rollout.environment
    agent = agent_pid(workspace)
    if agent is not None:
        return RolloutChange(rollout=rollout, pid=locks.find_holder(environment_lock(workspace, environment)) or agent)
    began = time.monotonic()
    try:
        with hold_environment(workspace, environment, patient=False):
            if workspace.ledger.get_rollout(rollout.id).state == "running":
                release = workspace.ledger.get_release(environment, rollout.target)
                outcome = converge(workspace, release, began)
                return RolloutChange(rollout=workspace.ledger.get_rollout(rollout.id), outcome=outcome)
    except EnvironmentBusy as error:
        return RolloutChange(rollout=rollout, pid=error.pid)
    return RolloutChange(rollout=workspace.ledger.get_rollout(rollout.id))
