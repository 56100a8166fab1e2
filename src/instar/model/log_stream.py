"""A log of this machine's, as the files that it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from instar.frozen import dataclass

FULL_BYTES: Final = 8 << 20  # a file of a log is followed by another where it has so many


@dataclass(frozen=True, kw_only=True, slots=True)
class LogStream:
    """What an instance prints (``name`` is its id), or which requests come to an environment (SERVICE/ENVIRONMENT).
    ``files``: where its lines are, the newest first; any may be missing, and two of them may be one."""

    kind: Literal["instance", "access"]
    name: str
    files: tuple[Path, ...]
