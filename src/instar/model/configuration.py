"""All that the instances of a release start from besides its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Any

from instar.frozen import dataclass
from instar.model.codec import ADDED, canonical
from instar.model.definition import Definition, Service
from instar.model.digest import Digest
from instar.model.environment import ScheduledTask
from instar.model.overrides import Overrides
from instar.model.roles import UNNAMED_ROLE
from instar.model.uses import Used


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """All that an instance starts from besides its image. Its canonical JSON is kept; its digest names it.

    ``service`` is how instances run, of several roles those of the first, whose name is ``role`` (None:
    UNNAMED_ROLE): the one behind the first door, if requests go to any. ``roles`` are the others; one that has a port
    has a door of its own.
    ``provider_settings``: what of the environment's settings its provider makes instances from, as JSON has it.
    ``secret_variables``: which of the secrets are environment variables as well. ``uses``: which other environments
    instances find by name. ``schedule``: commands by the clock.
    """

    service: Service
    config: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Digest] = field(default_factory=dict)
    provider_settings: Mapping[str, Any] = field(default_factory=dict, metadata=ADDED)
    role: str | None = field(default=None, metadata=ADDED)
    roles: Mapping[str, Service] = field(default_factory=dict, metadata=ADDED)
    secret_variables: tuple[str, ...] = field(default=(), metadata=ADDED)
    uses: tuple[Used, ...] = field(default=(), metadata=ADDED)
    schedule: Mapping[str, ScheduledTask] = field(default_factory=dict, metadata=ADDED)

    @classmethod
    def of(
        cls,
        definition: Definition,
        environment: str,
        *,
        config: Mapping[str, str],
        secrets: Mapping[str, Digest],
        provider_settings: Mapping[str, Any],
        secret_variables: tuple[str, ...] = (),
        uses: tuple[Used, ...] = (),
        schedule: Mapping[str, ScheduledTask] | None = None,
    ) -> Configuration:
        """Return how instances of ``definition`` are started in ``environment``, with what else they are given."""
        first, services = definition.first_role, definition.services_in(environment)
        others = {name: service for name, service in services.items() if name != first}
        return cls(
            service=services[first],
            config=config,
            secrets=secrets,
            provider_settings=provider_settings,
            role=first or None,
            roles=others,
            secret_variables=secret_variables,
            uses=uses,
            schedule=schedule or {},
        )

    def given_as(self, own: Configuration) -> Configuration:
        """Return it as it is promoted: how instances run stays, and what else they are given is that of ``own``."""
        return replace(
            self,
            config=own.config,
            secrets=own.secrets,
            provider_settings=own.provider_settings,
            secret_variables=own.secret_variables,
            uses=own.uses,
            schedule=own.schedule,
        )

    def other_secrets(self, before: Configuration) -> tuple[str, ...]:
        """Return the names of the secrets that are other ones than in ``before``: of new ones too, and of gone ones."""
        names = self.secrets.keys() | before.secrets.keys()
        return tuple(sorted(name for name in names if self.secrets.get(name) != before.secrets.get(name)))

    @property
    def secrets_as_variables(self) -> Mapping[str, Digest]:
        """The secrets that are environment variables as well, by name."""
        return {name: self.secrets[name] for name in self.secret_variables if name in self.secrets}

    def run_in(self, environment: str, definition: Definition, source: str) -> Configuration:
        """Return this of a release of ``source`` as ``environment`` runs it: the release's own, but for what
        ``definition`` has run otherwise in either."""
        if not {source, environment} & definition.own_services.keys():
            return self
        said = definition.services_in(environment)

        def overridden(role: str, service: Service) -> Service:
            own = said.get(role)
            values = {} if own is None else {one.name: getattr(own, one.name) for one in fields(Overrides)}
            return replace(service, **values)

        others = {role: overridden(role, service) for role, service in self.roles.items()}
        return replace(self, service=overridden(self.first_role, self.service), roles=others)

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that it gives instances, besides secrets: what its author wrote, and where what it
        uses is, unless the author says that."""
        return {name: value for one in self.uses for name, value in one.variables.items()} | dict(self.config)

    @property
    def first_role(self) -> str:
        """The name of the first role; UNNAMED_ROLE where there are none."""
        return self.role or UNNAMED_ROLE

    @property
    def services(self) -> Mapping[str, Service]:
        """How instances run, by role: the first, then the others by name."""
        return {self.first_role: self.service, **dict(sorted(self.roles.items()))}

    @property
    def digest(self) -> Digest:
        return Digest.of(canonical(self))
