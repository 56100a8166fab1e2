"""One check of one environment, put together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import timedelta
from typing import Final

from instar.drift.rules import Ignored, sort_out
from instar.drift.traffic import compare, maintenance_differences, misled, ports, routed_of
from instar.errors import EnvironmentBusy, InstarError, RouterError, StoreError
from instar.frozen import dataclass
from instar.ledger import Ledger
from instar.ledger.roles import release_of
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.host_names import HostNames
from instar.model.image import Image
from instar.model.release import EnvironmentState, Instance, Release
from instar.providers.base import NetworkPlan, Provider, Subject
from instar.providers.facets import require
from instar.store import Store
from instar.store.hashed_files import HashedFiles
from instar.threads import at_once

_UNDER_WAY: Final = timedelta(minutes=1)  # a router's lock is waited for half of that
FindImage = Callable[[Digest], Image]
Damage = tuple[Finding, Set[Digest]]  # and the images that it is about


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a check found. ``at_rest``: nobody acted on the environment meanwhile, so the router's traffic was held
    against the ledger too, and not only its addresses. ``instances``: those that were looked at."""

    state: EnvironmentState
    findings: tuple[Finding, ...]
    ignored: tuple[Ignored, ...]
    instances: tuple[str, ...]
    at_rest: bool
    deep: bool

    @property
    def clean(self) -> bool:
        return not self.findings

    def of(self, instance: str | None) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.instance == instance)


def check(
    ledger: Ledger,
    store: Store,
    hashed_files: HashedFiles,
    provider: Provider,
    state: EnvironmentState,
    *,
    instance: str | None = None,
    deep: bool = False,
    at_rest: bool = False,
    find_image: FindImage | None = None,
) -> Checked:
    """Check all instances of an environment (or one), and its router. Raises LedgerError, HostError, RouterError.

    ``find_image``: what finds an image that this machine has not got, and need not have: it starts nothing from here.
    ``state`` is read anew: something may have moved since. What went during the check has no findings.
    """
    environment = state.id
    state = ledger.find_environment(environment) or state
    instances = [one for one in ledger.instances(environment) if one.task is None and one.was_made]
    releases = {number: ledger.get_release(environment, number) for number in {one.release for one in instances}}
    wanted = {release.image for release in releases.values()}
    others = {} if find_image is None else _not_here(store, wanted, find_image)
    images, damaged = _images(store, hashed_files, wanted - others.keys(), deep=deep)
    subjects = [_subject(one, releases, {**others, **images}) for one in instances if instance in (None, one.id)]
    found = require(provider.inspects, f"inspect '{environment}'").inspect(subjects, deep=deep)
    findings = [*_that_stay(ledger, instances, releases, found, damaged)] if found or damaged else []
    active = [] if state.active is None else [ledger.get_release(environment, state.active)]
    findings += _network(provider, state, [*releases.values(), *active], at_rest=at_rest)
    findings += _edge(provider, state, at_rest=at_rest)
    findings += _maintenance(ledger, provider, state) if at_rest else ()
    findings += _router(ledger, provider, state, instances, releases, at_rest=at_rest)
    left, ignored = sort_out(findings, state.settings.drift.ignore, ledger.now().date())
    return Checked(
        state=state,
        findings=left,
        ignored=ignored,
        instances=tuple(subject.instance.id for subject in subjects),
        at_rest=at_rest,
        deep=deep,
    )


def _that_stay(
    ledger: Ledger,
    instances: Sequence[Instance],
    releases: Mapping[int, Release],
    found: Sequence[Finding],
    damaged: Sequence[Damage],
) -> Iterator[Finding]:
    """Yield the findings that are about what is still there after the check."""
    stayed = _that_are_there(ledger, instances)
    used, names = {releases[one.release].image for one in stayed}, {one.id for one in stayed}
    yield from (finding for finding, users in damaged if users & used)
    yield from (finding for finding in found if finding.instance in (None, *names))


