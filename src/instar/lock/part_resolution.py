"""What one part of a definition is locked to, on one platform: the image, or a stage of its build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from instar.definition.parts import ImagePart
from instar.errors import FetchError, ResolveError
from instar.fetch.requirements import Requirement
from instar.fetch.target import WheelTarget, version_parts
from instar.lock.archives import archives_of, require_no_older
from instar.lock.artifacts import lock_artifacts, with_resolved
from instar.lock.beneath import Beneath, looks_beneath, python_version
from instar.lock.debian import DebianRelease, resolve_packages
from instar.lock.fit import requested, requirements_of
from instar.lock.ground import groundless_packages, groundless_wheels, missing_packages, missing_wheels
from instar.lock.over import still_wanted
from instar.lock.part import PartToLock
from instar.lock.wanted import wanted_of, wanted_packages
from instar.model.base import find_oci, is_debian, without_kind
from instar.model.lock import (
    BAKE_FORMAT,
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

Entry = TypeVar("Entry", Package, Wheel)


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


def resolve_part(wanted: PartToLock, stages: Mapping[str, Lock]) -> Lock:
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

    if kept is None or _is_other(wanted, kept, requirements, target, built):
        return solve()
    return _explained(kept.wheels, solve)


def _is_other(
    wanted: PartToLock, kept: Lock, requirements: Sequence[Requirement], target: WheelTarget, built: Sequence[Wheel]
) -> bool:
    """Tell whether other wheels than the ``kept`` ones may be asked for now."""
    if wanted.anew or wanted.freed & {wheel.name for wheel in kept.wheels}:
        return True
    if kept.python is None or WheelTarget.of(kept.python, kept.architecture, kept.all_packages) != target:
        return True
    now = requested(wanted.part, requirements)
    if (set(now.requirements), now.indexes) != (set(kept.requested.requirements), kept.requested.indexes):
        return True
    if [wheel.sha256 for wheel in built] != [wheel.sha256 for wheel in kept.wheels if wheel.built]:
        return True
    return bool(groundless_wheels(kept, requirements) or missing_wheels(kept, requirements))


def _python_version(packages: Sequence[Package | InstalledPackage], installed: Installed | None) -> str:
    """Return "3.11" for Debian's python3 3.11.2-1."""
    if installed is not None and installed.python is not None:
        return python_version(installed.python)
    major, minor = version_parts(packages, PYTHON)
    return f"{major}.{minor}"
