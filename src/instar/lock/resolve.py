"""Definition → Lock: what moved is resolved anew, the rest stays as it was locked."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.definition.parts import ImagePart, image_of, parts_of
from instar.errors import FetchError, LockMissing, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.requirements import normal_name
from instar.lock.fit import platforms_of
from instar.lock.part import FindBase, PartToLock
from instar.lock.part_resolution import resolve_part
from instar.model.architectures import architecture_of
from instar.model.lock import (
    BAKE_FORMATS,
    BASE,
    Lock,
)
from instar.model.progress import Progress, Report
from instar.model.sizes import size_text

if TYPE_CHECKING:
    from instar.definition import Loaded
    from instar.ecosystems.protocol import OpenSandbox

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
    resolution = _Resolution(
        loaded=loaded,
        cache=Cache(cache_dir),
        previous=previous,
        keeps_versions=update != "all",
        freed=_freed(previous, update),
        report=report,
        anew=anew,
        find_base=find_base,
        open_sandbox=open_sandbox,
    )
    first, *others = platforms_of(loaded)
    lock = resolution.lock(first)
    lock = replace(
        lock,
        id=previous.id if previous and previous.id else secrets.token_hex(16),
        platforms={platform: resolution.lock(platform, lock) for platform in others},
    )
    report(Progress(stage="lock", text=_summary(lock, time.monotonic() - begun)))
    return lock


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resolution:
    """What is asked for, of all platforms and parts. ``keeps_versions``: those of ``previous``, but for ``freed``."""

    loaded: Loaded
    cache: Cache
    previous: Lock | None
    keeps_versions: bool
    freed: frozenset[str]
    report: Report
    anew: bool
    find_base: FindBase | None
    open_sandbox: OpenSandbox | None

    def lock(self, platform: str, first: Lock | None = None) -> Lock:
        """Return what is locked for a platform; ``first`` is what is for the first one, where this is another."""
        with _naming_platform(platform, self.loaded):
            there = _locked_once(first, self.loaded)
            own = dict[str, Lock]()
            for part in parts_of(self.loaded):
                if part.stage is not None and part.stage not in there:
                    own[part.stage] = resolve_part(self._wanted(part, platform, first), {**there, **own})
            image = self._wanted(image_of(self.loaded), platform, first)
            return replace(resolve_part(image, {**there, **own}), build=own)

    def _wanted(self, part: ImagePart, platform: str, first: Lock | None) -> PartToLock:
        architecture = architecture_of(part.made.platform or platform)
        before = _part_before(self.previous, part, platform)
        return PartToLock(
            part=part.for_platform(platform),
            architecture=architecture,
            before=before,
            kept=_same_base(before, part, architecture) if self.keeps_versions else None,
            alike=_same_base(_part_of(first, part), part) if first else None,
            freed=self.freed,
            cache=self.cache,
            report=self.report,
            anew=self.anew,
            find_base=self.find_base,
            open_sandbox=self.open_sandbox,
        )


@contextlib.contextmanager
def _naming_platform(platform: str, loaded: Loaded) -> Iterator[None]:
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


def _summary(lock: Lock, seconds: float) -> str:
    locks = [each for one in lock.whole for each in (one, *one.build.values())]
    packages = {one.sha256: one.size_bytes for each in locks for one in each.packages}
    count = len({one.sha256 for each in locks for one in each.wheels})
    wheels = f" · {count} wheels" if count else ""
    others = Counter(name for name, *_ in {one.order for each in locks for one in each.artifacts})
    named = "".join(f" · {count} of {name}" for name, count in sorted(others.items()))
    platforms = f" · {len(lock.whole)} platforms" if lock.platforms else ""
    return f"{len(packages)} packages ({size_text(sum(packages.values()))}){wheels}{named}{platforms} · {seconds:.1f} s"
