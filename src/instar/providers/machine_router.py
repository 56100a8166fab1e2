"""What a machine has to route traffic with: a router of each environment, and the edge before them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from instar.model.drift import Finding
from instar.model.release import EnvironmentId
from instar.providers.edge import Edge
from instar.providers.facets import Counts, Maintains, Previews
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RouterState, Target


class MachineEdge(Edge, Protocol):
    """Passes requests to routers by name. One for all environments; it is there as long as one has names."""

    def check(self) -> None:
        """Raise RouterError when its addresses cannot be had (the port is taken: by which process)."""

    def ensure(self, plan: RouterPlan) -> bool:
        """Pass requests for the plan's names to its environment's router, and no others; return whether some are
        passed to it still that another expects. No request is lost."""

    def restore(self, plan: RouterPlan) -> bool:
        """Make the edge as it was made again, without losing a request, with what ``plan`` passes on. Return False
        where none runs, which is not started by this."""

    def remove(self, environment: EnvironmentId) -> None:
        """Pass nothing to an environment any more."""

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Pass nothing to environments that are none of ``known()``; return what of it went."""


class Router(Previews, Counts, Maintains, Protocol):
    """Where traffic goes. One per environment; a place is made known to it by ``ensure``."""

    def check(self, plan: RouterPlan) -> None:
        """Raise RouterError when ``plan.listen`` cannot be had (the port is taken: by which process)."""

    def ensure(
        self,
        plan: RouterPlan,
        *,
        door: bool = False,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make the router run as ``plan`` says, without losing a request when it runs already. ``door``: the edge asks
        it though the plan has no names. ``inside``: where it listens for instances that find it by name; ``beside``:
        and where for those that find another role so, by its name."""

    def attach(self, environment: EnvironmentId, targets: Sequence[Target]) -> None:
        """Make ``targets`` known with weight 0, and return when the router's own checks have found each well.

        Raises RouterError when they are not within five seconds; nothing that has traffic is touched.
        """

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        """Give new requests to attached targets by name and weight (1–256), and none to any other target.

        Those not named stay attached, draining. Written to the router's file before it returns, so that it
        holds after a restart. Returns the seconds in which the traffic moved.
        """

    def detach(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        """Take targets away, cutting what is still in flight; return how many sessions were cut.

        When it returns, no router file names their addresses.
        """

    def observe(self, environment: EnvironmentId) -> RouterState:
        """Return what the router does now."""

    def inspect(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        """Return what of the router is not as this provider made it; nothing where none runs."""

    def restore(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        *,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        """Make the router as it was made again, without losing a request: ``plan``, and of ``targets`` those that it
        has, with their weights; listening ``inside``, and ``beside``, too. Return False where none runs, which is not
        started by this."""

    def remove(self, environment: EnvironmentId) -> None:
        """Stop the router and remove everything of it."""

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        """Stop routers that belong to this state directory and to none of ``known``; return their names."""
