"""Definition → Lock: what moved is resolved anew, the rest stays as it was locked."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.errors import LockMissing, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.requirements import Requirement, normal_name
from instar.lock.debian import PYTHON, resolve_packages, wanted_packages
from instar.lock.fit import host_architecture, requested, requirements_of
from instar.model.lock import BAKE_FORMAT, Lock, Package, Suite, Wheel
from instar.model.progress import Progress, Report

if TYPE_CHECKING:
    from instar.definition import Loaded

Update = frozenset[str] | Literal["all"] | None


def resolve(loaded: Loaded, cache_dir: Path, previous: Lock | None, update: Update, report: Report) -> Lock:
    """Return a lock that fits ``loaded``.

    What ``previous`` has is kept as far as it still exists and fits, except what ``update`` names (packages or
    wheels; "all" keeps nothing). A ``previous`` that fits, without ``update``, is returned as it is, and no network
    is touched; but a lock from before projects had an id gets one.

    Raises:
        ResolveError: no packages or wheels satisfy the definition; says which line.
        DefinitionError: the requirements file is missing or malformed.
        LockMissing: ``update`` names something, and there is no ``previous``.
        SourceUnreachable: an archive or the index does not answer.
    """
    begun = time.monotonic()
    requirements = requirements_of(loaded)
    freed = _freed(previous, update)
    kept = None if update == "all" else _same_platform(previous, loaded)
    cache = Cache(cache_dir)
    suites, packages = _packages(loaded, kept, freed, cache, report)
    python = _python_version(packages) if loaded.definition.image.python is not None else None
    wheels = _wheels(loaded, requirements, packages, python, kept, freed, cache, report)
    lock = Lock(
        bake_format=BAKE_FORMAT,
        architecture=host_architecture(),
        requested=requested(loaded, requirements),
        suites=suites,
        packages=packages,
        python=python,
        wheels=wheels,
        id=previous.id if previous and previous.id else secrets.token_hex(16),
    )
    report(Progress(stage="lock", text=_summary(lock, time.monotonic() - begun)))
    return lock


def _freed(previous: Lock | None, update: Update) -> frozenset[str]:
    """Return the names that may move, as packages and as wheels have them."""
    if update is None or update == "all":
        return frozenset()
    if previous is None:
        raise LockMissing("cannot update a lock: there is none", hint="make one: instar lock")
    packages = {package.name for package in previous.packages}
    wheels = {wheel.name for wheel in previous.wheels}
    unknown = sorted(name for name in update if name not in packages and normal_name(name) not in wheels)
    if unknown:
        raise ResolveError(
            f"cannot update '{unknown[0]}': it is not in the lock",
            hint="name a package or a wheel that is, or none to update all of them",
        )
    return frozenset((*update, *(normal_name(name) for name in update)))


def _same_platform(previous: Lock | None, loaded: Loaded) -> Lock | None:
    """Return ``previous`` if its versions mean anything here: the same release, architecture and bake format."""
    if previous is None or previous.architecture != host_architecture() or previous.bake_format != BAKE_FORMAT:
        return None
    return previous if previous.requested.base == loaded.definition.image.base else None


def _packages(
    loaded: Loaded, kept: Lock | None, freed: frozenset[str], cache: Cache, report: Report
) -> tuple[tuple[Suite, ...], tuple[Package, ...]]:
    image, place = loaded.definition.image, loaded.places.place_text
    python_place = place("image", "python") if image.python is not None else None
    wanted = wanted_packages(image.packages, lambda number: place("image", "packages", number), python_place)
    if kept is not None and not freed & {package.name for package in kept.packages}:
        before = wanted_packages(kept.requested.packages, lambda number: "", "" if kept.python is not None else None)
        if {one.text for one in before} == {one.text for one in wanted}:
            return kept.suites, kept.packages
    report(Progress(stage="lock", text=f"{image.base} · {len(wanted)} named", kind="running"))
    versions = {package.name: package.version for package in kept.packages} if kept is not None else {}
    keep = {name: version for name, version in versions.items() if name not in freed}
    return resolve_packages(image.base, place("image", "base"), wanted, host_architecture(), cache, keep)


def _wheels(
    loaded: Loaded,
    requirements: Sequence[Requirement],
    packages: Sequence[Package],
    python: str | None,
    kept: Lock | None,
    freed: frozenset[str],
    cache: Cache,
    report: Report,
) -> tuple[Wheel, ...]:
    if python is None or not requirements:
        return ()
    glibc = _glibc_minor(packages)
    if kept is not None and kept.python == python and _glibc_minor(kept.packages) == glibc:
        wishes = {one.written for one in requirements} == set(kept.requested.requirements)
        if wishes and not freed & {wheel.name for wheel in kept.wheels}:
            return kept.wheels
    from instar.fetch.python import Target, solve_wheels

    report(Progress(stage="lock", text=f"{loaded.definition.image.python} · {len(requirements)} named", kind="running"))
    target = Target(python=python, architecture=host_architecture(), glibc_minor=glibc)
    previous = kept.wheels if kept is not None else ()
    return solve_wheels(requirements, target, cache, previous=previous, update=freed)


def _python_version(packages: Sequence[Package]) -> str:
    """Return "3.11" for Debian's python3 3.11.2-1."""
    return ".".join(_version_parts(packages, PYTHON))


def _glibc_minor(packages: Sequence[Package]) -> int:
    return int(_version_parts(packages, "libc6")[1])


def _version_parts(packages: Sequence[Package], name: str) -> tuple[str, str]:
    for package in packages:
        match = re.match(r"(?:\d+:)?(\d+)\.(\d+)", package.version) if package.name == name else None
        if match:
            return match[1], match[2]
    raise ResolveError(f"cannot lock wheels: the packages have no '{name}'")


def _summary(lock: Lock, seconds: float) -> str:
    size_bytes = sum(package.size_bytes for package in lock.packages)
    wheels = f" · {len(lock.wheels)} wheels" if lock.wheels else ""
    return f"{len(lock.packages)} packages ({size_bytes / 1e6:.1f} MB){wheels} · {seconds:.1f} s"
