"""Releases, their instances, and the rollouts between them: what the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import Any, Final, Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.configuration import Configuration
from instar.model.definition import Data, Service
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.origin import Origin
from instar.model.roles import UNNAMED_ROLE


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentId:
    """One environment of one service: where releases are numbered and traffic flows. Prints as SERVICE/ENV."""

    service: str
    name: str

    def __str__(self) -> str:
        return f"{self.service}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """Numbered and immutable. ``ran_well`` becomes true when a rollout to it has ended well; ``last_active_at``
    is when it last got the traffic. Both are facts about it, not parts of it."""

    environment: EnvironmentId
    number: int
    image: Digest
    configuration: Configuration
    created_at: datetime
    ran_well: bool = False
    last_active_at: datetime | None = None
    pinned: bool = False  # its image is kept until somebody unpins it
    origin: Origin | None = None  # None: an older Instar made it

    @property
    def service(self) -> Service:
        """How instances of its first role run, which is the one that requests go to."""
        return self.configuration.service

    @property
    def role(self) -> str:
        """The name of its first role."""
        return self.configuration.first_role

    @property
    def services(self) -> Mapping[str, Service]:
        """How instances run, by role: the first, then the others by name."""
        return self.configuration.services

    @property
    def data(self) -> Data | None:
        """Which form of its data it writes: one of its roles says so."""
        return next((one.data for one in self.services.values() if one.data is not None), None)

    def of_role(self, role: str) -> Release:
        """Return it as instances of a role of it know it: with that role alone. Raises LookupError where it has no
        such role."""
        if role == self.role and not self.configuration.roles:
            return self
        service = self.services.get(role)
        if service is None:
            raise LookupError(f"release {self.number} of '{self.environment}' has no role '{role}'")
        return replace(self, configuration=replace(self.configuration, service=service, role=role, roles={}))


TaintKind = Literal["person", "shell", "drift"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taint:
    """An instance is to be replaced, from ``due_at`` on: a ``person`` said so, a ``shell`` was opened in it, or it is
    no longer what was baked (``drift``). ``isolated``: it has no traffic meanwhile."""

    kind: TaintKind
    why: str
    actor: str
    at: datetime
    due_at: datetime
    isolated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberTaint:
    """One ``member`` of a group is to be replaced by the group's engine, from ``due_at`` on, for what a taint can be.
    ``aside_at``: since then it is no part of the group any more, and kept for people to look at."""

    member: str
    kind: TaintKind
    why: str
    actor: str
    at: datetime
    due_at: datetime
    aside_at: datetime | None = None


EndReason = Literal["exited", "signal", "out-of-memory", "restart", "unknown", "unwell", "instar"]
BY_ITSELF: Final = ("exited", "signal", "out-of-memory", "restart", "unknown")
FALLEN: Final = ("exited", "signal", "out-of-memory")  # its own doing, and not the machine's


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How an instance came to its end: by itself, with the machine ("restart"), or it was ended ("unwell": because it
    no longer answered). ``why`` is for people ("killed: out of memory"), ``at`` when it was seen or decided.

    ``exit_status`` is None where nobody saw it; ``signal`` the name of the one that ended it ("SIGSEGV"). ``role``: of
    which it was; of an older Instar nobody knows that.
    """

    reason: EndReason
    at: datetime
    why: str
    exit_status: int | None = None
    signal: str | None = None
    role: str = field(default=UNNAMED_ROLE, metadata=ADDED)

    def __str__(self) -> str:
        return f"ended by Instar: {self.why}" if self.reason in ("unwell", "instar") else self.why


