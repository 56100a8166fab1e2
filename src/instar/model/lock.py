"""Every outside input of a bake, resolved to exact versions and hashes. Read and written by ``lock/``.

No host name is in a lock: a package is named by the label and suite of its archive and its path there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from instar.model.digest import Digest

BAKE_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One suite of an archive, as its Release file was when the lock was made. ``date`` is Unix seconds."""

    label: str
    suite: str
    date: int


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    name: str
    version: str
    filename: str
    sha256: Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """What the lock was made for: compared with the definition, so that a stale lock names the line that moved."""

    base: str
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()  # the lines of the requirements file that mean something, in order


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    bake_format: int
    architecture: str  # Debian's name: amd64, arm64
    requested: Requested
    suites: tuple[Suite, ...]
    packages: tuple[Package, ...]  # sorted by step, name
    python: str | None = None  # "3.11" when there are wheels
    wheels: tuple[Wheel, ...] = ()  # sorted by name

    @property
    def epoch(self) -> int:
        """SOURCE_DATE_EPOCH of the bake: the newest Release date, Unix seconds."""
        return max((suite.date for suite in self.suites), default=0)
