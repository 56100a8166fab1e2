"""``instar doctor``: every component that Instar stands on: found, version, what for, how to get it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from instar.model.component import Component
from instar.operations import installation
from instar.operations.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    components: tuple[Component, ...]
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing that is required is missing."""
        return all(component.found or not component.required for component in self.components)


def doctor(workspace: Workspace) -> Diagnosis:
    """Look for each component and, as root, for what on this machine will get in an instance's way. Makes nothing."""
    found = (*installation.warnings(), *workspace.warnings()) if os.geteuid() == 0 else ()
    return Diagnosis(components=workspace.components(), warnings=found)
