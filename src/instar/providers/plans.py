"""The plan of an environment's router, from its settings and its releases: all doors of all of its roles."""

from __future__ import annotations

from collections.abc import Iterable

from instar.model.environment import Settings
from instar.model.release import EnvironmentId, OwnNames, Release
from instar.providers.base import RouterPlan
from instar.providers.doors import roles_of


def router_plan(
    environment: EnvironmentId,
    settings: Settings,
    release: Release,
    beside: Iterable[Release] = (),
    own: OwnNames | None = None,
) -> RouterPlan:
    """Return the plan of a router that serves ``release``, and what of the releases ``beside`` it runs. What these have
    of a role that ``release`` has not says how its door is spoken to, where nobody answers."""
    others = tuple(beside)
    each = {role: [one.configuration.roles.get(role) for one in (release, *others)] for role in roles_of(settings)}
    roles = {role: tuple(one for one in found if one is not None) for role, found in each.items()}
    services = [one.service for one in others]
    return RouterPlan.of(environment, settings.of_role(release.role), release.service, services, own, roles)
