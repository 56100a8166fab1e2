"""One role of an environment's release, as somebody names it."""

from __future__ import annotations

from instar.errors import NotFound
from instar.model.release import EnvironmentState
from instar.operations.workspace import Workspace


def require_role(workspace: Workspace, environment: EnvironmentState, number: int | None, role: str) -> None:
    """Raise NotFound, naming those there are, where a release (the active one: None) has no such role."""
    number = environment.active if number is None else number
    if number is None:
        return
    roles = workspace.ledger.get_release(environment.id, number).services
    if role not in roles:
        known = f"its roles are {', '.join(roles)}" if any(roles) else "its definition names none"
        raise NotFound(f"cannot find role '{role}' in release {number} of '{environment.id}': {known}")
