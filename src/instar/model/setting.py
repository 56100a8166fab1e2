"""The values that hold in an environment, and where each comes from."""

from __future__ import annotations

from typing import Literal

from instar.frozen import dataclass
from instar.model.plan import PlannedChange
from instar.model.release import EnvironmentId

Layer = Literal["service", "role", "defaults", "environment", "file", "usual"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """``value`` is as one writes it, of a secret where it stands. ``place``: FILE:LINE:COLUMN, or of
    a file of configuration FILE:LINE; None of what nobody said, whose layer is "usual"."""

    name: str
    value: str
    layer: Layer
    place: str | None
    is_secret: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldSettings:
    """``active`` is the release that has the traffic, if any, and ``changes`` are what it and its environment have
    otherwise than the definition; of secrets only which there are. ``unknown``: why nobody can tell what runs.
    ``refused``: why a deploy would refuse what it is to use."""

    environment: EnvironmentId
    settings: tuple[Setting, ...]
    active: int | None
    changes: tuple[PlannedChange, ...]
    unknown: str | None = None
    refused: str | None = None
