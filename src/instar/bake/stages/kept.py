"""What the last bake of a service took out of its stages, and what those left: STATE/steps/stages/SERVICE.json.

What was taken is remembered by what it was taken out of, so that a stage is baked again only where it has to be. The
layers are in no image: garbage collection keeps them with the newest image of the service. Both only save work; where
the record cannot be read, the stages are baked again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from instar import durable
from instar.bake.stages.takes import TakenContent
from instar.frozen import dataclass
from instar.model.codec import canonical, from_json, parse
from instar.model.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptStages:
    """``contents`` are by the keys of ``takes.Contents``; ``layers`` the blobs of all stages."""

    contents: Mapping[str, TakenContent]
    layers: tuple[Digest, ...]


_NONE = KeptStages(contents={}, layers=())


def read(folder: Path, service: str) -> KeptStages:
    """Return what is remembered of a service. ``folder`` is where the records of steps are."""
    with contextlib.suppress(OSError, ValueError):
        return from_json(KeptStages, parse(durable.read(_path(folder, service))))
    return _NONE


def write(folder: Path, service: str, contents: Mapping[str, TakenContent], layers: Iterable[Digest]) -> None:
    """Remember it, whole or not at all; nothing of a service without stages."""
    now = KeptStages(contents=contents, layers=tuple(sorted(set(layers))))
    if now == read(folder, service):
        return
    path = _path(folder, service)
    with contextlib.suppress(OSError):  # nothing but time depends on it
        if now == _NONE:
            path.unlink()
        else:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            durable.write(path, canonical(now))


def layers_kept(folder: Path, services: Iterable[str]) -> frozenset[Digest]:
    """Return the blobs of the stages of these services."""
    return frozenset(layer for service in services for layer in read(folder, service).layers)


def _path(folder: Path, service: str) -> Path:
    return folder / "stages" / f"{service}.json"
