"""Definition → Lock: what moved is resolved anew, the rest stays as it was locked."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from instar.definition.parts import ImagePart, image_of, parts_of
from instar.errors import FetchError, LockMissing, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.requirements import Requirement, normal_name
from instar.fetch.target import WheelTarget, version_parts
from instar.lock.archives import archives_of, require_no_older
from instar.lock.artifacts import lock_artifacts
from instar.lock.beneath import Beneath, looks_beneath, python_version
from instar.lock.debian import DebianRelease, resolve_packages
from instar.lock.fit import host_architecture, requested, requirements_of
from instar.lock.ground import groundless_packages, groundless_wheels, missing_packages, missing_wheels
from instar.lock.over import still_wanted
from instar.lock.wanted import wanted_of, wanted_packages
from instar.model.base import OciBase, find_oci, is_debian, without_kind
from instar.model.lock import (
    BAKE_FORMAT,
    BAKE_FORMATS,
    BASE,
    PYTHON,
    BaseImage,
    Installed,
    InstalledPackage,
    Lock,
    Package,
    Suite,
    Wheel,
)
from instar.model.progress import Progress, Report
from instar.model.sizes import size_text

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.ecosystems.protocol import OpenBench

Entry = TypeVar("Entry", Package, Wheel)
Update = frozenset[str] | Literal["all"] | None


class FindBase(Protocol):
    """Who knows the images that others stand on. Raises LockError, FetchError, StoreError."""

    def __call__(self, part: ImagePart, wanted: OciBase, /) -> BaseImage:
        """Return what a lock holds of an image of others."""

    def beneath(self, part: ImagePart, base: BaseImage | None, /) -> Beneath:
        """Return what the image that a part stands on has installed; ``base``: the one of others that it is."""


def resolve(
    loaded: Loaded,
    cache_dir: Path,
    previous: Lock | None,
    update: Update,
    report: Report,
    *,
    anew: bool = False,
    find_base: FindBase | None = None,
    open_bench: OpenBench | None = None,
) -> Lock:
    """Return a lock that fits ``loaded``.

    What ``previous`` has is kept as far as it still exists and fits, except what ``update`` names (packages, wheels, or
    "base"; "all" keeps nothing). A ``previous`` that fits, without ``update``, is returned as it is, and no network
    is touched, unless ``anew``; but a lock from before version 2 gets an id, and why its entries are there. A stage
    that is new has the versions that the image has.

    Raises:
        ResolveError: no packages or wheels satisfy the definition; says which line.
        DefinitionError: the requirements file is missing or malformed.
        LockMissing: ``update`` names something, and there is no ``previous``.
        SourceUnreachable: an archive or the index does not answer.
    """
    begun = time.monotonic()
    freed = _freed(previous, update)
    cache = Cache(cache_dir)

    def resolved(part: ImagePart) -> Lock:
        before = previous if part.stage is None or previous is None else previous.build.get(part.stage, previous)
        kept = None if update == "all" else _same_platform(before, part)
        base = _base(part, kept, freed, find_base, report, anew=anew)
        below = _require(find_base, part).beneath(part, base) if looks_beneath(part.made) else None
        found = _resolve_part(part, kept, below, freed, stages, cache, open_bench, report, anew=anew)
        known = before.artifacts if before is not None else ()
        found = replace(found, artifacts=lock_artifacts(part, known, host_architecture(), cache, report))
        require_no_older(before, found.suites, archives_of(part))
        return replace(found, base=base)

    stages: dict[str, Lock] = {}
    for part in parts_of(loaded):
        if part.stage is not None:
            stages[part.stage] = resolved(part)
    image = resolved(image_of(loaded))
    lock = replace(image, id=previous.id if previous and previous.id else secrets.token_hex(16), build=stages)
    report(Progress(stage="lock", text=_summary(lock, time.monotonic() - begun)))
    return lock


def _base(
    part: ImagePart, kept: Lock | None, freed: frozenset[str], find_base: FindBase | None, report: Report, *, anew: bool
) -> BaseImage | None:
    """Return the image of others that the part stands on: the one that is locked, or what its name stands for now."""
    wanted = find_oci(part.made.base)
    if wanted is None:
        return None
    locked = kept.base if kept is not None and BASE not in freed else None
    if locked is not None and not anew:
        return locked
    if locked is not None:
        wanted = replace(wanted, tag=None, digest=locked.index or locked.digest)
    find_base = _require(find_base, part)
    report(Progress(stage="lock", text=part.named(without_kind(part.made.base)), kind="running"))
    return find_base(part, wanted)


def _require(find_base: FindBase | None, part: ImagePart) -> FindBase:
    if find_base is None:
        raise ResolveError(f"{part.place('base')}: cannot look for an image: there is neither a store nor a registry")
    return find_base


def _resolve_part(
    part: ImagePart,
    kept: Lock | None,
    below: Beneath | None,
    freed: frozenset[str],
    stages: Mapping[str, Lock],
    cache: Cache,
    open_bench: OpenBench | None,
    report: Report,
    *,
    anew: bool,
) -> Lock:
    """Return what is locked for the image or for a stage, without what belongs to the whole."""
    requirements, installed = requirements_of(part), below.installed if below is not None else None
    suites, packages = _packages(part, kept, below, freed, cache, report, anew=anew)
    there: list[Package | InstalledPackage] = [*(installed.packages if installed is not None else ()), *packages]
    python = _python_version(there, installed) if part.made.python is not None else None
    built: tuple[Wheel, ...] = ()
    bring: Callable[[], None] = _nothing_to_bring
    if python is not None and part.made.from_source:
        from instar.lock.from_source import bring_built, build_wheels

        target = WheelTarget.of(python, host_architecture(), there)
        before = {wheel.name: wheel for wheel in (kept.wheels if kept else ()) if wheel.name not in freed}
        built = build_wheels(part, requirements, target, stages, before, cache, open_bench, report)
        bring = partial(bring_built, part, built, stages, cache, open_bench)
    return Lock(
        bake_format=BAKE_FORMAT,
        architecture=host_architecture(),
        requested=requested(part, requirements),
        suites=suites,
        packages=packages,
        python=python,
        installed=installed,
        wheels=_wheels(part, requirements, there, python, built, bring, kept, freed, cache, report, anew=anew),
    )


def _nothing_to_bring() -> None:
    pass


def _freed(previous: Lock | None, update: Update) -> frozenset[str]:
    """Return the names that may move, as packages and as wheels have them."""
    if update is None or update == "all":
        return frozenset()
    if previous is None:
        raise LockMissing("cannot update a lock: there is none", hint="make one: instar lock")
    locks = (previous, *previous.build.values())
    packages = {package.name for lock in locks for package in lock.packages}
    wheels = {wheel.name for lock in locks for wheel in lock.wheels}
    known = packages | {BASE for lock in locks if lock.base is not None}
    unknown = sorted(name for name in update if name not in known and normal_name(name) not in wheels)
    if unknown:
        other = next((one for lock in locks for one in lock.artifacts if one.name == unknown[0]), None)
        if other is not None:
            raise ResolveError(
                f"cannot update '{unknown[0]}': its version is what the lock file of {other.ecosystem} says",
                hint=f"change that with {other.ecosystem} itself, then: instar lock",
            )
        if any(unknown[0] in lock.installed.versions for lock in locks if lock.installed is not None):
            raise ResolveError(
                f"cannot update '{unknown[0]}': the base has it, and nothing of a base is changed over it",
                hint=f"of a definition below: instar lock --update {unknown[0]} -f FILE; of an image of others:"
                " instar lock --update base",
            )
        raise ResolveError(
            f"cannot update '{unknown[0]}': it is not in the lock",
            hint="name a package or a wheel that is ('base': the image below it), or none to update all of them",
        )
    return frozenset((*update, *(normal_name(name) for name in update)))


def _same_platform(previous: Lock | None, part: ImagePart) -> Lock | None:
    """Return ``previous`` if its versions mean anything here: the same release, architecture and known bake format."""
    if previous is None or previous.architecture != host_architecture() or previous.bake_format not in BAKE_FORMATS:
        return None
    return previous if previous.requested.base == part.made.base else None


def _packages(
    part: ImagePart,
    kept: Lock | None,
    below: Beneath | None,
    freed: frozenset[str],
    cache: Cache,
    report: Report,
    *,
    anew: bool,
) -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
    made, wanted = part.made, wanted_of(part)
    if below is not None:
        wanted = still_wanted(part, wanted, below)
    if not is_debian(made.base) and not wanted:
        return (), ()
    base = below.installed.release if below is not None else made.base

    def solve() -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
        report(Progress(stage="lock", text=part.named(f"{base} · {len(wanted)} named"), kind="running"))
        versions = {package.name: package.version for package in kept.packages} if kept is not None else {}
        keep = {name: version for name, version in versions.items() if name not in freed}
        release = DebianRelease(base=base, place=part.place("base"), suites=made.suites, archives=archives_of(part))
        suites, packages = resolve_packages(release, wanted, host_architecture(), cache, keep, below)
        for text in _renamed(kept.suites if kept is not None else (), suites):
            report(Progress(stage="lock", text=text, kind="warning"))
        return suites, packages

    moved = (
        kept is None
        or not _asks_the_same(kept, part)
        or freed & {one.name for one in kept.packages}
        or (below is not None and kept.installed != below.installed)
    )
    if kept is None or moved or anew or groundless_packages(kept, wanted) or missing_packages(kept, wanted):
        return solve()
    return kept.suites, _explained(kept.packages, lambda: solve()[1])


def _renamed(before: Sequence[Suite], now: Sequence[Suite]) -> Iterator[str]:
    """Yield what archives call themselves that they didn't: the lock's reviewers see it there, too."""
    then, found = _labels(before), _labels(now)
    for (archive, suite), labels in found.items():
        was = then.get((archive, suite), labels)
        if was != labels:
            what = f"the archive '{archive}'" if archive else f"the archive of '{suite}'"
            yield f"{what} calls itself '{', '.join(labels)}' now, and was '{', '.join(was)}'"


def _labels(suites: Sequence[Suite]) -> dict[tuple[str | None, str], list[str]]:
    found: dict[tuple[str | None, str], list[str]] = {}
    for one in suites:
        found[one.archive, one.suite] = sorted([*found.get((one.archive, one.suite), ()), one.label])
    return found


def _asks_the_same(kept: Lock, part: ImagePart) -> bool:
    wanted = wanted_of(part)
    if sorted(kept.requested.suites) != sorted(part.made.suites):
        return False
    if kept.requested.archives != tuple(one.requested for one in archives_of(part)):
        return False
    before = wanted_packages(kept.requested.packages, lambda number: "", "" if kept.python is not None else None)
    named = {one.name for one in wanted if one.archive}
    return {one.text for one in before if one.name not in named} == {one.text for one in wanted if not one.archive}


def _explained(kept: tuple[Entry, ...], solve: Callable[[], tuple[Entry, ...]]) -> tuple[Entry, ...]:
    """Return the entries of a lock that fits, with why they are there.

    One from before that was written down has none: it is found out where that can be done without any that moves.
    """
    if all(entry.why is not None for entry in kept):
        return kept
    try:
        found = solve()
    except (FetchError, ResolveError):
        return kept
    same = {(entry.name, entry.sha256) for entry in found} <= {(entry.name, entry.sha256) for entry in kept}
    return found if same else kept


def _wheels(
    part: ImagePart,
    requirements: Sequence[Requirement],
    packages: Sequence[Package | InstalledPackage],
    python: str | None,
    built: Sequence[Wheel],
    bring: Callable[[], None],
    kept: Lock | None,
    freed: frozenset[str],
    cache: Cache,
    report: Report,
    *,
    anew: bool,
) -> tuple[Wheel, ...]:
    if python is None or not requirements:
        return ()
    target = WheelTarget.of(python, host_architecture(), packages)

    def warn(text: str) -> None:
        report(Progress(stage="lock", text=text, kind="warning"))

    def solve() -> tuple[Wheel, ...]:
        from instar.fetch.own_wheels import bring_own_files
        from instar.fetch.python import solve_wheels

        bring()
        bring_own_files([(one.path, one.hashes[0]) for one in requirements if one.path], part.loaded.folder, cache)
        text = part.named(f"{part.made.python} · {len(requirements)} named")
        report(Progress(stage="lock", text=text, kind="running"))
        previous = kept.wheels if kept is not None else ()
        sources = part.made.indexes
        return solve_wheels(
            requirements, target, cache, previous=previous, update=freed, warn=warn, sources=sources, built=built
        )

    moved = (
        kept is None
        or kept.python is None
        or WheelTarget.of(kept.python, kept.architecture, kept.all_packages) != target
    )
    if kept is None or moved or anew or freed & {wheel.name for wheel in kept.wheels}:
        return solve()
    now = requested(part, requirements)
    if (set(now.requirements), now.indexes) != (set(kept.requested.requirements), kept.requested.indexes):
        return solve()
    if [wheel.sha256 for wheel in built] != [wheel.sha256 for wheel in kept.wheels if wheel.built]:
        return solve()
    if groundless_wheels(kept, requirements) or missing_wheels(kept, requirements):
        return solve()
    return _explained(kept.wheels, solve)


def _python_version(packages: Sequence[Package | InstalledPackage], installed: Installed | None) -> str:
    """Return "3.11" for Debian's python3 3.11.2-1."""
    if installed is not None and installed.python is not None:
        return python_version(installed.python)
    major, minor = version_parts(packages, PYTHON)
    return f"{major}.{minor}"


def _summary(lock: Lock, seconds: float) -> str:
    locks = (lock, *lock.build.values())
    packages = {one.sha256: one.size_bytes for each in locks for one in each.packages}
    count = len({one.sha256 for each in locks for one in each.wheels})
    wheels = f" · {count} wheels" if count else ""
    others = Counter(name for name, *_ in {one.order for each in locks for one in each.artifacts})
    named = "".join(f" · {count} of {name}" for name, count in sorted(others.items()))
    return f"{len(packages)} packages ({size_text(sum(packages.values()))}){wheels}{named} · {seconds:.1f} s"
