"""What can happen: one value for each kind of event. The fields of a value are the keys of the event's detail.

The kinds are a closed set (``events.KINDS``). A field that only some events of one have is ``ADDED``, or has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.codec import ADDED, written_as
from instar.model.digest import Digest
from instar.model.origin import Origin

REST: Final = {"rest": True}  # a field that has all keys which no other field has
SOURCE: Final = written_as("from")


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """What an event tells, besides who did it, when, and to what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentMade(Happening):
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectKnown(Happening):
    """An environment remembers whose it is: the id in the lock."""

    project: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NameAdopted(Happening):
    """Another project of its name took an environment over."""

    project: str
    source: str = field(metadata=SOURCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineKnown(Happening):
    """An environment remembers which machine of those that share the ledger has it."""

    machine: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineLost(MachineKnown):
    """An environment is given up with its machine, which had acted last at ``heard_at``, if that is known."""

    heard_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsChanged(Happening):
    old: Mapping[str, Any]
    new: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint(Happening):
    """How an environment was that is older than its chain."""

    tables: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DestructionBegun(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentRemoved(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRaised(Happening):
    """Somebody has to look; nothing is replaced meanwhile, if it ``holds``."""

    reason: str
    holds: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmOver(Happening):
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseMade(Happening):
    configuration: Digest
    origin: Origin | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasePinned(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseUnpinned(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class OccurrencesMissed(Happening):
    """An entry of the schedule was due ``count`` times (``more``: at least), from ``first`` to ``last``, and did not
    begin, nor will it: nobody was there to, or it could not."""

    entry: str
    count: int
    first: str
    last: str
    more: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterRestored(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkRestored(Happening):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class DamageFound(Happening):
    """A layer, or a blob that layers are made of, is not what it was: on that machine, where several share a ledger."""

    what: str
    cause: str
    machine: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class NamesHeld(Happening):
    """Which names are an environment's now, and which are to be; ``to``: whose the others are."""

    held: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    to: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateHeld(Happening):
    """There is a certificate for names of https, of ``issuer``."""

    names: tuple[str, ...]
    source: str
    issuer: str
    fingerprint: str
    not_after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateFailed(Happening):
    """A certificate could not be had, the first time in a row."""

    names: tuple[str, ...]
    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateExpiring(Happening):
    """A certificate should long have been renewed."""

    names: tuple[str, ...]
    source: str
    not_after: str
    cause: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceSet(Happening):
    """Requests are answered with a page from now on, or no longer. ``page``: its digest, or "usual"."""

    on: bool
    page: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenOver(Happening):
    """Somebody ended the process that worked on an environment."""

    pid: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeRemoved(Happening):
    volume: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotTaken(Happening):
    """``running``: instances had the volume."""

    volume: str
    snapshot: int
    running: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotRemoved(Happening):
    volume: str
    snapshot: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeRestored(Happening):
    """A volume holds what it did in ``snapshot``; what it held before is in snapshot ``kept``, where it was there."""

    volume: str
    snapshot: int
    kept: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeCopied(Happening):
    """A volume was made, of what the volume ``of`` of the environment ``source`` held."""

    volume: str
    source: str
    of: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageCollected(Happening):
    images: tuple[Digest, ...]
    blobs: int
    size_bytes: int = field(metadata=written_as("bytes"))
    logs: int = 0
    fetched: int = 0
    recordings: int = 0
    secrets: int = 0
    certificates: int = field(default=0, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeLost(Happening):
    """The notice of an event could not be delivered; None: nobody knows of which."""

    of: int | None
    cause: str
    tries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretKeyKnown(Happening):
    """A ledger remembers by which key digests of secrets are made: a hash of it."""

    fingerprint: Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerCopied(Happening):
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerMoved(Happening):
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRestored(Happening):
    """It was put back from a backup: what was decided between ``taken_at`` and now is not in it."""

    taken_at: str
    taken_on: str
    machine: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainClosed(Happening):
    """The one chain of before ends here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownHappening(Happening):
    """Something of a kind that is not known here: another version of Instar wrote it."""

    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedHappening(Happening):
    """Something of a kind that is known here, whose detail is not of the form of that kind; ``cause`` says where."""

    detail: Mapping[str, Any]
    cause: str
