"""``instar doctor``: every component that Instar stands on: found, version, what for, how to get it."""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Iterator

from instar.errors import InstarError
from instar.model.component import Component, Diagnosis
from instar.model.state import StateDirectory
from instar.operations import installation, shipping
from instar.operations.leading import leader
from instar.operations.workspace import Workspace


def doctor(workspace: Workspace) -> Diagnosis:
    """Look for each component and, as root, for what on this machine will get in an instance's way. Makes nothing."""
    found = (*installation.warnings(), *workspace.warnings()) if os.geteuid() == 0 else ()
    own = (*_agent(workspace), *_readers(workspace), *_shipping(workspace))
    components = (*workspace.components(), *own)
    return Diagnosis(components=components, warnings=found)


def _readers(workspace: Workspace) -> Iterator[Component]:
    """Yield who may look without root, where the machine's file names a group."""
    settings = workspace.machine_settings
    if settings is None or settings.readers.group is None:
        return
    group, found = settings.readers.group, None
    with contextlib.suppress(KeyError):
        members = ", ".join(grp.getgrnam(group).gr_mem) or "nobody has it as a further group"
        found = f"group {group}: {members}; at {_of_the_machine(workspace).readers_socket}"
    get = f"groupadd --system {group}, then: systemctl reload instar-agent"
    yield Component(name="readers", purpose="may look without root", found=found, get=get, required=False)


def _shipping(workspace: Workspace) -> Iterator[Component]:
    """Yield how the shipping of logs does; not to who cannot see it: what root's agent has shipped is root's to see."""
    if _of_the_machine(workspace) == workspace.state or workspace.state.shipped.exists():
        yield from shipping.as_component(workspace)


def _of_the_machine(workspace: Workspace) -> StateDirectory:
    """Return the state directory that the machine's file is of: root's, whoever asks, unless another one is named."""
    if os.geteuid() == 0 or workspace.environ.get("INSTAR_HOME"):
        return workspace.state
    return StateDirectory.from_environment({})


def _agent(workspace: Workspace) -> Iterator[Component]:
    """Yield which agent leads, where several machines share the ledger; nothing where that can't be told: it is told of
    the ledger then."""
    with contextlib.suppress(InstarError):
        if workspace.has_ledger and workspace.ledger.shared:
            found = leader(workspace)
            shown = None if found is None else f"{found[0]}, since {found[1]:%Y-%m-%d %H:%M} UTC"
            purpose = "acts on what no machine has alone, such as a cluster's"
            get = "instar agent, on any machine that shares the ledger, or in the cluster: docs/kubernetes.md"
            yield Component(name="leading agent", purpose=purpose, found=shown, get=get, required=False)
