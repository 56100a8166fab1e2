"""Ask a provider beforehand whether it can have an environment be as it is wanted."""

from __future__ import annotations

from instar.model.configuration import Configuration
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.base import Provider


def preflight(
    provider: Provider, environment: EnvironmentId, settings: Settings, configuration: Configuration, *, launching: bool
) -> tuple[str, ...]:
    """Return what the provider warns of, for all roles together. Raises what it refuses."""
    (first, service), *others = configuration.services.items()
    beside = {"others": dict(others)} if others else {}
    return provider.preflight(environment, settings.of_role(first), service, launching=launching, **beside)
