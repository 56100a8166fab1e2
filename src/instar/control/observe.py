"""Put together a :class:`World` from the ledger, the runtime and the router. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from instar.control.world import Copy, World
from instar.ledger import Ledger
from instar.model.release import EnvironmentState, Instance, Place, Release
from instar.providers.base import Observed, Probe, Provider, RoutedTarget, Runtime

_PROBES_AT_ONCE = 16


def observe(
    ledger: Ledger,
    provider: Provider,
    place: Place,
    *,
    began: datetime | None = None,
    tried: frozenset[int] = frozenset(),
) -> World:
    """Return ``place`` as it is wanted and as it is. Probes the copies whose health a decision can hang on."""
    environment = ledger.get_environment(place)
    instances = ledger.instances(place)
    releases = _releases(ledger, environment, instances)
    observed = provider.runtime.observe(instances)
    router = provider.router.observe(place)
    routed = {item.target.name: item for item in router.targets}
    asked = [
        instance
        for instance, seen in zip(instances, observed, strict=True)
        if seen.state == "running" and _matters(environment, instance, routed.get(instance.id))
    ]
    probes = _probe(provider.runtime, asked, releases)
    return World(
        now=ledger.now(),
        environment=environment,
        releases=releases,
        copies=_copies(instances, observed, probes, routed),
        router_running=router.running,
        router_plan=router.plan,
        began=began,
        tried=tried,
    )


def _releases(ledger: Ledger, environment: EnvironmentState, instances: Sequence[Instance]) -> Mapping[int, Release]:
    place = environment.place
    found = {release.number: release for release in ledger.recent(place, environment.settings.keep.hot + 1)}
    numbers = {instance.release for instance in instances}
    numbers |= {number for number in (environment.active,) if number is not None}
    numbers |= {environment.rollout.target} if environment.rollout else set()
    for number in numbers - found.keys():
        found[number] = ledger.get_release(place, number)
    return found


def _matters(environment: EnvironmentState, instance: Instance, routed: RoutedTarget | None) -> bool:
    """Tell whether a decision can hang on its health: it should serve and doesn't. (What serves is watched by the
    router itself.)"""
    target = environment.rollout.target if environment.rollout else None
    return instance.release in (environment.active, target) and not (routed and routed.weight and routed.up)


def _probe(runtime: Runtime, instances: Sequence[Instance], releases: Mapping[int, Release]) -> Mapping[str, Probe]:
    if len(instances) <= 1:
        return {one.id: runtime.probe(one, releases[one.release]) for one in instances}
    with ThreadPoolExecutor(max_workers=min(_PROBES_AT_ONCE, len(instances))) as threads:
        answers = threads.map(lambda one: runtime.probe(one, releases[one.release]), instances)
        return {one.id: answer for one, answer in zip(instances, answers, strict=True)}


def _copies(
    instances: Sequence[Instance],
    observed: Sequence[Observed],
    probes: Mapping[str, Probe],
    routed: Mapping[str, RoutedTarget],
) -> tuple[Copy, ...]:
    return tuple(
        Copy(instance=one, observed=seen, probe=probes.get(one.id), routed=routed.get(one.id))
        for one, seen in zip(instances, observed, strict=True)
    )
