"""``instar doctor``: every component that Instar stands on: found, version, what for, how to get it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from instar.errors import InstarError
from instar.model.component import Component, Diagnosis
from instar.operations import installation
from instar.operations.locks import leader
from instar.operations.workspace import Workspace


def doctor(workspace: Workspace) -> Diagnosis:
    """Look for each component and, as root, for what on this machine will get in an instance's way. Makes nothing."""
    found = (*installation.warnings(), *workspace.warnings()) if os.geteuid() == 0 else ()
    return Diagnosis(components=(*workspace.components(), *_agent(workspace)), warnings=found)


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
