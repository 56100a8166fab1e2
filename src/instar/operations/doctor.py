"""``instar doctor``: every component that Instar stands on: found, version, what for, how to get it."""

from __future__ import annotations

import os

from instar.model.component import Diagnosis
from instar.operations import installation
from instar.operations.workspace import Workspace


def doctor(workspace: Workspace) -> Diagnosis:
    """Look for each component and, as root, for what on this machine will get in an instance's way. Makes nothing."""
    found = (*installation.warnings(), *workspace.warnings()) if os.geteuid() == 0 else ()
    return Diagnosis(components=workspace.components(), warnings=found)
