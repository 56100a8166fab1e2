"""What each environment of a ledger has of its cluster: where its objects are, who may write them, and its doors.

What is asked for twice is made once: the way to a cluster by its context, and of an environment the fence that keeps
older holders of its lease out, and what was seen of its gateway.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from instar.errors import NotFound
from instar.model.environment import Settings
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, Release
from instar.model.roles import FIRST_DOOR
from instar.providers.kubernetes import preflight
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.doors import Doors
from instar.providers.kubernetes.fence import Fence
from instar.providers.kubernetes.kinds import Kind
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.names import Names, environment_part
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sight import Sights, find_gateway
from instar.providers.kubernetes.signing import Signing
from instar.providers.kubernetes.traffic import EnvironmentTraffic
from instar.providers.package import Site
from instar.providers.secrets import secret_value


class Cluster:
    """Of one provider: there may be several clusters, an environment is in one. May be asked by several threads."""

    def __init__(self, site: Site) -> None:
        self.signing = Signing(site.signing_key)
        self._site = site
        self._apis: dict[str | None, Api] = {}
        self._fences: dict[EnvironmentId, Fence] = {}
        self._sights: dict[EnvironmentId, tuple[Place, Sights]] = {}
        self._guard = threading.Lock()

    @property
    def audit_log(self) -> str | None:
        """Where this machine has the cluster's, if it does."""
        settings = self._site.machine_settings
        return None if settings is None else settings.kubernetes.audit_log

    def settings(self, environment: EnvironmentId) -> Settings:
        settings = self._site.environments().get(environment)
        if settings is None:
            raise NotFound(f"cannot find environment '{environment}': the ledger has it not")
        return settings

    def place(self, environment: EnvironmentId) -> Place:
        return Place.of(self.settings(environment))

    def names(self, environment: EnvironmentId) -> Names:
        return Names(environment=environment, ledger=self._site.ledger_name())

    def api(self, place: Place) -> Api:
        with self._guard:
            if place.context not in self._apis:
                config = find_config(place.context, self._site.environ)
                self._apis[place.context] = Api(config, self._site.environ)
            return self._apis[place.context]

    def reach(self, environment: EnvironmentId) -> tuple[Api, Names, Place]:
        """Return what it takes to ask for objects of an environment."""
        place = self.place(environment)
        return self.api(place), self.names(environment), place

    def find_place(self, instance_id: str) -> Place | None:
        """Return where an instance's environment is; None of one that is gone."""
        part = environment_part(instance_id)
        for one, settings in self._site.environments().items():
            if f"{one.service}-{one.name}" == part and "namespace" in settings.provider_settings:
                return Place.of(settings)
        return None

    def sites_of(self, environment: EnvironmentId) -> Sequence[str]:
        settings = self._site.environments().get(environment)
        return () if settings is None else settings.names.sites

    def doors_of(self, environment: EnvironmentId) -> Sequence[str]:
        settings = self._site.environments().get(environment)
        return (FIRST_DOOR,) if settings is None else (FIRST_DOOR, *settings.doors)

    def secret_values(self, release: Release) -> Mapping[str, bytes]:
        wanted, state = release.configuration.secrets, self._site.state
        return {name: secret_value(state, name, digest) for name, digest in wanted.items()}

    def fence(self, environment: EnvironmentId) -> Fence:
        """Return what keeps older holders out, the same for as long as this process has the lease."""
        held, place = self._site.held_lease(environment), self.place(environment)
        api = self.api(place)
        with self._guard:
            known = self._fences.get(environment)
            if known is None or known.held != held:
                known = self._fences[environment] = Fence(api, self.names(environment), place, held)
            return known

    def claim(self, environment: EnvironmentId) -> None:
        self.fence(environment).require_claimed()

    def delete(self, environment: EnvironmentId, kind: Kind, name: str, *, foreground: bool = False) -> None:
        """Begin to delete what is ours, unless somebody with a newer lease has claimed it. Raises LeaseLost."""
        place, fence = self.place(environment), self.fence(environment)
        api = self.api(place)
        fence.claim()
        found = api.find(kind, place.namespace, name)
        if found is not None:
            fence.admit(found)
            api.delete(kind, place.namespace, name, foreground=foreground, only=found)

    def traffic_of(self, environment: EnvironmentId) -> EnvironmentTraffic:
        place = self.place(environment)
        api, names, fence = self.api(place), self.names(environment), self.fence(environment)
        with self._guard:
            known = self._sights.get(environment)
            if known is None or known[0] != place:  # a deploy may name another gateway
                known = self._sights[environment] = (place, Sights(names, lambda: find_gateway(api, place)))
        if not place.has_services:
            place = place.keeping(self._site.left_settings(environment))
        return EnvironmentTraffic(api, names, place, fence, known[1], self.settings(environment).doors, self.warn)

    def warn(self, text: str) -> None:
        self._site.report(Progress(stage="note", text=text, kind="warning"))

    def doors(self, environment: EnvironmentId) -> Doors | None:
        return preflight.with_patience(self.traffic_of(environment).doors)
