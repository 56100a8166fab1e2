"""Does the router send traffic where the ledger says, and answer itself where that was said?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from instar.model.drift import Finding
from instar.model.release import EnvironmentState, Instance, Release
from instar.providers.base import Provider
from instar.providers.doors import Ports
from instar.providers.router_state import RoutedTarget, RouterState, Target

_SAID: Final = {False: "off", True: "on"}


def compare(
    state: EnvironmentState, instances: Sequence[Instance], targets: Sequence[Target], router: RouterState
) -> Iterator[Finding]:
    """Yield what differs from ``targets``, which is where ``instances`` really are. Only asked while nobody acts on the
    environment: then it is not half way to something."""
    yield from misled(targets, router)
    known = {one.name: one for one in targets}
    at = {(one.address, one.port): one for one in known.values()}
    release_of = {instance.id: instance.release for instance in instances}
    rollout = state.rollout
    served = {state.active} | ({rollout.source, rollout.target} if rollout else set())
    for one in router.targets:
        target = known.get(one.target.name) or at.get((one.target.address, one.target.port))
        if target is None:
            yield _finding(one, "no such instance", "the router has it")
        elif not _is_misled(target, one) and one.weight and release_of[target.name] not in served:
            yield _finding(one, "no traffic: its release is not active", f"weight {one.weight}")
    weighted = [one for one in router.targets if one.weight]
    if rollout is None and len({one.weight for one in weighted}) > 1:
        weights = ", ".join(f"{one.target.name} {one.weight}" for one in weighted)
        yield Finding(
            instance=None, kind="router", path="weights", expected="the same for each instance", observed=weights
        )


def misled(targets: Sequence[Target], router: RouterState) -> Iterator[Finding]:
    """Yield where the router has another address for an instance than its own, which never changes: whoever acts on
    the environment has no part in it."""
    known = {one.name: one for one in targets}
    for one in router.targets:
        target = known.get(one.target.name)
        if target is not None and _is_misled(target, one):
            yield _finding(one, _shown(target), _shown(one.target))


def maintenance_differences(provider: Provider, state: EnvironmentState) -> Iterator[Finding]:
    """Yield where requests are answered with a page, or with another one, and nobody said so."""
    said, maintains = state.maintenance, provider.maintains
    if maintains is None or state.active is None:
        return
    is_on, page = maintains.maintenance(state.id), maintains.maintenance_page(state.id)
    if is_on != said.on:
        expected, observed = _SAID[said.on], _SAID[is_on]
        yield Finding(instance=None, kind="router", path="maintenance", expected=expected, observed=observed)
    if said.is_page_known and page != said.page:
        expected = "the usual one" if said.page is None else "the one that was given"
        yield Finding(instance=None, kind="router", path="maintenance: its page", expected=expected, observed="another")


def _is_misled(target: Target, routed: RoutedTarget) -> bool:
    return target != routed.target


def _shown(target: Target) -> str:
    more = "".join(f", {door} {port}" for door, port in sorted(target.ports.items()))
    return f"{target.address}:{target.port}{more}" + (f" for {target.door}" if target.door else "")


def ports(releases: Iterable[Release]) -> Mapping[tuple[int, str], Ports]:
    """Return what of each role of each release a router can send requests to."""
    found = {(one.number, role): Ports.of(one, role) for one in releases for role in one.services}
    return {known: one for known, one in found.items() if one is not None}


def routed_of(instances: Iterable[Instance], releases: Mapping[int, Release]) -> list[Instance]:
    """Return those that requests can go to: of a role with a port."""
    return [one for one in instances if Ports.of(releases[one.release], one.role) is not None]


def _finding(one: RoutedTarget, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="router", path=one.target.name, expected=expected, observed=observed)
