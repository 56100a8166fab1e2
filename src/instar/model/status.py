"""How an environment is: by the ledger, its instances and its router together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.digest import Digest
from instar.model.drift import Finding
from instar.model.origin import Origin
from instar.model.release import EnvironmentId, TaintKind
from instar.model.roles import UNNAMED_ROLE

LayerGuarantee = Literal["verity", "immutable", "hashed"]
"""verity: the kernel checks every block as it reads it; immutable: the file system refuses every write to them
(``chattr +i``); hashed: a write is found, not prevented."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitedRequests:
    """So many ``requests`` of those that an analysis wants came to the candidate in this step; ``until``: when it is
    no longer waited for the others, None where a person decides. ``late``: the step's own pause is over;
    ``trouble``: why it is not known how many came; ``role``: to which of several they came."""

    requests: int
    wanted: int
    until: datetime | None
    late: bool = False
    trouble: str | None = field(default=None, metadata=ADDED)
    role: str | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaintStatus:
    """It is to be replaced from ``due_at`` on; ``isolated``: it has no traffic until then."""

    kind: TaintKind
    why: str
    due_at: datetime
    isolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStatus:
    """A member of a group that is to be replaced. ``aside_at``: since then it has no traffic, and is kept."""

    name: str
    taint: TaintStatus
    aside_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceStatus:
    """``healthy`` is None where nobody asked, and of one that is created and waits to begin. Of a group of several
    ``members``, so many are ``ready``: it is healthy when all are. ``role``: of which it is, where its release has
    roles. ``member_names``: how its engine calls those that it has now, where that was asked."""

    id: str
    state: str
    healthy: bool | None
    address: str
    started_at: datetime | None
    reason: str | None = None
    taint: TaintStatus | None = None
    members: int = field(default=1, metadata=ADDED)
    ready: int | None = field(default=None, metadata=ADDED)
    tainted_members: tuple[MemberStatus, ...] = field(default=(), metadata=ADDED)
    role: str = field(default=UNNAMED_ROLE, metadata=ADDED)
    member_names: tuple[str, ...] = field(default=(), metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseStatus:
    """``state``: active, candidate, draining, hot, stopped, failed (it never ran well).

    ``weight``: its share of new requests, in percent. ``pinned``: it is kept whatever ``keep`` says.
    ``origin``: where it comes from, None of one that an older Instar made.
    """

    number: int
    image: Digest
    config: Digest
    weight: int
    state: str
    instances: tuple[InstanceStatus, ...]
    pinned: bool = False
    origin: Origin | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutStatus:
    """A rollout that is under way: ``step`` of ``steps`` shares of the traffic are given, the last one ``percent``.

    ``paused``: it goes on when somebody says resume. ``verdict`` is the last one, as the ledger has it. ``awaited``:
    the requests that its analysis waits for. ``data``: the snapshots that volumes are to hold again.
    """

    release: int
    kind: str
    strategy: str
    actor: str
    started_at: datetime
    step: int
    steps: int
    percent: int
    paused: bool
    verdict: Mapping[str, Any] | None = None
    awaited: AwaitedRequests | None = None
    data: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class UseStatus:
    """Another environment that the active release finds by ``name`` ("redis.internal:6379"). ``trouble``: why nobody
    answers there, None where somebody may."""

    environment: str
    name: str
    trouble: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentStatus:
    """``unfinished`` is the target of a rollout that no process is carrying on, or that runs just now.

    ``router``: it runs, and under its holder; ``in_its_way``: what keeps it from that, where that is known.
    ``maintenance``: its requests are answered with a page. ``layers``: what keeps what it runs on as it was baked.
    ``alarm``: why the agent replaces nothing any more; ``agent``: the pid of this machine's; ``in_charge``: which agent
    acts there by itself, for people, wherever it is; ``worked_on_by``: who acts on it just now, for people; None:
    nobody does. ``names``: where it is reached through the machine's edge. ``internal``: only environments that use it
    reach it, by its ``inner_name``. ``uses``: which ones it finds by name itself; ``circle``: the way over what those
    use back to itself, both ends included, () where there is none. ``doors``: where each is, by ROLE or ROLE.PORT;
    ``shut``: which lead to nobody in the active release, a sentence each. ``taken``: who else's rules take requests for
    its names, as drift finds it; ``taken_unknown``: why that is not known, or not of everybody, None where it is.
    ``unanswered``: the roles ("" a service) that nobody is well of.
    """

    environment: EnvironmentId
    listen: tuple[str, ...]
    active: int | None
    unfinished: int | None
    router: bool
    destroying: bool
    releases: tuple[ReleaseStatus, ...]
    rollout: RolloutStatus | None = None
    alarm: str | None = None
    agent: int | None = None
    in_charge: str | None = None
    worked_on_by: str | None = None
    layers: LayerGuarantee | None = None
    maintenance: bool = False
    names: tuple[str, ...] = ()
    internal: bool = False
    inner_name: str | None = None
    uses: tuple[UseStatus, ...] = ()
    circle: tuple[str, ...] = ()
    taken: tuple[Finding, ...] = field(default=(), metadata=ADDED)
    taken_unknown: str | None = field(default=None, metadata=ADDED)
    doors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shut: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    in_its_way: str | None = None

    @property
    def reached_at(self) -> tuple[str, ...]:
        """Return the addresses and the names that requests come by."""
        return (*self.listen, *self.names, *((self.inner_name,) if self.inner_name is not None else ()))
