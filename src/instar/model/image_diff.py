"""What is different between two images."""

from __future__ import annotations

from typing import Literal

from instar.frozen import dataclass

PackageKind = Literal["debian", "python", "npm"]
FileChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageChange:
    """Versions are None where it is not there; of a package that an image has several times, all of them."""

    kind: PackageKind
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """``what`` says, of a changed one, what of it is other: its content, mode, owner, kind, link or attributes."""

    path: str
    kind: FileChangeKind
    what: tuple[str, ...] = ()
    before_bytes: int | None = None
    after_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDiff:
    """``packages`` are those that the images themselves know of; ``files`` are all others too."""

    packages: tuple[PackageChange, ...] = ()
    files: tuple[FileChange, ...] = ()
