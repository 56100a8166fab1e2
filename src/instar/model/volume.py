"""Data that outlives releases and environments."""

from __future__ import annotations

from instar.frozen import dataclass
from instar.model.release import EnvironmentId


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptVolume:
    """A volume of an environment that may be gone. ``where`` it is kept, for people; ``used_bytes`` is None where
    nobody can tell. ``instances``: those that have it."""

    environment: EnvironmentId
    environment_exists: bool
    name: str
    where: str
    used_bytes: int | None
    instances: tuple[str, ...]