def _images(
    store: Store, hashed_files: HashedFiles, wanted: Set[Digest], *, deep: bool
) -> tuple[dict[Digest, Image], list[Damage]]:
    images: dict[Digest, Image] = {}
    damage: list[Damage] = []
    users: dict[Digest, set[Digest]] = {}
    for digest in wanted:
        try:
            images[digest] = store.entered(digest)
        except (StoreError, OSError) as error:
            damage.append((_damaged(f"image {digest}", _said(error)), {digest}))
        else:
            for layer in images[digest].layers:
                users.setdefault(layer.digest, set()).add(digest)
    damage += _unindexed(store, wanted)
    stale = [blob for blob in users if deep or not hashed_files.holds(store.path(blob))]
    found = at_once(lambda blob: _blob(store, hashed_files, blob), stale, at_most=os.cpu_count() or 1)
    damage += [(finding, users[blob]) for blob, finding in zip(stale, found, strict=True) if finding is not None]
    return images, damage


def _subject(instance: Instance, releases: Mapping[int, Release], images: Mapping[Digest, Image | None]) -> Subject:
    release = releases[instance.release]
    return Subject(instance=instance, release=release_of(instance, release), image=images.get(release.image))


def _not_here(store: Store, wanted: Set[Digest], find_image: FindImage) -> Mapping[Digest, Image | None]:
    """Return the images that the store has not got; None of one that nobody finds now, of which less is told."""
    found: dict[Digest, Image | None] = {}
    for digest in sorted(store.unknown(wanted)):
        found[digest] = None
        with contextlib.suppress(InstarError):
            found[digest] = find_image(digest)
    return found


def _blob(store: Store, hashed_files: HashedFiles, blob: Digest) -> Finding | None:
    """Read a blob, and say whether it is in the store as it was baked: nothing runs from there, but what is launched
    next is made of it where its layers are not mounted yet."""
    try:
        with hashed_files.sealing(store.path(blob)):
            store.verify(blob)
    except (OSError, StoreError) as error:
        return _damaged(f"blob {blob}", _said(error))
    return None


def _unindexed(store: Store, wanted: Set[Digest]) -> Iterator[Damage]:
    """Yield what is wrong with the store's index: an image that it doesn't name can't be launched again."""
    try:
        unknown = store.unknown(wanted)
    except (StoreError, OSError) as error:
        yield _damaged("the store's index", _said(error)), wanted
        return
    for digest in sorted(unknown):
        yield _damaged(f"image {digest}", "the store's index has it no more"), {digest}


def _said(error: StoreError | OSError) -> str:
    return error.message if isinstance(error, StoreError) else error.strerror or str(error)


def _damaged(path: str, observed: str) -> Finding:
    return Finding(instance=None, kind="blob", path=path, expected="as it was baked", observed=observed)


def _network(
    provider: Provider, state: EnvironmentState, releases: Sequence[Release], *, at_rest: bool
) -> Iterator[Finding]:
    if provider.networks is None:
        return
    yield from provider.networks.inspect_network()
    there = provider.networks.network_plan(state.id)
    if at_rest and there is not None:
        wanted = NetworkPlan.of(state.id, state.settings, releases)
        for one, other in zip(_reach(wanted), _reach(there), strict=True):
            if one != other:
                yield Finding(instance=None, kind="network", path=one[0], expected=one[1], observed=other[1])


def _reach(plan: NetworkPlan) -> Iterator[tuple[str, str]]:
    """Yield what each key of the definition says of a plan."""
    allowed = (f"{one.to} at {', '.join(one.ports)}" if one.ports else one.to for one in plan.network.allow)
    connections = plan.network.connections
    yield "network.allow", "; ".join(allowed) or "nothing"
    share = "a sixteenth of what the machine can remember"
    yield "network.connections", share if connections is None else str(connections)
    yield "listen, for instances of others", ", ".join(plan.listen) or "nothing"


