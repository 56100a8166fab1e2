"""What a definition says of an environment, and what its instances there are started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from instar.errors import UsageError
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Environment, Settings
from instar.model.release import EnvironmentState
from instar.model.uses import Used
from instar.operations.uses import uses_of
from instar.operations.workspace import Workspace
from instar.providers.package import release_settings_of

if TYPE_CHECKING:
    from instar.definition import Loaded


def get_declared(loaded: Loaded, name: str) -> Environment:
    """Return environment ``name`` of the definition. Raises UsageError, naming those there are."""
    environments = loaded.definition.environments
    if name not in environments:
        from difflib import get_close_matches

        known = ", ".join(environments) or "it declares none"
        near = get_close_matches(name, environments, n=1)
        ask = f"did you mean '{near[0]}'? else " if near else ""
        raise UsageError(
            f"cannot find environment '{name}' in {loaded.file}: {known}",
            hint=f"{ask}add it under 'environments:' there",
        )
    return environments[name]


def configure(workspace: Workspace, loaded: Loaded, environment: Environment) -> Configuration:
    """Return what an instance of the definition's service starts from in ``environment``, besides its image."""
    from instar.operations.secret_values import keep_values

    secrets = keep_values(workspace, loaded.folder, environment, service=loaded.definition.name)
    return _configured(workspace, loaded, environment, secrets)


def planned_configuration(workspace: Workspace, loaded: Loaded, environment: Environment) -> Configuration:
    """Return the same, as it would be: nothing is kept of its secrets."""
    from instar.operations.secret_values import digests_of

    secrets = digests_of(workspace, loaded.folder, environment, service=loaded.definition.name)
    return _configured(workspace, loaded, environment, secrets)


def _configured(
    workspace: Workspace, loaded: Loaded, environment: Environment, secrets: Mapping[str, Digest]
) -> Configuration:
    uses = uses_of(workspace, loaded.definition.name, environment)
    return Configuration.of(
        loaded.definition,
        environment.name,
        config=environment.config,
        secrets=secrets,
        provider_settings=own_settings(workspace, environment, uses),
        secret_variables=environment.secret_variables,
        uses=uses,
        schedule=environment.schedule,
    )


def own_settings(workspace: Workspace, environment: Environment, uses: tuple[Used, ...]) -> Mapping[str, Any]:
    """Return what of an environment's settings, with what it uses, its provider makes instances from."""
    settings = Settings.of(environment)
    allow = (*settings.network.allow, *(one.allow for one in uses))
    opened = replace(settings, network=replace(settings.network, allow=allow))
    return release_settings_of(workspace.provider_package(environment.provider), opened)


def with_left_roles(state: EnvironmentState | None, settings: Settings) -> Settings:
    """Return ``settings`` with what was said of roles that they don't know any more: releases before have them, to
    which there may be a way back."""
    return settings if state is None else replace(settings, roles={**state.settings.roles, **settings.roles})
