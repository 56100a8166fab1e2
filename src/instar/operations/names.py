"""The names that environments are reached by: whose they are."""

from __future__ import annotations

from instar.errors import Refused
from instar.ledger.names import taken
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId
from instar.operations.certificates import settings_here
from instar.operations.workspace import Workspace


def require_names(workspace: Workspace, environment: EnvironmentId, settings: Settings, *, take: bool) -> None:
    """Raise Refused where another environment has a name that ``settings`` ask for, unless it is to be taken, and where
    it has another part of one and asks its clients for other certificates."""
    if not settings.names.sites:
        return
    _require_one_authority(workspace, environment, settings.names)
    if take:
        return
    state = workspace.ledger.find_environment(environment)
    machine = state.machine if state is not None else None
    if machine is None and workspace.ledger.shared:
        machine = workspace.machine_of(settings.provider)
    owners = workspace.ledger.names.owners(environment, machine, settings.names.sites)
    if owners:
        raise taken(environment, owners)


def _require_one_authority(workspace: Workspace, environment: EnvironmentId, names: HostNames) -> None:
    """Raise Refused where a name would have two answers to which clients it takes: they are asked in the handshake."""
    for other, settings in settings_here(workspace):
        theirs = settings.names
        shared = set(names.secure_hosts) & set(theirs.secure_hosts) if other != environment else ()
        for host in sorted(shared):
            ours_whole, theirs_whole = (one.has_whole(host) for one in (names, theirs))
            follows = (theirs_whole and names.client_ca is None) or (ours_whole and theirs.client_ca is None)
            if names.client_ca != theirs.client_ca and not follows and not (ours_whole and theirs_whole):
                raise Refused(
                    f"cannot reach '{environment}' by '{host}': '{other}' has another part of that name, and not the "
                    "same 'client_ca'",
                    hint="clients are asked in the handshake, before they say a path: let both say the same, or only "
                    "the one that has the whole name",
                )
