"""Who waits for the end of a command that an instance runs: until it has ended, that instance is left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instar import locks
from instar.operations.own_boot import lessee

if TYPE_CHECKING:
    from instar.model.release import EnvironmentId
    from instar.operations.workspace import Workspace


@contextlib.contextmanager
def attend(workspace: Workspace, instance: str) -> Iterator[None]:
    """Wait for the end of the command that ``instance`` runs inside: until then it is left alone. It is known at once
    that who did has ended; by others who share the ledger, as soon as its lease is over."""
    path = _attendance(workspace, instance)
    with contextlib.ExitStack() as held:
        held.callback(path.unlink, missing_ok=True)
        held.enter_context(locks.hold(path, instance, inherited=False))
        if workspace.ledger.leases is not None:
            machine, holder = lessee(workspace), f"{workspace.actor} on {workspace.machine}"
            held.enter_context(workspace.ledger.leases.holding(_of_run(instance), holder, machine=machine))
        yield


def is_attended(workspace: Workspace, instance: str) -> bool:
    """Tell whether somebody waits for the end of the command that ``instance`` runs, here or elsewhere."""
    if locks.find_holder(_attendance(workspace, instance)) is not None:
        return True
    leases = workspace.ledger.leases
    if leases is None:
        return False
    return leases.holder_elsewhere(_of_run(instance), machine=lessee(workspace)) is not None


def _attendance(workspace: Workspace, instance: str) -> Path:
    return workspace.state.locks / f"run--{instance}"


def _of_run(instance: str) -> EnvironmentId:
    """Return what the lease on a run is of: no service is called so."""
    from instar.model.release import EnvironmentId

    return EnvironmentId(service="*", name=instance)
