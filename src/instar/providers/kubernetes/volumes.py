"""Volumes in a cluster: claims that carry the ledger's mark, in every namespace that one of its environments is in.

What an environment that is gone has left is found as long as another one is in its namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from instar.errors import NotFound
from instar.model.environment import Settings
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.providers.base import StoredVolume
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.claims import counting, removable
from instar.providers.kubernetes.kinds import VOLUME_CLAIM
from instar.providers.kubernetes.names import LEDGER, Names
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.signing import Signing
from instar.providers.kubernetes.snapshots import ClusterSnapshots


class ClusterVolumes:
    """Implements providers.facets.Volumes."""

    def __init__(
        self,
        environments: Callable[[], Mapping[EnvironmentId, Settings]],
        ledger: Callable[[], str],
        api_of: Callable[[Place], Api],
        claim: Callable[[EnvironmentId], object],
        report: Callable[[Progress], None],
        signing: Signing,
    ) -> None:
        """``claim`` raises LeaseLost for who may not write there any more."""
        self.ledger = ledger
        self.report = report
        self.signing = signing
        self.api_of = api_of
        self.snapshots: ClusterSnapshots = ClusterSnapshots(self)
        self._environments = environments
        self._claim = claim

    def volumes(self) -> tuple[StoredVolume, ...]:
        found = [one for place in self.places() for one in self._stored(place)]
        return tuple(sorted(found, key=lambda one: (str(one.environment), one.name)))

    def kept_of(self, environment: EnvironmentId) -> tuple[StoredVolume, ...]:
        place = self.place_of(environment)
        return () if place is None else tuple(one for one in self._stored(place) if one.environment == environment)

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        self.require_lease(environment)
        removed = False
        for place in self.places():
            names = Names(environment=environment, ledger=self.ledger())
            near = self.api_of(place).list(VOLUME_CLAIM, place.namespace, {})  # whatever somebody has written on them
            for _, claim in (one for one in removable(near, names, self.signing) if one[0] == name):
                self.api_of(place).delete(VOLUME_CLAIM, place.namespace, claim["metadata"]["name"], only=claim)
                removed = True
        if not removed:
            raise NotFound(
                f"cannot remove the volume '{name}' of '{environment}': there is none in the namespaces of this ledger",
                hint="those that there are: instar volumes; in others: kubectl get persistentvolumeclaims -l "
                "instar/volume",
            )

    def require_lease(self, environment: EnvironmentId) -> None:
        """Raise LeaseLost for who may not write there any more: of an environment that is gone, nobody has one."""
        if environment in self._environments():
            self._claim(environment)

    def find_volume(self, environment: EnvironmentId, name: str) -> tuple[Place, Object] | None:
        for place in self.places():
            claim = counting(self._claims(place), self.signing).get((environment, name))
            if claim is not None and not claim["metadata"].get("deletionTimestamp"):
                return place, claim
        return None

    def place_of(self, environment: EnvironmentId) -> Place | None:
        settings = self._environments().get(environment)
        return Place.of(settings) if settings is not None and "namespace" in settings.provider_settings else None

    def places(self) -> Iterable[Place]:
        """Return where the ledger's environments are, each namespace once."""
        found = (self.place_of(environment) for environment in self._environments())
        return {place.cluster: place for place in found if place is not None}.values()

    def _stored(self, place: Place) -> Iterator[StoredVolume]:
        for (environment, name), claim in counting(self._claims(place), self.signing).items():
            if not claim["metadata"].get("deletionTimestamp"):
                called = claim["metadata"]["name"]
                yield StoredVolume(
                    environment=environment,
                    name=name,
                    where=f"{place.namespace}/{called}",
                    used_bytes=None,
                    removed_by=f"kubectl -n {place.namespace} delete pvc {called}",
                )

    def _claims(self, place: Place) -> tuple[Object, ...]:
        return self.api_of(place).list(VOLUME_CLAIM, place.namespace, {LEDGER: self.ledger()})
