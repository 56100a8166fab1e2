"""``instar volumes restore`` of a volume that instances have: they stop, and the active release starts again on what it
held, as another release. It is a rollout as any other: one that does not start gives back what the volume held."""

from __future__ import annotations

import time

from instar.errors import Refused
from instar.model.outcome import RolloutOutcome
from instar.model.release import EnvironmentId, EnvironmentState, Release
from instar.model.volume import DataBack
from instar.operations.converge import converge, gone_on_with, start_rollout
from instar.operations.data import refuse_unfinished_data, restored_data
from instar.operations.locks import hold_environment, hold_needs
from instar.operations.origin import origin_of_again
from instar.operations.privilege import require_root_for
from instar.operations.refusals import refuse_destroying, refuse_held_volumes
from instar.operations.secret_values import encrypted_values, require_values
from instar.operations.volumes import users
from instar.operations.workspace import Workspace


def environment_that_has(workspace: Workspace, environment: EnvironmentId, name: str) -> EnvironmentState | None:
    """Return the environment where it has to stop for its volume to be restored, or has been stopped for one already;
    None where nothing has the volume."""
    state = workspace.ledger.find_environment(environment)
    if state is None or not (_under_way(state) or users(workspace, environment, name)):
        return None
    return state


def data_of_restore(workspace: Workspace, state: EnvironmentState, name: str, number: int) -> DataBack | None:
    """Return what a restore of a volume that instances have brings back, and what that stops; None where the same one
    is under way already, which is gone on with. Raises what :func:`restore_anew` refuses, but not for a command."""
    require_root_for(workspace, state.settings.provider, "volumes restore")
    refuse_destroying(state)
    if _under_way(state) == {name: number}:
        return None
    refuse_unfinished_data(state, None)
    if state.rollout is not None:
        abort = f", or: instar rollout abort {state.id}" if state.active != state.rollout.target else ""
        raise Refused(
            f"cannot restore the volume '{name}' of '{state.id}': its {state.rollout.kind} to release "
            f"{state.rollout.target} has not ended",
            hint=f"nothing was changed; let it end{abort}",
        )
    return restored_data(workspace, state, name, number)


def restore_anew(
    workspace: Workspace, environment: EnvironmentId, name: str, number: int, *, take_over: bool = False
) -> RolloutOutcome:
    """Stop whatever has a volume, keep what it holds as another snapshot, have it hold what it did in ``number``, and
    start the active release again, with its tasks.

    Raises NotFound where there is no such snapshot, Refused while another rollout is under way, or a command has the
    volume, ImageNotFound where the image is gone, HostError where there is no room.
    """
    began = time.monotonic()
    with hold_environment(workspace, environment, take_over=take_over):
        state = workspace.ledger.get_environment(environment)
        if data_of_restore(workspace, state, name, number) is None:
            assert state.rollout is not None
            target = workspace.ledger.get_release(environment, state.rollout.target)
        else:
            refuse_held_volumes(workspace, environment, restored=(name,))
            target = gone_on_with(workspace, lambda: begin_restore(workspace, state, name, number))
        return converge(workspace, target, began)


def begin_restore(workspace: Workspace, state: EnvironmentState, name: str, number: int) -> Release:
    """Make another release of the active one's image and configuration, and begin its rollout, which has a volume hold
    what it did in a snapshot. The caller holds the environment, and knows that all this may be."""
    ledger, environment = workspace.ledger, state.id
    assert state.active is not None
    active = ledger.get_release(environment, state.active)
    with hold_needs(workspace):
        workspace.store.image(active.image)
        require_values(workspace, active)
        values = encrypted_values(workspace, ledger, environment, active.configuration.secrets)
        origin = origin_of_again(workspace, f"release {active.number} on snapshot {number} of '{name}'", active)
        with ledger.transaction():
            begun = ledger.get_environment(environment).rollout
            if begun is not None:  # and only the answer to who wrote that was lost
                return ledger.get_release(environment, begun.target)
            release = ledger.add_release(environment, active.image, active.configuration, origin)
            ledger.put_secrets(values)
            start_rollout(workspace, environment, release, "deploy", data={name: number})
    return release


def _under_way(state: EnvironmentState) -> dict[str, int]:
    return {} if state.rollout is None else dict(state.rollout.stage.data)
