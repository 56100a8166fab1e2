"""What ``gc`` removes."""

from __future__ import annotations

from instar.frozen import dataclass
from instar.model.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """What was removed, or would be. ``size_bytes`` is of the blobs and the fetched files; ``logs`` are instances,
    ``recordings`` what shells in them showed, and the evidence of their drift; ``certificates`` are SOURCE/NAME,
    ``snapshots`` of volumes SERVICE/ENV VOLUME NUMBER."""

    images: tuple[Digest, ...]
    blobs: int
    size_bytes: int
    logs: tuple[str, ...] = ()
    fetched: int = 0
    recordings: tuple[str, ...] = ()
    secrets: int = 0
    certificates: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
