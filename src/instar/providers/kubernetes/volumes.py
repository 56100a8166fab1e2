"""Volumes in a cluster: claims that carry the ledger's mark, in every namespace that one of its environments is in.

What an environment that is gone has left is found as long as another one is in its namespace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from instar.errors import NotFound
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.base import StoredVolume
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import VOLUME_CLAIM
from instar.providers.kubernetes.names import ENVIRONMENT, LEDGER, SERVICE, VOLUME, Names
from instar.providers.kubernetes.settings import LABEL, Place


class ClusterVolumes:
    """Implements providers.facets.Volumes."""

    @property
    def snapshots(self) -> None:
        return None

    def __init__(
        self,
        environments: Callable[[], Mapping[EnvironmentId, Settings]],
        ledger: Callable[[], str],
        api_of: Callable[[Place], Api],
        claim: Callable[[EnvironmentId], object],
    ) -> None:
        """``claim`` raises LeaseLost for who may not write there any more."""
        self._environments = environments
        self._ledger = ledger
        self._api_of = api_of
        self._claim = claim

    def volumes(self) -> tuple[StoredVolume, ...]:
        found = (one for _, one, _ in self._claims())
        return tuple(sorted(found, key=lambda one: (str(one.environment), one.name)))

    def remove_volume(self, environment: EnvironmentId, name: str) -> None:
        if environment in self._environments():  # of one that is gone there is nothing to be claimed
            self._claim(environment)
        for place, one, claim in self._claims():
            if (one.environment, one.name) == (environment, name):
                api = self._api_of(place)
                api.delete(VOLUME_CLAIM, place.namespace, claim["metadata"]["name"], only=claim)
                return
        raise NotFound(
            f"cannot remove the volume '{name}' of '{environment}': there is none in the namespaces of this ledger",
            hint="those that there are: instar volumes; in others: kubectl get persistentvolumeclaims -l instar/volume",
        )

    def _claims(self) -> Iterator[tuple[Place, StoredVolume, Mapping[str, Any]]]:
        places = {
            place.cluster: place
            for settings in self._environments().values()
            if "namespace" in settings.provider_settings
            for place in (Place.of(settings),)
        }
        for place in places.values():
            for claim in self._api_of(place).list(VOLUME_CLAIM, place.namespace, {LEDGER: self._ledger()}):
                if (stored := _stored(place, claim)) is not None:
                    yield place, stored, claim


def _stored(place: Place, claim: Mapping[str, Any]) -> StoredVolume | None:
    """Return what a claim keeps; None of one that is no environment's."""
    metadata = claim["metadata"]
    labels = metadata.get("labels") or {}
    service, name, volume = (str(labels.get(label, "")) for label in (SERVICE, ENVIRONMENT, VOLUME))
    if not all(re.fullmatch(LABEL, text) for text in (service, name, volume)) or metadata.get("deletionTimestamp"):
        return None
    environment = EnvironmentId(service=service, name=name)
    if metadata["name"] != Names(environment=environment, ledger="").claim(volume):
        return None  # somebody has written our labels on a claim of their own: it is never removed
    where = f"{place.namespace}/{metadata['name']}"
    return StoredVolume(environment=environment, name=volume, where=where, used_bytes=None)
