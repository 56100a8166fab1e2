"""What is worth knowing of a cluster before a deploy, and keeps nobody from it: asked by questions of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from instar.definition.problems import listed
from instar.errors import ProviderError
from instar.model.drift import find_rule
from instar.model.environment import Settings
from instar.providers.kubernetes import other_listing, other_routes
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.gateway import plain_listeners
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.preflight import patient, with_patience
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sight import find_gateway

_METRICS: Final = "/apis/metrics.k8s.io/v1beta1"


def notes(api: Api, names: Names, settings: Settings) -> Iterator[str]:
    """Yield what a cluster does not say of itself, what it lacks, and who else has names of the environment. What it
    does not answer now is told of, and keeps nobody from a deploy."""
    place = Place.of(settings)
    if settings.is_scaled:
        yield from _figure_notes(api)
    if settings.rollout.analysis is not None and place.prometheus is None:
        yield (
            "nobody counts requests there, so that rollout.analysis asks its own checks alone: kubernetes.prometheus "
            "says who has figures"
        )
    if place.gateway is not None and settings.names.sites:
        yield from _other_route_notes(api, names, place, settings)
    if place.gateway is not None and settings.names.https:
        yield from _plain_notes(api, place, settings)
    if settings.network.allow:
        yield (
            "network.allow becomes a NetworkPolicy: whether it is held to is up to the cluster's network plugin, which "
            "cannot be asked (docs/kubernetes.md)"
        )


def _plain_notes(api: Api, place: Place, settings: Settings) -> Iterator[str]:
    """Say which names of https are answered by http as well: on one machine whoever asks so is sent on."""
    gateway = place.gateway
    assert gateway is not None
    hosts = tuple(dict.fromkeys(site.partition("/")[0] for site in settings.names.https))
    try:
        found = find_gateway(api, place)
    except ProviderError as error:
        yield f"whether names of https are answered by http as well was not looked at: {error.message}"
        return
    for listener, those in plain_listeners(found or {}, place.namespace, hosts).items():
        yield (
            f"who asks for {listed(those, 'and')} by http is answered, and not sent to https: the listener "
            f"'{listener}' of the Gateway '{'/'.join(gateway)}' takes routes of '{place.namespace}' "
            "(docs/kubernetes.md, From http to https)"
        )


def _figure_notes(api: Api) -> Iterator[str]:
    try:
        found = patient(api).text(_METRICS, "look for figures of pods", absent=True)
    except ProviderError as error:
        if error.retry_after_s is None:
            raise
        yield f"{error.message}; until they are there, the autoscaler changes no number of instances"
        return
    if found is None:
        yield (
            "nothing in the cluster says how much of its processors a pod uses (metrics.k8s.io): until something does, "
            "such as metrics-server, the autoscaler changes no number of instances"
        )


def _other_route_notes(api: Api, names: Names, place: Place, settings: Settings) -> Iterator[str]:
    """Say whose routes take requests for its names, but those that a rule of ``drift.ignore`` expects."""
    gateway = place.gateway
    assert gateway is not None
    try:
        found = with_patience(lambda: other_listing.listed(api, place.namespace, gateway))
    except ProviderError as error:
        if error.retry_after_s is None:
            raise
        yield f"whether somebody else's HTTPRoute takes requests for its names was not looked at: {error.message}"
        return
    today, rules = datetime.now(UTC).date(), settings.drift.ignore
    for one in other_routes.taking(found, (place.namespace, names.route), place, settings.names.sites):
        if find_rule(one.finding, rules, today) is None:
            yield one.note
    if found.unseen is not None:
        yield found.unseen
