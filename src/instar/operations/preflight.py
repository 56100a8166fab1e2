"""Ask beforehand whether an environment can be as it is wanted."""

from __future__ import annotations

from instar.model.configuration import Configuration
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.data import refuse_unfinished_data
from instar.operations.declared import with_left_roles
from instar.operations.doors import refuse_doors_without_ports, refuse_other_first
from instar.operations.privilege import may_use
from instar.operations.refusals import refuse_destroying, refuse_other_protocol, refuse_other_provider
from instar.operations.workspace import Workspace
from instar.providers.base import Provider
from instar.providers.unfit import refuse_lacking


def preflight(
    provider: Provider, environment: EnvironmentId, settings: Settings, configuration: Configuration, *, launching: bool
) -> tuple[str, ...]:
    """Return what the provider warns of, for all roles together. Raises what it refuses."""
    (first, service), *others = configuration.services.items()
    beside = {"others": dict(others)} if others else {}
    return provider.preflight(environment, settings.of_role(first), service, launching=launching, **beside)


def refuse_beforehand(
    workspace: Workspace, environment: EnvironmentId, settings: Settings, configuration: Configuration
) -> None:
    """Raise what keeps a release of ``configuration`` from being begun, whatever its image: before one is baked or
    pulled for it. Only this machine is asked who listens where, and by who may look who that is."""
    state = workspace.ledger.find_environment(environment)
    settings = with_left_roles(state, settings)
    refuse_destroying(state)
    refuse_other_provider(state, settings)
    refuse_other_protocol(workspace, environment, configuration.service)
    refuse_unfinished_data(state, None)
    active = workspace.ledger.get_release(environment, state.active) if state and state.active is not None else None
    refuse_other_first(environment, active.configuration if active else None, configuration)
    refuse_doors_without_ports(environment, settings, configuration)
    if workspace.provider_package(settings.provider).traits.of_one_machine and may_use(workspace, settings.provider):
        provider = workspace.provider(settings.provider)
        refuse_lacking(provider, environment, settings)
        preflight(provider, environment, settings, configuration, launching=False)
