"""Which agent acts on what no machine has alone, of all that share a ledger."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from instar.errors import InstarError
from instar.operations.locks import agent_pid
from instar.operations.own_boot import lessee, require_own_boot

if TYPE_CHECKING:
    from datetime import datetime

    from instar.operations.workspace import Workspace
    from instar.providers.traits import Traits


def lead(workspace: Workspace) -> bool:
    """Be the agent that acts on what no machine has for itself, of all that share the ledger; False: another one is.
    The caller has the lock of agents. Where the ledger is one machine's own, there is no other."""
    leases = workspace.ledger.leases
    if leases is None:
        return True
    require_own_boot(workspace, leases, take_over=False)
    holder = f"the agent on {workspace.machine} (process {os.getpid()})"
    return leases.lead(holder, machine=lessee(workspace))


def stop_leading(workspace: Workspace) -> None:
    """Let another agent lead from now on."""
    if workspace.ledger.leases is not None:
        with contextlib.suppress(InstarError):
            workspace.ledger.leases.stop_leading()


def leader(workspace: Workspace) -> tuple[str, datetime] | None:
    """Return which agent leads of those that share the ledger, and since when; None where none does, or the ledger is
    one machine's own."""
    leases = workspace.ledger.leases
    return None if leases is None else leases.leader()


def leader_elsewhere(workspace: Workspace) -> str | None:
    """Return which agent leads, where it is another machine's."""
    leases = workspace.ledger.leases
    return None if leases is None else leases.leader_elsewhere(machine=lessee(workspace))


def agent_in_charge(workspace: Workspace, traits: Traits) -> str | None:
    """Return, for people, which agent acts on environments of a provider: the one that leads, of what no machine has
    alone, else this machine's. None: none does."""
    leading = None if traits.of_one_machine else leader(workspace)
    if leading is not None:
        return leading[0]
    pid = agent_pid(workspace)
    return None if pid is None else f"the agent (process {pid})"
