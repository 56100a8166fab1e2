"""What can happen to instances: one value for each kind of event. See happenings.py for what holds of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.happenings import Happening
from instar.model.release import Command, EndReason, TaintKind, shown_instance
from instar.model.roles import UNNAMED_ROLE


@dataclass(frozen=True, kw_only=True, slots=True)
class InstancesPlanned(Happening):
    """``instances``: their ids, of an older Instar with their addresses; ``role``: of the release, where it is not its
    only one; ``members``: id → how many, where not all have one; ``command``: what they run for a task that is none of
    the release's own."""

    instances: tuple[str, ...] | Mapping[str, str]
    role: str | None = field(default=None, metadata=ADDED)
    task: str | None = field(default=None, metadata=ADDED)
    replacing: str | None = field(default=None, metadata=ADDED)
    members: Mapping[str, int] | None = field(default=None, metadata=ADDED)
    command: Command | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class OfInstance(Happening):
    instance: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceCreated(OfInstance):
    """An instance is made, and waits to begin; an older Instar wrote here which process it was."""

    boot_id: str | None = field(default=None, metadata=ADDED)
    pid: int | None = field(default=None, metadata=ADDED)
    start_time: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceStarted(OfInstance):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceTainted(OfInstance):
    taint: TaintKind
    why: str
    due_at: str
    isolated: bool
    recording: str | None = field(default=None, metadata=ADDED)
    command: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberTainted(OfInstance):
    """One member of a group is to be replaced by the group's engine."""

    member: str
    taint: TaintKind
    why: str
    due_at: str
    recording: str | None = None
    command: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberSetAside(OfInstance):
    """A tainted member is no part of its group any more, and kept."""

    member: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberRemoved(OfInstance):
    """A tainted member is gone."""

    member: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OfEnding(OfInstance):
    reason: EndReason
    why: str
    exit_status: int | None = field(default=None, metadata=ADDED)
    signal: str | None = field(default=None, metadata=ADDED)
    role: str = field(default=UNNAMED_ROLE, metadata=ADDED)

    @property
    def shown(self) -> str:
        return shown_instance(self.instance, self.role)


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceEnded(OfEnding):
    """An instance ended by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceStopping(OfEnding):
    """An instance is ended by Instar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceDestroyed(OfInstance):
    """Nothing is left of an instance."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellOpened(OfInstance):
    why: str
    recording: str
    command: str | None = field(default=None, metadata=ADDED)
    toolbox: bool = field(default=False, metadata=ADDED)
    member: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellEnded(OfInstance):
    seconds: float
    recording: str
    different: str
    exit_status: int | None
    cause: str | None
    differences: tuple[Mapping[str, str], ...] = ()
    count: int = 0
    whole: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftFound(Happening):
    """What runs is not what was baked: of an ``instance``, or of what all share. ``findings`` are the first of them."""

    instance: str | None
    findings: tuple[Mapping[str, Any], ...]
    count: int
    evidence: str | None = field(default=None, metadata=ADDED)
