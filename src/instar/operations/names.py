"""The names that environments are reached by: whose they are."""

from __future__ import annotations

from instar.ledger.names import taken
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.workspace import Workspace


def require_names(workspace: Workspace, environment: EnvironmentId, settings: Settings, *, take: bool) -> None:
    """Raise Refused where another environment has a name that ``settings`` ask for, unless it is to be taken."""
    if take or not settings.names.sites:
        return
    state = workspace.ledger.find_environment(environment)
    machine = state.machine if state is not None else None
    if machine is None and workspace.ledger.shared:
        machine = workspace.machine_of(settings.provider)
    owners = workspace.ledger.names.owners(environment, machine, settings.names.sites)
    if owners:
        raise taken(environment, owners)