RUN: Final = "run"  # how tasks are called that somebody runs by hand, with a number behind it


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What an instance runs because somebody, or the clock, said so, a word an item. ``terminal``: which kind of
    terminal it is on ("xterm-256color"); None: on none. ``toolbox``: what waits for it is not of its image."""

    argv: tuple[str, ...]
    terminal: str | None = None
    toolbox: bool = field(default=False, metadata=ADDED)


def shown_instance(name: str, role: str | None) -> str:
    """Return the name of an instance for people, who know it by its role where there are several."""
    return f"{name} ({role})" if role else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """A group of a release, as intended: one instance, or so many ``members`` where an engine runs several as one.

    ``serial`` is unique in the ledger and never used again. ``role``: of which role of its release. ``made``: its
    provider has made it, and it has begun, or waits to.

    ``task``: it runs one of the release's tasks ("before 1") instead of the service. ``replacing``: why it was planned
    outside a rollout: others had "ended", were "unwell", "drifted", "tainted", too "old", or a "hot" release lacked it.
    ``command``: what its task runs, where that is none of the release's own.
    """

    id: str  # SERVICE-ENVIRONMENT-RELEASE-K
    serial: int
    environment: EnvironmentId
    release: int
    created_at: datetime
    made: bool = False
    started_at: datetime | None = None
    task: str | None = None
    replacing: str | None = None
    taint: Taint | None = None
    ending: Ending | None = None  # written before anything of it is removed
    members: int = 1
    role: str = UNNAMED_ROLE
    tainted_members: tuple[MemberTaint, ...] = ()  # in the order in which they were tainted
    command: Command | None = None

    @property
    def shown(self) -> str:
        """Its name for people."""
        return shown_instance(self.id, self.role)

    def member_taint(self, member: str) -> MemberTaint | None:
        """Return why one of its members is to be replaced; None of one that is not."""
        return next((one for one in self.tainted_members if one.member == member), None)

    @property
    def was_made(self) -> bool:
        return self.made or self.started_at is not None

    @property
    def attended(self) -> bool:
        """Its command is somebody's, who gives it what it reads, has what it prints, and waits for its end."""
        return self.command is not None and (self.task or "").startswith(f"{RUN} ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What a target or a group of them answered since its counters began; ``response_ms`` is a sum over requests."""

    requests: int = 0
    failed: int = 0
    response_ms: int = 0

    def __add__(self, other: Served) -> Served:
        return Served(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            response_ms=self.response_ms + other.response_ms,
        )

    def since(self, before: Served) -> Served:
        """Return what came after ``before``; counters that began anew since then count whole."""
        if self.requests < before.requests or self.failed < before.failed or self.response_ms < before.response_ms:
            return self
        return Served(
            requests=self.requests - before.requests,
            failed=self.failed - before.failed,
            response_ms=self.response_ms - before.response_ms,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Where a running rollout is. ``step`` counts the shares of traffic that were given to the target so far.

    ``counted`` is what each instance had answered when the step began, ``judged`` whether the step's analysis has
    passed, ``smoked`` the instances that passed the smoke checks. ``paused``: somebody said so; ``resumed``: the
    step's own pause is over because somebody said so; ``abort``: why somebody wants it given up. ``settings_before``
    are what the environment falls back to when the rollout fails. ``percent`` is the target's share of the traffic by
    the last step, ``verdict`` what the last analysis came to; None before the first. ``data``: which snapshots of
    volumes are to be brought back, by the volumes' names; ``begun``: those of which that was begun, and may have
    happened or not; ``restored``: those of which it is done. ``kept``: the snapshots of what volumes held before.
    """

    step: int = 0
    step_at: datetime | None = None
    counted: Mapping[str, Served] = field(default_factory=dict)
    judged: bool = False
    smoked: tuple[str, ...] = ()
    paused: bool = False
    resumed: bool = False
    abort: str | None = None
    settings_before: Settings | None = None
    percent: int | None = field(default=None, metadata=ADDED)
    verdict: Mapping[str, Any] | None = field(default=None, metadata=ADDED)
    data: Mapping[str, int] = field(default_factory=dict, metadata=ADDED)
    restored: tuple[str, ...] = field(default=(), metadata=ADDED)
    kept: Mapping[str, int] = field(default_factory=dict, metadata=ADDED)
    begun: tuple[str, ...] = field(default=(), metadata=ADDED)

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the volumes that hold, or may hold, what they did not when the rollout began."""
        return tuple(name for name in self.kept if name in self.begun or name in self.restored)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRun:
    """A task of a release that was begun: ``name`` is "before 1"; ``outcome`` None until it ended ("done", else why
    not)."""

    name: str
    instance: str
    began_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None


RolloutKind = Literal["deploy", "promote", "rollback"]
RolloutState = Literal["running", "done", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """The moving of an environment from one release to another. At most one of a place is ``running``.

    ``detail`` gathers what was measured (switch_ms, drained, cut, gap_ms) and, of a failed one, the reason.
    """

    id: int
    environment: EnvironmentId
    kind: RolloutKind
    source: int | None  # the release that was active when it began
    target: int
    state: RolloutState
    actor: str
    started_at: datetime
    ended_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    stage: Stage = Stage()


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnNames:
    """The names that are an environment's, among those of its settings: ``held``, and ``expected`` from the one that
    has them until this one can serve them."""

    held: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """Whether requests are to be answered with a page, and with which: None is the usual one. ``since``: when that was
    said, None: never. Of an older Instar's it is not known which page it said."""

    on: bool = False
    page: str | None = None
    since: datetime | None = None
    is_page_known: bool = field(default=True, metadata=ADDED)

    @property
    def page_word(self) -> str | None:
        """Return what an event tells of the page: its digest, "usual", or None where it is not known."""
        if not self.is_page_known:
            return None
        return "usual" if self.page is None else Digest.of(self.page.encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentState:
    """An environment as the ledger has it: its settings and which release has the traffic (None before the first)."""

    id: EnvironmentId
    settings: Settings
    active: int | None
    created_at: datetime
    rollout: Rollout | None = None  # the running one
    destroying: bool = False  # destroy was decided and not yet ended
    alarm: str | None = None  # why somebody is needed; until then nothing is replaced any more, if it ``alarm_holds``
    alarm_holds: bool = True
    project: str | None = None  # whose definition made it: the id in its lock; None until a lock with an id has come
    machine: str | None = None  # which has it, in a ledger that several share; None: no single one, or nobody else can
    names: OwnNames = OwnNames()
    maintenance: Maintenance = Maintenance()
    counted_since: datetime | None = None  # when the last alarm was over: replacements before that don't count

    @property
    def left_settings(self) -> Settings | None:
        """Return the settings that a rollout takes away, for as long as the release has the traffic that they are of;
        None where it takes none away."""
        if self.rollout is None or self.active in (None, self.rollout.target):
            return None
        return self.rollout.stage.settings_before
