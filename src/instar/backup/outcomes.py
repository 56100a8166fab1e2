"""What a backup, a check of one, and a restore ended with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from instar.backup.contents import Lost, Part, Summary
from instar.frozen import dataclass

MachineFile = Literal["there", "other", "unwritten", "none", "left"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A backup that was written. ``without``: images of older releases that are not here, and so not in it.
    ``left_out``: of each volume how many of each kind of thing that no backup has; ``lost``: which data of it is not in
    this one. ``snapshots``: how many of volumes there are, which no backup has."""

    summary: Summary
    file: Path
    size_bytes: int
    encrypted: bool
    images: int
    without: tuple[str, ...]
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lost: Lost = field(default_factory=dict)
    snapshots: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A backup that was read to its end, and is whole."""

    summary: Summary
    encrypted: bool
    parts: Mapping[str, Part]
    events: int
    lost: Lost = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What is here now. ``machine_file``: whether the machine's own file is "there" as it was in the backup, is "other"
    than that since it was here before, "unwritten" for want of a disk that takes it, "none" was in it, or it was "left"
    out since nobody wanted it.
    ``missing``: environments whose active release is newer than the backup, in a ledger
    that others share: its image is not here. ``beside``: where the original's state is, on this very machine."""

    summary: Summary
    state_id: str | None
    machine_file: MachineFile
    kept_volumes: bool
    missing: tuple[str, ...] = ()
    lost: Lost = field(default_factory=dict)
    beside: str | None = None
