"""Data that outlives releases and environments."""

from __future__ import annotations

from datetime import datetime

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


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotCause:
    """A rollout before which a volume was kept: from ``release``, whose data it is, to release ``before``."""

    rollout: int
    release: int
    before: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSnapshot:
    """What a volume held at ``at``. ``number``: unique among those of the volume. ``running``: instances had it then,
    so what they had not written yet is missing. ``where`` it is kept, for people; ``used_bytes``: as
    :class:`KeptVolume` has it, also where files share their room with others. ``cause``: the rollout that it was taken
    for; None: somebody asked for it."""

    environment: EnvironmentId
    volume: str
    number: int
    at: datetime
    running: bool
    where: str
    used_bytes: int | None
    cause: SnapshotCause | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataBack:
    """What a rollback with data brings back, and what that takes: ``snapshots``, one a volume, of what release
    ``target`` left when release ``active`` came; None: one that somebody names, for the active release. ``instances``
    stop for it; ``copied_bytes`` are copied meanwhile, None where the file system shares them."""

    environment: EnvironmentId
    active: int
    target: int | None
    snapshots: tuple[VolumeSnapshot, ...]
    instances: tuple[str, ...]
    copied_bytes: int | None

    @property
    def numbers(self) -> dict[str, int]:
        return {one.volume: one.number for one in self.snapshots}
