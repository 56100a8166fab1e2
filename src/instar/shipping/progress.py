"""How far logs were shipped, in the state directory's ``shipped.json``: for the next agent, and for who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from instar import durable
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse
from instar.shipping.tail import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """``places`` are by log. ``lines`` were taken, the last ``at`` then; ``lost_bytes`` were gone before they were
    shipped, at least; ``behind_bytes`` waited at the last look. ``cause``: why nothing is taken now."""

    places: Mapping[str, Place] = field(default_factory=dict)
    lines: int = 0
    at: str | None = None
    lost_bytes: int = 0
    behind_bytes: int = 0
    cause: str | None = None


def kept(file: Path) -> Shipped:
    """Return what :func:`keep` wrote; nothing where there is none, or it is damaged: then all is shipped again."""
    try:
        return from_json(Shipped, parse(durable.read_text(file).encode()))
    except (OSError, ValueError):
        return Shipped()


def keep(file: Path, shipped: Shipped) -> None:
    """Write it so that a process which is killed leaves the old or the new. Raises OSError."""
    durable.write(file, canonical(shipped), lasting=False)
