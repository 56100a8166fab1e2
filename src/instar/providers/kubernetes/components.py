"""What the provider needs of this machine, for ``doctor``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from instar.model.component import Component


def components() -> tuple[Component, ...]:
    """Return the client of the API: who runs nothing on a cluster does without."""
    try:
        found: str | None = version("lightkube")
    except PackageNotFoundError:
        found = None
    get = "scripts/setup installs it with the other requirements"
    return (Component(name="lightkube", purpose="asks clusters of Kubernetes", found=found, get=get, required=False),)
