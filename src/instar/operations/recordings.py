"""Where the recordings of shells are, and whose they are: STATE/recordings/INSTANCE.TIME.cast.

They go with the logs of their instances (``instar gc``), not with the instances.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from instar.frozen import dataclass
from instar.model.state import StateDirectory

SUFFIX = ".cast"
_NAME = re.compile(r"(?P<instance>[a-z0-9][a-z0-9-]*-[0-9]+-[0-9]+)\.(?P<time>[0-9]{8}T[0-9]{6}\.[0-9]{6})Z\.cast")
_TIME = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One shell. ``name`` is what ``instar replay`` takes: the file's, without its ending."""

    instance: str
    at: datetime
    path: Path

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)


def new_recording(state: StateDirectory, instance: str, at: datetime) -> Path:
    """Return where a shell in ``instance`` that begins ``at`` is recorded."""
    return state.recordings / f"{instance}.{at.astimezone(UTC).strftime(_TIME)}Z{SUFFIX}"


def recordings(state: StateDirectory, instances: Collection[str] | None = None) -> tuple[Recording, ...]:
    """Return the recordings (of ``instances``), oldest first. Files that are none are left alone."""
    found = []
    for path in state.recordings.iterdir() if state.recordings.is_dir() else ():
        parts = _NAME.fullmatch(path.name)
        if parts and (instances is None or parts["instance"] in instances) and (at := _time(parts["time"])):
            found.append(Recording(instance=parts["instance"], at=at, path=path))
    return tuple(sorted(found, key=lambda one: (one.at, one.name)))


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
