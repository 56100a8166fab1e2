"""Maintenance in a cluster: the route sends requests to a Service of the author's own, and keeps the groups' weights.

A gateway has no page of its own to show. That it is so, and the weights that come back, are in the route: a rollout
goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from instar.errors import RouterError
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import SERVICE
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.traffic import EnvironmentTraffic


class ClusterMaintenance:
    """Implements providers.facets.Maintains."""

    def __init__(
        self,
        reach: Callable[[EnvironmentId], tuple[Api, Names, Place]],
        traffic_of: Callable[[EnvironmentId], EnvironmentTraffic],
    ) -> None:
        self._reach = reach
        self._traffic_of = traffic_of

    def maintenance(self, environment: EnvironmentId) -> bool:
        doors = self._traffic_of(environment).doors()
        return doors is not None and any(door.maintenance is not None for door in doors.parts.values())

    def maintenance_page(self, environment: EnvironmentId) -> str | None:
        """What is shown is the Service's."""
        return None

    def set_maintenance(self, environment: EnvironmentId, *, on: bool, page: str | None) -> None:
        api, _, place = self._reach(environment)
        what = f"cannot put '{environment}' into maintenance"
        if not on:
            self._traffic_of(environment).maintain(None)
            return
        if place.gateway is None:
            raise RouterError(f"{what}: without a gateway a Service selects its pods, and nothing else's")
        if page is not None:
            raise RouterError(
                f"{what} with a page: a gateway shows none",
                hint="leave it away: what the Service of kubernetes.maintenance answers is shown",
            )
        if place.maintenance is None:
            raise RouterError(
                f"{what}: a gateway has no page of its own",
                hint="name a Service that has one, and deploy: kubernetes: {maintenance: {service: NAME}}",
            )
        name, port = place.maintenance
        found = api.find(SERVICE, place.namespace, name)
        ports = [one.get("port") for one in ((found or {}).get("spec") or {}).get("ports") or ()]
        if port not in ports:
            there = "there is none" if found is None else f"it has {', '.join(map(str, ports)) or 'none'}"
            raise RouterError(
                f"{what}: cannot find port {port} of the Service '{place.namespace}/{name}': {there}",
                hint="kubernetes.maintenance names it; traffic was not touched",
            )
        self._traffic_of(environment).maintain((name, port))
