"""Every outside input of a bake, resolved to exact versions and hashes. Read and written by ``lock/``.

No host name is in a lock: a package is named by the label and suite of its archive and its path there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from instar.frozen import dataclass
from instar.model.architectures import platform_of
from instar.model.base import SCRATCH
from instar.model.digest import Digest
from instar.model.image import Layer

BAKE_FORMAT: Final = 2  # of the locks that are made now
BAKE_FORMATS: Final = (1, BAKE_FORMAT)  # that are baked: each gives the same bytes for ever, or refuses

EARLIEST_EPOCH: Final = 1_577_836_800  # 2020-01-01: of an image that no package and no base gives a later one

BASE: Final = "base"  # what the image that another stands on is called among packages and wheels
PYTHON = "python3"  # the package that comes with every definition that has wheels

Why: TypeAlias = str
"""Why an entry is there: :data:`ESSENTIAL`, :data:`ASKED`, or :func:`needed_by` another entry of its kind."""

ESSENTIAL: Why = "essential"  # of every Debian: a package of the base
ASKED: Why = "asked for"  # by the definition, or by the requirements file
_NEEDED = "needed by "


def needed_by(name: str) -> Why:
    return f"{_NEEDED}{name}"


def parent(why: Why) -> str | None:
    """Return the name of the entry that needs this one, None when it stands for itself."""
    return why.removeprefix(_NEEDED) if why.startswith(_NEEDED) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One suite of an archive, as its Release file was when the lock was made. ``date`` is Unix seconds.

    ``archive``: the definition's name of it, None of those that the base is from.
    """

    label: str
    suite: str
    date: int
    archive: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A Debian package. ``step`` says which layer it belongs to; ``path`` is below the archive's root."""

    name: str
    version: str
    architecture: str
    size_bytes: int
    sha256: Digest
    label: str
    suite: str
    path: str
    step: Literal["base", "packages"]
    why: Why | None = None  # None in a lock from before version 2
    archive: str | None = None  # the definition's name of it, None of those that the base is from


