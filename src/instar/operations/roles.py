"""One role of an environment's release, as somebody names it."""

from __future__ import annotations

from instar.definition.problems import nearest
from instar.errors import NotFound
from instar.model.release import EnvironmentState
from instar.operations.workspace import Workspace


def require_role(
    workspace: Workspace, environment: EnvironmentState, number: int | None, role: str, *, with_port: bool = False
) -> None:
    """Raise NotFound, naming those there are, where a release (the active one: None) has no such role;
    ``with_port``: none that requests come to."""
    number = environment.active if number is None else number
    if number is None:
        return
    services = workspace.ledger.get_release(environment.id, number).services
    roles = [name for name, service in services.items() if service.port is not None or not with_port]
    if role not in roles:
        such, near = " with a port" if with_port else "", nearest(role, roles)
        known = f"its roles{such} are {', '.join(roles)}" if any(services) else "its definition names none"
        raise NotFound(
            f"cannot find role '{role}'{such} in release {number} of '{environment.id}': {known}",
            hint=f"did you mean '{near}'?" if near else None,
        )
