"""What locking and fetching need of the machine, for ``instar doctor``."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from instar import process
from instar.model.component import Component

_HELPER = Path("/usr/lib/apt/apt-helper")
_VERSION = re.compile(rb"\d+[.\w~+-]*")


def components() -> tuple[Component, ...]:
    return (
        Component(
            name="apt-get",
            purpose="resolves Debian packages",
            found=_version("apt-get"),
            get="comes with Debian; elsewhere: the package apt",
        ),
        Component(
            name="apt-helper",
            purpose="fetches packages as this machine's apt is set up",
            found=str(_HELPER) if _HELPER.exists() else None,
            get="comes with the package apt",
        ),
        Component(
            name="uv",
            purpose="resolves Python packages",
            found=_installed("uv"),
            get="comes with Instar: scripts/setup",
        ),
        Component(
            name="pip",
            purpose="fetches wheels as this machine's pip is set up",
            found=_installed("pip"),
            get="comes with the virtual environment: scripts/setup",
        ),
    )


def _version(program: str) -> str | None:
    if process.find_program(program) is None:
        return None
    found = _VERSION.search(process.run([program, "--version"]).stdout)
    return found.group().decode() if found else "found"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