def package_order(package: Package) -> tuple[str, str]:
    return package.step, package.name


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceBuild:
    """What a wheel is built from: a source distribution, and in ``requires`` the wheels that building it takes.

    ``stage`` is where it is built; ``inputs`` the SHA-256 of what is locked for that.
    """

    stage: str
    inputs: Digest
    filename: str
    sha256: Digest
    requires: tuple[Wheel, ...]
    index: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """``path``: of one of the author's own, where it is in the definition's folder; ``built``: of one that no index
    has."""

    name: str
    version: str
    filename: str
    sha256: Digest
    why: Why | None = None
    index: str | None = None  # by the machine's name of it, None of the one that pip is configured for
    path: str | None = None
    built: SourceBuild | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A file of a package of another ecosystem: of npm, Go, Cargo, Maven. One version may have several, by ``kind``.

    ``hash`` is the ecosystem's own, as its lock file writes it: it says which file was meant before any was fetched.
    """

    ecosystem: str
    name: str
    version: str
    hash: str
    sha256: Digest
    kind: str = ""
    index: str | None = None  # by the machine's name of it, None of the one that the ecosystem's tool is configured for

    @property
    def order(self) -> tuple[str, str, str, str, str]:
        return self.ecosystem, self.name, self.version, self.kind, self.hash

    @property
    def shown(self) -> str:
        return f"{self.name} {self.version}{f' ({self.kind})' if self.kind else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedArchive:
    """An archive of others, as the definition asked for it. ``key`` is the SHA-256 of the file that it is signed by."""

    name: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    components: tuple[str, ...] = ()
    key: Digest | None = None  # None: of this machine's own sources
    as_of: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """What the lock was made for: compared with the definition, so that a stale lock names the line that moved."""

    base: str
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()  # the lines of the requirements file that mean something, in order
    suites: tuple[str, ...] = ()  # besides those of the base
    archives: tuple[RequestedArchive, ...] = ()  # sorted by name
    indexes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # sorted: an index, and the patterns of what comes from it
    from_source: tuple[tuple[str, tuple[str, ...]], ...] = ()  # sorted: a stage, and the projects that it builds


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseImage:
    """The image that an image stands on, and what its own takes over from it: layers and environment.

    An image of others is in the lock: ``digest`` is its manifest's, ``index`` that of the list of platforms that it was
    taken from, ``platform`` which of them. One that another definition bakes is found out at each bake, and is in no
    lock: its ``digest`` is None, and so is a layer that isn't baked yet.

    ``key`` tells it from others; ``epoch`` is Unix seconds, at least :data:`EARLIEST_EPOCH`.
    """

    key: str
    epoch: int
    env: Mapping[str, str]
    layers: tuple[Layer | None, ...]
    digest: Digest | None = None
    index: Digest | None = None
    platform: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstalledPackage:
    """A Debian package that an image has. Of one name there is one."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """The Debian packages of the image that another stands on, sorted by name: these stay as they are.

    ``release`` is theirs, as in "debian:bookworm" or "ubuntu:noble". ``python``: where a Python is that no package of
    theirs brought, which the wheels are for; None: they are for Debian's.
    """

    release: str
    packages: tuple[InstalledPackage, ...]
    python: str | None = None

    @property
    def versions(self) -> Mapping[str, str]:
        return {one.name: one.version for one in self.packages}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """``id`` is the project's own, given at its first lock and kept ever after; 32 hexadecimal digits.

    ``build`` has what is locked for each stage, as a lock of its own without an ``id``; all else is of the image. A
    stage that has a platform of its own is of another ``architecture``.

    ``platforms`` has what is locked for each platform besides this one, as a lock of its own without an ``id``, and
    without the stages that have a platform of their own. :meth:`find_platform` gives the lock of one platform, whole.
    """

    bake_format: int
    architecture: str  # Debian's name: amd64, arm64
    requested: Requested
    suites: tuple[Suite, ...]
    packages: tuple[Package, ...]  # in :func:`package_order`
    python: str | None = None  # "3.11" when there are wheels
    wheels: tuple[Wheel, ...] = ()  # sorted by name
    artifacts: tuple[Artifact, ...] = ()  # sorted by their order
    resolved: Mapping[str, Digest] = field(default_factory=dict)  # what was asked of those without lock files
    id: str | None = None  # None in a lock from before version 2
    base: BaseImage | None = None  # of a base that is an image
    installed: Installed | None = None  # of such a base, where packages or wheels go onto it
    build: Mapping[str, Lock] = field(default_factory=dict)  # in the definition's order
    platforms: Mapping[str, Lock] = field(default_factory=dict)  # by their names, "linux/arm64", sorted

    def find_platform(self, platform: str) -> Lock | None:
        """Return what is locked for a platform, with all its stages; None where nothing is."""
        if platform == platform_of(self.architecture):
            return replace(self, platforms={}) if self.platforms else self
        if platform not in self.platforms:
            return None
        found = self.platforms[platform]
        stages = {stage: found.build.get(stage, locked) for stage, locked in self.build.items()}
        return replace(found, id=self.id, build={**stages, **found.build})

    @property
    def whole(self) -> tuple[Lock, ...]:
        """Return what is locked for each platform, this one's first."""
        named = (platform_of(self.architecture), *self.platforms)
        return tuple(found for name in named if (found := self.find_platform(name)) is not None)

    def of(self, stage: str | None) -> Lock:
        """Return what is locked for a stage, or (None) for the image. Raises KeyError for a stage that is not there."""
        return self if stage is None else self.build[stage]

    @property
    def suite(self) -> str:
        """The suite that packages are from: "bookworm"."""
        release = self.installed.release if self.installed is not None else self.requested.base
        return release.partition(":")[2]

    @property
    def all_packages(self) -> tuple[Package | InstalledPackage, ...]:
        """All packages of the image: those of the image that it stands on, and its own."""
        return (*(self.installed.packages if self.installed is not None else ()), *self.packages)

    @property
    def epoch(self) -> int:
        """SOURCE_DATE_EPOCH of the bake, Unix seconds: the newest of the Release dates, and of the base that it has."""
        dates = [suite.date for suite in self.suites]
        if self.base is not None:
            dates.append(self.base.epoch)
        return max(dates, default=EARLIEST_EPOCH if self.requested.base == SCRATCH else 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """``changes`` are lines for people, one a package: what is there now that wasn't, and the other way."""

    lock: Lock
    path: Path
    changes: tuple[str, ...]
    changed: bool
