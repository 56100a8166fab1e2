"""Events: lines of the history, each of one kind of those that there are.

Here the kinds are mapped to the words that the ledger has for them, both ways.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from instar.frozen import dataclass
from instar.model.codec import from_json, to_json
from instar.model.digest import Digest
from instar.model.happenings import (
    AlarmOver,
    AlarmRaised,
    CertificateExpiring,
    CertificateFailed,
    CertificateHeld,
    ChainClosed,
    Checkpoint,
    DamagedHappening,
    DamageFound,
    DestructionBegun,
    EnvironmentMade,
    EnvironmentRemoved,
    GarbageCollected,
    Happening,
    LedgerCopied,
    LedgerMoved,
    LedgerRestored,
    MachineKnown,
    MachineLost,
    MaintenanceSet,
    NameAdopted,
    NamesHeld,
    NetworkRestored,
    NoticeLost,
    OccurrencesMissed,
    ProjectKnown,
    ReleaseMade,
    ReleasePinned,
    ReleaseUnpinned,
    RouterRestored,
    SecretKeyKnown,
    SettingsChanged,
    SnapshotRemoved,
    SnapshotTaken,
    TakenOver,
    UnknownHappening,
    VolumeCopied,
    VolumeRemoved,
    VolumeRestored,
)
from instar.model.instance_happenings import (
    DriftFound,
    InstanceCreated,
    InstanceDestroyed,
    InstanceEnded,
    InstancesPlanned,
    InstanceStarted,
    InstanceStopping,
    InstanceTainted,
    MemberRemoved,
    MemberSetAside,
    MemberTainted,
    ShellEnded,
    ShellOpened,
)
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import (
    DataBegun,
    DataKept,
    DataRestored,
    RolloutAborted,
    RolloutBegun,
    RolloutDone,
    RolloutFailed,
    RolloutPaused,
    RolloutResumed,
    SmokePassed,
    StepJudged,
    StepTaken,
    TaskEnded,
    TrafficShifted,
    WatchFailed,
)

KINDS: Final[Mapping[str, type[Happening]]] = {
    "environment": EnvironmentMade,
    "project": ProjectKnown,
    "name-adopted": NameAdopted,
    "machine": MachineKnown,
    "machine-lost": MachineLost,
    "settings": SettingsChanged,
    "checkpoint": Checkpoint,
    "destroying": DestructionBegun,
    "removed": EnvironmentRemoved,
    "alarm": AlarmRaised,
    "alarm-over": AlarmOver,
    "release": ReleaseMade,
    "pinned": ReleasePinned,
    "unpinned": ReleaseUnpinned,
    "shift": TrafficShifted,
    "rollout": RolloutBegun,
    "rollout-done": RolloutDone,
    "rollout-failed": RolloutFailed,
    "smoke": SmokePassed,
    "step": StepTaken,
    "verdict": StepJudged,
    "paused": RolloutPaused,
    "resumed": RolloutResumed,
    "abort": RolloutAborted,
    "data-kept": DataKept,
    "data-begun": DataBegun,
    "data-restored": DataRestored,
    "task": TaskEnded,
    "missed": OccurrencesMissed,
    "watch-failed": WatchFailed,
    "launch": InstancesPlanned,
    "created": InstanceCreated,
    "started": InstanceStarted,
    "taint": InstanceTainted,
    "member-taint": MemberTainted,
    "member-aside": MemberSetAside,
    "member-removed": MemberRemoved,
    "ended": InstanceEnded,
    "stopping": InstanceStopping,
    "destroyed": InstanceDestroyed,
    "shell": ShellOpened,
    "shell-ended": ShellEnded,
    "drift": DriftFound,
    "router-restored": RouterRestored,
    "network-restored": NetworkRestored,
    "damaged": DamageFound,
    "names": NamesHeld,
    "certificate": CertificateHeld,
    "certificate-failed": CertificateFailed,
    "certificate-expiring": CertificateExpiring,
    "maintenance": MaintenanceSet,
    "taken-over": TakenOver,
    "volume-removed": VolumeRemoved,
    "volume-restored": VolumeRestored,
    "volume-copied": VolumeCopied,
    "snapshot": SnapshotTaken,
    "snapshot-removed": SnapshotRemoved,
    "gc": GarbageCollected,
    "notification-lost": NoticeLost,
    "secret-key": SecretKeyKnown,
    "ledger-copied": LedgerCopied,
    "ledger-moved": LedgerMoved,
    "ledger-restored": LedgerRestored,
    "chain-closed": ChainClosed,
}
_WORDS: Final = {type_: kind for kind, type_ in KINDS.items()}


def kind_of(what: Happening) -> str:
    """Return the ledger's word for what happened."""
    return _WORDS[type(what)]


def detail_of(what: Happening) -> dict[str, Any]:
    """Return what happened as the detail of an event, as JSON has it."""
    rest, detail = _rest(type(what)), cast(dict[str, Any], to_json(what))
    return {**detail.pop(rest), **detail} if rest else detail


def read(kind: str, detail: Mapping[str, Any]) -> Happening:
    """Return what an event tells: an UnknownHappening of a kind that is not known here, a DamagedHappening where the
    detail is not of the form of its kind."""
    if kind not in KINDS:
        return UnknownHappening(detail=detail)
    try:
        return _read(KINDS[kind], detail)
    except ValueError as error:
        return DamagedHappening(detail=detail, cause=str(error))


def _read(type_: type[Happening], detail: Mapping[str, Any]) -> Happening:
    rest = _rest(type_)
    if rest is None:
        return from_json(type_, detail)
    own = {one.name for one in dataclasses.fields(type_)} - {rest}
    return from_json(type_, {**detail, rest: {key: one for key, one in detail.items() if key not in own}})


def _rest(type_: type[Happening]) -> str | None:
    return next((one.name for one in dataclasses.fields(type_) if one.metadata.get("rest")), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of the history, as it is written. ``hash`` chains it to the event before it in its chain."""

    seq: int
    at: datetime
    actor: str
    kind: str
    environment: EnvironmentId | None
    release: int | None
    image: Digest | None
    detail: Mapping[str, Any]
    hash: str

    @property
    def what(self) -> Happening:
        """Return what happened, as ``read`` tells it."""
        return read(self.kind, self.detail)
