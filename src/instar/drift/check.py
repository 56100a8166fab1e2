"""One check of one environment, put together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from instar.drift.rules import Ignored, sort_out
from instar.drift.traffic import compare
from instar.errors import BlobDamaged, EnvironmentBusy, ImageNotFound, RouterError, StoreError
from instar.host.seals import Seals
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.image import Image
from instar.model.release import EnvironmentState, Instance, Release
from instar.providers.base import Provider, Subject
from instar.store import Store

Damage = tuple[Finding, Set[Digest]]  # and the images that it is about


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a check found. ``at_rest``: nobody acted on the environment meanwhile, so the router's traffic was held
    against the ledger too. ``instances``: those that were looked at."""

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
    seals: Seals,
    provider: Provider,
    state: EnvironmentState,
    *,
    instance: str | None = None,
    deep: bool = False,
    at_rest: bool = False,
) -> Checked:
    """Check all instances of an environment (or one), and its router. Raises LedgerError, HostError, RouterError.

    ``state`` is read anew: something may have moved since. What went during the check has no findings.
    """
    place = state.place
    state = ledger.find_environment(place) or state
    instances = [one for one in ledger.instances(place) if one.task is None and one.process is not None]
    releases = {number: ledger.get_release(place, number) for number in {one.release for one in instances}}
    images, damaged = _images(store, seals, releases.values(), deep=deep)
    subjects = [
        Subject(instance=one, release=releases[one.release], image=images[releases[one.release].image])
        for one in instances
        if releases[one.release].image in images and instance in (None, one.id)
    ]
    found = provider.runtime.inspect(subjects, deep=deep)
    findings = [*_that_stay(ledger, instances, releases, found, damaged)] if found or damaged else []
    findings += _router(provider, state, instances, releases, at_rest=at_rest)
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
    there = {(one.id, one.serial) for one in ledger.instances(instances[0].place)}
    stayed = [one for one in instances if (one.id, one.serial) in there]
    used, names = {releases[one.release].image for one in stayed}, {one.id for one in stayed}
    yield from (finding for finding, users in damaged if users & used)
    yield from (finding for finding in found if finding.instance in names)


def _images(
    store: Store, seals: Seals, releases: Iterable[Release], *, deep: bool
) -> tuple[dict[Digest, Image], list[Damage]]:
    images: dict[Digest, Image] = {}
    damage: list[Damage] = []
    users: dict[Digest, set[Digest]] = {}
    for digest in {release.image for release in releases}:
        try:
            images[digest] = store.image(digest)
        except (BlobDamaged, ImageNotFound, StoreError) as error:
            damage.append((_damaged(f"image {digest}", error.message), {digest}))
        else:
            for layer in images[digest].layers:
                users.setdefault(layer.digest, set()).add(digest)
    stale = [blob for blob in users if deep or not seals.holds(store.path(blob))]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:  # which begins none where none is needed
        for blob, finding in zip(stale, threads.map(lambda blob: _blob(store, seals, blob), stale), strict=True):
            if finding is not None:
                damage.append((finding, users[blob]))
    return images, damage


def _blob(store: Store, seals: Seals, blob: Digest) -> Finding | None:
    """Read a blob, and say whether it is in the store as it was baked: nothing runs from there, but what is launched
    next is made of it where its layers are not mounted yet."""
    try:
        with seals.sealing(store.path(blob)):
            store.verify(blob)
    except OSError as error:
        return _damaged(f"blob {blob}", error.strerror or str(error))
    except StoreError as error:
        return _damaged(f"blob {blob}", error.message)
    return None


def _damaged(path: str, observed: str) -> Finding:
    return Finding(instance=None, kind="blob", path=path, expected="as it was baked", observed=observed)


def _router(
    provider: Provider,
    state: EnvironmentState,
    instances: Sequence[Instance],
    releases: Mapping[int, Release],
    *,
    at_rest: bool,
) -> Iterator[Finding]:
    try:
        found = provider.router.inspect(state.place)
        yield from found
        if at_rest and not found:
            yield from compare(state, instances, releases, provider.router.observe(state.place))
    except (RouterError, EnvironmentBusy) as error:
        if at_rest:  # else somebody changes it just now
            expected = "it can be looked at"
            yield Finding(instance=None, kind="router", path="router", expected=expected, observed=error.message)
