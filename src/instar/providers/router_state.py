"""What an environment's router does: its targets, and the requests that they had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from instar.frozen import dataclass
from instar.model.release import Served
from instar.providers.router_plan import RouterPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where requests can go. ``name`` is an instance's id. ``port`` is that of its role, which ``door`` leads to;
    ``ports``: those that other doors lead to, by these."""

    name: str
    address: str
    port: int
    door: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedTarget:
    """A target as the router has it. ``weight`` 0 takes no new requests. ``sessions`` are in flight now.

    ``served`` counts since it was attached, or the router began anew; failed are answers of 5xx, and requests without.
    """

    target: Target
    weight: int
    sessions: int
    up: bool
    served: Served = Served()


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterState:
    """``plan`` is the one in force, None when the router does not run. ``previewed``: release → the target that a
    request for that very release goes to, and ``previewed_beside`` those of its other roles, by the doors of these, in
    the order of their names (None: it shows none). ``inside``: where it listens for instances that find it by name, and
    ``inside_beside`` for those that find another role of it so, by role."""

    running: bool
    plan: RouterPlan | None = None
    targets: tuple[RoutedTarget, ...] = ()
    previewed: Mapping[int, str] = field(default_factory=dict)
    previewed_beside: Mapping[int, tuple[str, ...]] | None = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    inside_beside: Mapping[str, str] = field(default_factory=dict)
    unanswered: frozenset[str] = frozenset()  # targets that are up, but not by each further door that leads to them


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Totals, also over routers that followed one another. ``since``: when the counting began, which it does anew
    after one that was killed; None where none runs, or nobody knows."""

    requests: int
    failed: int  # answered 5xx or not at all
    unlogged: int = field(default=0, compare=False)  # whose lines of an access log the router could not pass on
    since: datetime | None = field(default=None, compare=False)

    def and_before(self, before: Counters) -> Counters:
        """Return what this router and ``before``, which it followed, have answered."""
        return Counters(
            requests=self.requests + before.requests,
            failed=self.failed + before.failed,
            unlogged=self.unlogged + before.unlogged,
            since=before.since,
        )