def _edge(provider: Provider, state: EnvironmentState, *, at_rest: bool) -> Iterator[Finding]:
    """Yield what is wrong with the machine's edge, of an environment that is reached through it."""
    wanted = state.settings.names.only(state.names.held)
    if provider.edge is None or state.active is None or not (wanted.sites or state.names.expected):
        return
    try:
        found = provider.edge.inspect()
        passed = provider.edge.passed(state.id)
    except (RouterError, EnvironmentBusy) as error:
        yield from _unseen("edge", error) if at_rest else ()
        return
    yield from found
    names = HostNames() if passed is None else passed.names
    if at_rest and not found and names != wanted:
        shown = [", ".join(one.sites) or "none" for one in (wanted, names)]
        observed = shown[1] if shown[0] != shown[1] else "the same, otherwise"
        yield Finding(instance=None, kind="router", path="edge: its names", expected=shown[0], observed=observed)


def _maintenance(ledger: Ledger, provider: Provider, state: EnvironmentState) -> Iterator[Finding]:
    """Yield where it is in maintenance otherwise than was said, unless it was said just now: it is done after that, and
    holds nothing."""
    now, found = ledger.find_environment(state.id), list[Finding]()
    if now is None or (now.maintenance.since is not None and ledger.now() - now.maintenance.since < _UNDER_WAY):
        return
    try:
        found += maintenance_differences(provider, now)
    except (RouterError, EnvironmentBusy) as error:
        found += _unseen("maintenance", error)
    after = ledger.find_environment(state.id)
    if after is not None and after.maintenance == now.maintenance:
        yield from found


def _router(
    ledger: Ledger,
    provider: Provider,
    state: EnvironmentState,
    instances: Sequence[Instance],
    releases: Mapping[int, Release],
    *,
    at_rest: bool,
) -> Iterator[Finding]:
    """Yield what is wrong with the router; each look that fails is a finding, unless somebody changes it just now."""
    found: list[Finding] = []
    inspects = require(provider.inspects, f"inspect the router of '{state.id}'")
    try:
        found += inspects.inspect_router(state.id)
    except (RouterError, EnvironmentBusy) as error:
        found += _unseen("router", error) if at_rest else ()
    yield from found
    try:
        router = inspects.router(state.id)
        if not at_rest:
            there = routed_of(_that_are_there(ledger, instances), releases)
            yield from misled(inspects.targets(there, ports(releases.values())), router)
            return
        routed = routed_of(instances, releases)
        yield from compare(state, routed, inspects.targets(routed, ports(releases.values())), router)
        if not router.running and not found and _is_missed(ledger, provider, state, releases):
            yield Finding(instance=None, kind="router", path="HAProxy", expected="it runs", observed="nothing runs")
    except (RouterError, EnvironmentBusy) as error:
        yield from () if found or not at_rest else _unseen("traffic", error)  # what was found says why


def _that_are_there(ledger: Ledger, instances: Sequence[Instance]) -> list[Instance]:
    """Return those of ``instances`` that nobody has replaced since they were read."""
    there = {(one.id, one.serial) for one in ledger.instances(instances[0].environment)} if instances else set()
    return [one for one in instances if (one.id, one.serial) in there]


def _unseen(path: str, error: InstarError) -> tuple[Finding, ...]:
    expected = "it can be looked at"
    return (Finding(instance=None, kind="router", path=path, expected=expected, observed=error.message),)


def _is_missed(ledger: Ledger, provider: Provider, state: EnvironmentState, releases: Mapping[int, Release]) -> bool:
    """Tell whether something runs that should have traffic, and can have none."""
    instances = [one for one in ledger.instances(state.id) if one.task is None and one.started_at is not None]
    active = [one for one in instances if one.release == state.active and one.release in releases]
    routed = bool(active) and state.settings.is_reached and releases[active[0].release].service.port is not None
    return routed and any(one.state == "running" for one in provider.observe(state.id, active).groups)
