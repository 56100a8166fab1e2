"""What ordering certificates needs of the machine, for ``instar doctor``."""

from __future__ import annotations

import importlib.metadata

from instar.model.component import Component


def components() -> tuple[Component, ...]:
    try:
        found: str | None = importlib.metadata.version("acme")
    except importlib.metadata.PackageNotFoundError:
        found = None
    purpose = "orders certificates for names of https"
    return (
        Component(name="acme", purpose=purpose, found=found, get="comes with Instar: scripts/setup", required=False),
    )
