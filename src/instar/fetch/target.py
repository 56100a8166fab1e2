"""Which wheels run where: their tags, and what an image's Python and C library take. Source: PEP 425, 427, 600."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from instar.errors import ResolveError
from instar.frozen import dataclass
from instar.model.lock import InstalledPackage, Package

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_UV_GLIBC_MINORS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_NAME_LIMIT = 255  # of what a file can be called; more tags than fit into it need not be looked at
_VERSION = re.compile(r"(?:\d{1,9}:)?(\d{1,9})\.(\d{1,9})")


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelTarget:
    """What wheels must run on. ``python`` as in "3.11"; ``architecture`` is Debian's name; glibc is 2.``minor``."""

    python: str
    architecture: str
    glibc_minor: int

    @classmethod
    def of(cls, python: str, architecture: str, packages: Sequence[Package | InstalledPackage]) -> WheelTarget:
        """Return what wheels must run on in an image of ``packages``. Raises ResolveError when they have no libc6."""
        return cls(python=python, architecture=architecture, glibc_minor=version_parts(packages, "libc6")[1])

    @property
    def machine(self) -> str:
        """Raises ResolveError when wheels have no name for the architecture."""
        if self.architecture not in _MACHINES:
            raise ResolveError(f"cannot lock wheels for '{self.architecture}': known are {', '.join(_MACHINES)}")
        return _MACHINES[self.architecture]

    @property
    def uv_platform(self) -> str:
        minor = max((known for known in _UV_GLIBC_MINORS if known <= self.glibc_minor), default=_UV_GLIBC_MINORS[0])
        return f"{self.machine}-manylinux_2_{minor}"

    def platforms(self) -> list[str]:
        """Return the platform tags that run here, best first. Source: PEP 600."""
        oldest = 5 if self.machine == "x86_64" else 17
        tags = []
        for minor in range(self.glibc_minor, oldest - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def ranks(self) -> dict[str, int]:
        """Return every tag of a wheel that runs here and how good it is; 0 is best. Source: PEP 425."""
        from packaging import tags

        version = tuple(int(part) for part in self.python.split("."))
        platforms = self.platforms()
        found = [
            *tags.cpython_tags(version, platforms=platforms),
            *tags.compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
        ]
        return {str(tag): rank for rank, tag in reversed(list(enumerate(found)))}


def best_wheel(filenames: Sequence[str], ranks: Mapping[str, int]) -> str | None:
    """Return the wheel that fits best, by the tags of its name; None when none runs there. Source: PEP 427."""
    ranked = [(rank, filename) for filename in filenames if (rank := _rank(filename, ranks)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(filename: str, ranks: Mapping[str, int]) -> int | None:
    parts = filename.removesuffix(".whl").rsplit("-", 3)
    if len(parts) != 4 or len(filename) > _NAME_LIMIT or not filename.endswith(".whl"):
        return None
    pythons, abis, platforms = (part.split(".") for part in parts[1:])
    known = [
        ranks[tag]
        for python in pythons
        for abi in abis
        for platform in platforms
        if (tag := f"{python}-{abi}-{platform}".lower()) in ranks
    ]
    return min(known, default=None)


def version_parts(packages: Sequence[Package | InstalledPackage], name: str) -> tuple[int, int]:
    """Return (2, 36) for libc6 2.36-9. Raises ResolveError when the packages have no ``name``."""
    for package in packages:
        match = _VERSION.match(package.version) if package.name == name else None
        if match:
            return int(match[1]), int(match[2])
    raise ResolveError(f"cannot lock wheels: the packages have no '{name}'")
