"""What can happen to a rollout: one value for each kind of event. See happenings.py for what holds of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.happenings import REST, SOURCE, Happening
from instar.model.release import RolloutKind, Served


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficShifted(Happening):
    """The event's release got the traffic, from the one before (``source``)."""

    source: int | None = field(metadata=SOURCE)
    instances: tuple[str, ...] | None = field(default=None, metadata=ADDED)
    reason: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutBegun(Happening):
    """``stage`` tells what the rollout's stage begins with: the digest of the settings to fall back to. ``secrets``:
    names of those that are other ones than in the release before."""

    rollout: int
    kind: RolloutKind
    source: int | None = field(metadata=SOURCE)
    break_promotion: bool | None = field(default=None, metadata=ADDED)
    forced: str | None = field(default=None, metadata=ADDED)
    reason: str | None = field(default=None, metadata=ADDED)
    stage: Mapping[str, Any] | None = field(default=None, metadata=ADDED)
    secrets: tuple[str, ...] | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutEnded(Happening):
    """``measured`` is what was measured, and what went wrong."""

    rollout: int
    measured: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutDone(RolloutEnded):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutFailed(RolloutEnded):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class StageChanged(Happening):
    """A running rollout came further, or somebody said how it goes on."""

    rollout: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokePassed(StageChanged):
    instances: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTaken(StageChanged):
    """The target has its next share of the traffic; ``counted`` is what each instance had answered before."""

    step: int
    percent: int
    counted: Mapping[str, Served] | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepJudged(StageChanged):
    """An analysis ended; ``figures`` are the numbers of both releases: of ``role``, of several with traffic, and
    ``others`` are those of the others."""

    step: int
    passed: bool | None
    cause: str = ""
    role: str | None = field(default=None, metadata=ADDED)
    others: Mapping[str, Any] = field(default_factory=dict, metadata=ADDED)
    figures: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutPaused(StageChanged):
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutResumed(StageChanged):
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutAborted(StageChanged):
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataKept(StageChanged):
    """What a volume held is in a snapshot, before something of the rollout could change it: the data of release
    ``of``. ``running``: instances had it then."""

    volume: str
    snapshot: int
    running: bool
    of: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataBegun(StageChanged):
    """A volume is about to hold what it did in a snapshot: until it is said that it does, it may or may not."""

    volume: str
    snapshot: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRestored(StageChanged):
    """A volume holds what it did in a snapshot; ``back``: since the rollout that had changed it is given up."""

    volume: str
    snapshot: int
    back: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEnded(Happening):
    task: str
    outcome: str
    last_lines: tuple[str, ...] | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchFailed(Happening):
    """A release did not stay well after its rollout."""

    back_to: int
    reason: str
