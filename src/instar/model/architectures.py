"""The architectures that images are made for, what each is called, and the platforms that they stand for."""

from __future__ import annotations

from typing import Final

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's name → Debian's and OCI's

_LINUX: Final = "linux/"
PLATFORMS: Final = tuple(f"{_LINUX}{name}" for name in ARCHITECTURES.values())


def platform_of(architecture: str) -> str:
    """Return the platform of an architecture: "linux/arm64"."""
    return f"{_LINUX}{architecture}"


def architecture_of(platform: str) -> str:
    """Return Debian's name of a platform's architecture: "arm64"."""
    return platform.removeprefix(_LINUX)
