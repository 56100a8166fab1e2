"""Which of the providers that the ledger names are installed here: what another one runs is its environments' alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from instar.errors import ProviderMissing
from instar.model.release import EnvironmentState
from instar.operations.workspace import Workspace
from instar.providers.base import Provider


def find_provider(workspace: Workspace, name: str) -> Provider | None:
    """Return a provider; None where it is not installed here, or of no use."""
    try:
        return workspace.provider(name)
    except ProviderMissing:
        return None


def installed_providers(workspace: Workspace, environments: Iterable[EnvironmentState]) -> Mapping[str, Provider]:
    """Return the providers of ``environments`` that are installed here, by name."""
    names = sorted({state.settings.provider for state in environments})
    found = {name: find_provider(workspace, name) for name in names}
    return {name: provider for name, provider in found.items() if provider is not None}
