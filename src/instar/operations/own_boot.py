"""Which boot of this machine acts on a shared ledger: what leases are held by, and that no other machine says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instar.model.progress import Progress
from instar.syscalls import boot_id

if TYPE_CHECKING:
    from instar.ledger.leases import Leases
    from instar.operations.workspace import Workspace

_ASKED_EACH_S = 1.0


def lessee(workspace: Workspace) -> str:
    """Return what a lease is held by: of a boot of a machine nothing is held after it."""
    return f"{workspace.machine}, boot {boot_id()}"


def require_own_boot(workspace: Workspace, leases: Leases, *, take_over: bool) -> None:
    """See to it that no other machine says that it is this one. Just after a boot that takes some seconds, in which the
    one before would be heard of. Raises MachineDoubled, and Cancelled meanwhile."""
    said = False
    while wait_s := leases.act_as(workspace.machine, boot_id(), take_over=take_over):
        if not said:
            text = f"for {wait_s:.0f} s at most, until it is certain that the boot before of this machine has ended"
            workspace.report(Progress(stage="wait", text=text))
            said = True
        workspace.cancellation.pause(min(wait_s, _ASKED_EACH_S))
        workspace.cancellation.check()
