"""Definition → Lock: what moved is resolved anew, the rest stays as it was locked."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from instar.definition.parts import ImagePart, image_of, parts_of
from instar.errors import FetchError, LockMissing, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.requirements import Requirement, normal_name
from instar.fetch.target import WheelTarget, version_parts
from instar.lock.archives import archives_of, require_no_older
from instar.lock.artifacts import lock_artifacts, with_resolved
from instar.lock.beneath import Beneath, looks_beneath, python_version
from instar.lock.debian import DebianRelease, resolve_packages
from instar.lock.fit import platforms_of, requested, requirements_of
from instar.lock.ground import groundless_packages, groundless_wheels, missing_packages, missing_wheels
from instar.lock.over import still_wanted
from instar.lock.part import FindBase, PartToLock
from instar.lock.wanted import wanted_of, wanted_packages
from instar.model.architectures import architecture_of
from instar.model.base import find_oci, is_debian, without_kind
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
    from instar.ecosystems.protocol import OpenSandbox

Entry = TypeVar("Entry", Package, Wheel)
Update = frozenset[str] | Literal["all"] | None


def resolve(
    loaded: Loaded,
    cache_dir: Path,
    previous: Lock | None,
    update: Update,
    report: Report,
    *,
    anew: bool = False,
    find_base: FindBase | None = None,
    open_sandbox: OpenSandbox | None = None,
) -> Lock:
    """Return a lock that fits ``loaded``, with a part for each of its platforms.

    What ``previous`` has is kept as far as it still exists and fits, except what ``update`` names (packages, wheels, or
    "base"; "all" keeps nothing). A ``previous`` that fits, without ``update``, is returned as it is, and no network
    is touched, unless ``anew``; but a lock from before version 2 gets an id, and why its entries are there. A stage
    that is new has the versions that the image has, and a platform those of the first, where it has these.

    Raises:
        ResolveError: no packages or wheels satisfy the definition; says which line, and for which platform.
        DefinitionError: the requirements file is missing or malformed.
        LockMissing: ``update`` names something, and there is no ``previous``.
        SourceUnreachable: an archive or the index does not answer.
    """
    begun = time.monotonic()
    freed = _freed(previous, update)
    cache = Cache(cache_dir)

    def wanted(part: ImagePart, platform: str, first: Lock | None) -> PartToLock:
        architecture, before = architecture_of(part.made.platform or platform), _part_before(previous, part, platform)
        return PartToLock(
            part=part.for_platform(platform),
            architecture=architecture,
            before=before,
            kept=None if update == "all" else _same_base(before, part, architecture),
            alike=_same_base(_part_of(first, part), part) if first else None,
            freed=freed,
            cache=cache,
            report=report,
            anew=anew,
            find_base=find_base,
            open_sandbox=open_sandbox,
        )

    def locked(platform: str, first: Lock | None = None) -> Lock:
        with _told_of(platform, loaded):
            there = _locked_once(first, loaded)
            own = dict[str, Lock]()
            for part in parts_of(loaded):
                if part.stage is not None and part.stage not in there:
                    own[part.stage] = _resolve_part(wanted(part, platform, first), {**there, **own})
            return replace(_resolve_part(wanted(image_of(loaded), platform, first), {**there, **own}), build=own)

    first, *others = platforms_of(loaded)
    lock = locked(first)
    lock = replace(
        lock,
        id=previous.id if previous and previous.id else secrets.token_hex(16),
        platforms={platform: locked(platform, lock) for platform in others},
    )
    report(Progress(stage="lock", text=_summary(lock, time.monotonic() - begun)))
    return lock


@contextlib.contextmanager
def _told_of(platform: str, loaded: Loaded) -> Iterator[None]:
    """Have what cannot be locked say for which platform, where there may be several."""
    try:
        yield
    except (ResolveError, FetchError) as error:
        if loaded.definition.image.platforms and platform not in error.message:
            line, end, rest = error.message.partition("\n")
            error.message = f"{line} (for {platform}){end}{rest}"
        raise


def _locked_once(first: Lock | None, loaded: Loaded) -> dict[str, Lock]:
    """Return what is locked, with the ``first`` platform, for the stages that have a platform of their own."""
    build = loaded.definition.build
    return {name: one for name, one in (first.build if first else {}).items() if build[name].platform is not None}


def _part_of(lock: Lock, part: ImagePart) -> Lock:
    """Return what is locked for a part; of a stage that is new, what is for the image."""
    return lock if part.stage is None else lock.build.get(part.stage, lock)


def _part_before(previous: Lock | None, part: ImagePart, platform: str) -> Lock | None:
    """Return what was locked for a part on a platform; of one that is new, on another."""
    return None if previous is None else _part_of(previous.find_platform(platform) or previous, part)


def _base(wanted: PartToLock) -> BaseImage | None:
    """Return the image of others that the part stands on: the one that is locked, or what its name stands for now."""
    asked = find_oci(wanted.part.made.base)
    if asked is None:
        return None
    locked = wanted.kept.base if wanted.kept is not None and BASE not in wanted.freed else None
    if locked is not None and not wanted.anew:
        return locked
    known = locked or (wanted.alike.base if wanted.alike is not None else None)
    if known is not None and (locked is not None or known.index is not None):
        asked = replace(asked, tag=None, digest=known.index or known.digest)
    finder = wanted.finder
    wanted.say(without_kind(wanted.part.made.base))
    return finder(wanted.part, asked, wanted.architecture)


def _resolve_part(wanted: PartToLock, stages: Mapping[str, Lock]) -> Lock:
    """Return what is locked for the image or for a stage, without what belongs to the whole; ``stages``: what is locked
    for those that stand above."""
    part, base = wanted.part, _base(wanted)
    below = wanted.finder.beneath(part, base, wanted.architecture) if looks_beneath(part.made) else None
    requirements, installed = requirements_of(part), below.installed if below is not None else None
    suites, packages = _packages(wanted, below)
    there: list[Package | InstalledPackage] = [*(installed.packages if installed is not None else ()), *packages]
    python = _python_version(there, installed) if part.made.python is not None else None
    wheels = _wheels(wanted, requirements, there, python, stages)
    known = wanted.before.artifacts if wanted.before is not None else ()
    artifacts = lock_artifacts(part, known, wanted.architecture, wanted.cache, wanted.report)
    require_no_older(wanted.before, suites, archives_of(part))
    lock = Lock(
        bake_format=BAKE_FORMAT,
        architecture=wanted.architecture,
        requested=requested(part, requirements),
        suites=suites,
        packages=packages,
        python=python,
        wheels=wheels,
        artifacts=artifacts,
        base=base,
        installed=installed,
    )
    return with_resolved(part, lock, wanted.kept, stages, wanted.cache, wanted.open_sandbox, wanted.report)


def _nothing_to_bring() -> None:
    pass


def _freed(previous: Lock | None, update: Update) -> frozenset[str]:
    """Return the names that may move, as packages and as wheels have them."""
    if update is None or update == "all":
        return frozenset()
    if previous is None:
        raise LockMissing("cannot update a lock: there is none", hint="make one: instar lock")
    locks = [each for one in previous.whole for each in (one, *one.build.values())]
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


def _same_base(previous: Lock | None, part: ImagePart, architecture: str | None = None) -> Lock | None:
    """Return ``previous`` if its versions mean anything here: the same release, a known bake format, and the
    ``architecture``, where that is asked for."""
    if previous is None or previous.bake_format not in BAKE_FORMATS or previous.requested.base != part.made.base:
        return None
    return previous if architecture in (None, previous.architecture) else None


def _packages(wanted: PartToLock, below: Beneath | None) -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
    part, kept, named = wanted.part, wanted.kept, wanted_of(wanted.part)
    made = part.made
    if below is not None:
        named = still_wanted(part, named, below)
    if not is_debian(made.base) and not named:
        return (), ()
    base = below.installed.release if below is not None else made.base

    def solve() -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
        wanted.say(f"{base} · {len(named)} named")
        release = DebianRelease(base=base, place=part.place("base"), suites=made.suites, archives=archives_of(part))
        suites, packages = resolve_packages(release, named, wanted.architecture, wanted.cache, wanted.versions(), below)
        for text in _renamed(kept.suites if kept is not None else (), suites):
            wanted.warn(text)
        return suites, packages

    moved = (
        kept is None
        or not _asks_the_same(kept, part)
        or wanted.freed & {one.name for one in kept.packages}
        or (below is not None and kept.installed != below.installed)
    )
    if kept is None or moved or wanted.anew or groundless_packages(kept, named) or missing_packages(kept, named):
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


def _built(
    wanted: PartToLock, requirements: Sequence[Requirement], target: WheelTarget, stages: Mapping[str, Lock]
) -> tuple[tuple[Wheel, ...], Callable[[], None]]:
    """Return the wheels that are built from source, and what brings those that were built before to the cache."""
    if not wanted.part.made.from_source:
        return (), _nothing_to_bring
    from instar.lock.from_source import bring_built, build_wheels

    kept = wanted.kept.wheels if wanted.kept is not None else ()
    before = {wheel.name: wheel for wheel in kept if wheel.name not in wanted.freed}
    cache, open_sandbox = wanted.cache, wanted.open_sandbox
    built = build_wheels(wanted.part, requirements, target, stages, before, cache, open_sandbox, wanted.report)
    return built, partial(bring_built, wanted.part, built, stages, cache, open_sandbox)


def _wheels(
    wanted: PartToLock,
    requirements: Sequence[Requirement],
    packages: Sequence[Package | InstalledPackage],
    python: str | None,
    stages: Mapping[str, Lock],
) -> tuple[Wheel, ...]:
    if python is None or not requirements:
        return ()
    part, kept = wanted.part, wanted.kept
    target = WheelTarget.of(python, wanted.architecture, packages)
    built, bring = _built(wanted, requirements, target, stages)

    def solve() -> tuple[Wheel, ...]:
        from instar.fetch.own_wheels import bring_own_files
        from instar.fetch.python import solve_wheels

        bring()
        own = [(one.path, one.hashes[0]) for one in requirements if one.path]
        bring_own_files(own, part.loaded.folder, wanted.cache)
        wanted.say(f"{part.made.python} · {len(requirements)} named")
        return solve_wheels(
            requirements,
            target,
            wanted.cache,
            previous=wanted.wheels(),
            update=wanted.freed if wanted.alike is None else None,
            warn=wanted.warn,
            sources=part.made.indexes,
            built=built,
        )

    moved = (
        kept is None
        or kept.python is None
        or WheelTarget.of(kept.python, kept.architecture, kept.all_packages) != target
    )
    if kept is None or moved or wanted.anew or wanted.freed & {wheel.name for wheel in kept.wheels}:
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
    locks = [each for one in lock.whole for each in (one, *one.build.values())]
    packages = {one.sha256: one.size_bytes for each in locks for one in each.packages}
    count = len({one.sha256 for each in locks for one in each.wheels})
    wheels = f" · {count} wheels" if count else ""
    others = Counter(name for name, *_ in {one.order for each in locks for one in each.artifacts})
    named = "".join(f" · {count} of {name}" for name, count in sorted(others.items()))
    platforms = f" · {len(lock.whole)} platforms" if lock.platforms else ""
    return f"{len(packages)} packages ({size_text(sum(packages.values()))}){wheels}{named}{platforms} · {seconds:.1f} s"
