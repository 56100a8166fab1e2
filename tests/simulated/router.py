"""A router in memory, which sends a test's requests where the real one would."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from instar.errors import RouterError
from instar.model.drift import Finding
from instar.model.release import EnvironmentId, Served
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Counters, RoutedTarget, RouterState, Target
from simulated.clock import VirtualClock
from simulated.effects import Effects
from simulated.runtime import SimulatedRuntime

ATTACH_TIMEOUT_S = 5.0
HIGHEST_WEIGHT = 256
_NOTHING = Served()


@dataclass(kw_only=True)
class Held:
    """A request that waits until a target can take it. ``answered``: by whom, once ``over``."""

    until: datetime
    over: bool = False
    answered: str | None = None


@dataclass(kw_only=True)
class Routes:
    """One environment's router. ``plan``, ``targets`` and ``weights`` are in its file: they outlive its process."""

    plan: RouterPlan
    running: bool = True
    targets: dict[str, Target] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, list[datetime]] = field(default_factory=dict)  # when each request in flight will end
    served: dict[str, Served] = field(default_factory=dict)
    previewed: dict[int, str] = field(default_factory=dict)
    previewed_beside: dict[int, tuple[str, ...]] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    seen: dict[str, tuple[object, RoutedTarget]] = field(default_factory=dict)  # what was last said of each
    requests: int = 0
    failed: int = 0
    inside: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)


class SimulatedRouter:
    """Implements ``providers.base.Router``. ``refuses`` names the verbs that fail; ``taken`` says which listening
    addresses somebody else has. Requests of tests come in by :meth:`request`."""

    def __init__(self, *, runtime: SimulatedRuntime, clock: VirtualClock, effects: Effects) -> None:
        self.refuses: set[str] = set()
        self.taken: dict[str, str] = {}
        self.tampered: dict[EnvironmentId, tuple[Finding, ...]] = {}  # what an inspection finds, until it is restored
        self._runtime = runtime
        self._clock = clock
        self._effects = effects
        self._places: dict[EnvironmentId, Routes] = {}
        self.maintained: set[EnvironmentId] = set()
        self.pages: dict[EnvironmentId, str] = {}
        self._turn = itertools.count()
        self._guard = effects.guard  # one for all: a watcher looks at everything
        runtime.has_traffic = self.has_traffic

    # What tests do to it

    def request(
        self, environment: EnvironmentId, *, lasts_s: float = 0.0, release: int | None = None, door: str = ""
    ) -> str | None:
        """Send a request by ``door``, for ``release`` if it says so; return the name of the target that answers it,
        None when nothing answers well."""
        with self._guard:
            routes = self._places.get(environment)
            if routes is None or not routes.running:
                return None
            if release is not None and routes.plan.preview == "header":
                return self._answered_as(routes, release)
            if environment in self.maintained:
                return None
            self._let_go(routes)
            routes.requests += 1
            ready = self._ready(routes, door)
            if not ready and routes.plan.wait_ms:
                routes.held.append(Held(until=self._clock.peek() + timedelta(milliseconds=routes.plan.wait_ms)))
                return None
            return self._answered(routes, ready, lasts_s)

    def held(self, environment: EnvironmentId) -> tuple[Held, ...]:
        """Return the requests that had to wait, those that are over too."""
        with self._guard:
            routes = self._places[environment]
            self._let_go(routes)
            return tuple(routes.held)

    def request_preview(self, environment: EnvironmentId) -> str | None:
        """Send a request to the preview address; return who answers it as :meth:`request` does."""
        with self._guard:
            routes = self._places.get(environment)
            if routes is None or not routes.running or routes.plan.preview in (None, "header"):
                return None
            return self._answered_as(routes, max(self._previewed(routes), default=0))

    def serving(self, environment: EnvironmentId, door: str = "") -> tuple[str, ...]:
        """Return the names of the well targets with weight: where a request that came now by ``door`` could go."""
        with self._guard:
            routes = self._places.get(environment)
            if routes is None or not routes.running:
                return ()
            if door and door not in {one.key for one in routes.plan.doors}:
                return ()
            return tuple(dict.fromkeys(self._ready(routes, door)))

    def has_traffic(self, name: str) -> bool:
        """Tell whether requests can come to a target."""
        return any(routes.running and routes.weights.get(name) for routes in self._places.values())

    def reboot(self) -> None:
        """The machine starts anew: no router runs, their files are there."""
        for routes in self._places.values():
            self._lose(routes)
            routes.running, routes.requests, routes.failed = False, 0, 0
            routes.sessions.clear()
            routes.served.clear()

    def die(self) -> None:
        """Every router process ends; what is in the files stays."""
        for routes in self._places.values():
            self._lose(routes)
            routes.running = False
            routes.sessions.clear()
            routes.served.clear()

    # The protocol

    def check(self, plan: RouterPlan) -> None:
        routes = self._places.get(plan.environment)
        ours = _addresses(routes.plan) if routes is not None and routes.running else ()
        for address in _addresses(plan):
            if address in self.taken and address not in ours:
                raise RouterError(f"cannot listen on '{address}': {self.taken[address]} has it")

    def ensure(
        self,
        plan: RouterPlan,
        *,
        door: bool = False,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._refuse("ensure", plan.environment)
        self.check(plan)
        with self._guard:
            routes = self._places.get(plan.environment)
            if (
                routes is not None
                and routes.running
                and (routes.plan, routes.inside, routes.beside) == (plan, inside, beside)
            ):
                return
            with self._effects.step(f"ensure {plan.environment}"):
                if routes is None:
                    self._places[plan.environment] = Routes(plan=plan, inside=inside, beside=dict(beside))
                else:
                    routes.plan, routes.running, routes.inside = plan, True, inside
                    routes.beside = dict(beside)
                    routes.previewed = routes.previewed if plan.preview else {}

    def attach(self, environment: EnvironmentId, targets: Sequence[Target]) -> None:
        self._refuse("attach", environment)
        with self._guard:
            routes = self._running(environment, "attach")
            for target in targets:
                if routes.targets.get(target.name, target) != target:
                    raise RouterError(f"cannot attach '{target.name}': it is somewhere else already")
            new = [target for target in targets if target.name not in routes.targets]
            with self._effects.step(f"attach {environment} {' '.join(target.name for target in new)}"):
                for target in new:
                    routes.targets[target.name] = target
                    routes.weights[target.name] = 0
            unwell = [target.name for target in targets if not self._up(routes, target.name)]
            if unwell:
                self._clock.sleep(ATTACH_TIMEOUT_S)
                self._drop(environment, routes, [target.name for target in new])
                raise RouterError(f"cannot attach '{unwell[0]}': the router's check did not find it well in 5 s")

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float:
        self._refuse("route", environment)
        with self._guard:
            if not weights and not self.observe(environment).running:
                if environment in self._places:
                    self._weigh(self._places[environment], {})
                return 0.0
            routes = self._running(environment, "route")
            self._must_fit(routes, weights)
            with self._effects.step(f"route {environment} {' '.join(weights)}"):
                self._weigh(routes, weights)
        return 0.001

    def maintenance(self, environment: EnvironmentId) -> bool:
        return environment in self.maintained

    def maintenance_page(self, environment: EnvironmentId) -> str | None:
        return self.pages.get(environment)

    def set_maintenance(self, environment: EnvironmentId, *, on: bool, page: str | None) -> None:
        self._refuse("set_maintenance", environment)
        with self._guard:
            routes = self._places.get(environment)
            if routes is None or routes.plan.protocol == "tcp":
                raise RouterError(f"cannot answer for '{environment}' with a page")
            with self._effects.step(f"maintenance {environment} {on}"):
                self.pages.pop(environment, None)
                if page is not None:
                    self.pages[environment] = page
                (self.maintained.add if on else self.maintained.discard)(environment)

    def preview(
        self,
        environment: EnvironmentId,
        targets: Mapping[int, str],
        beside: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._refuse("preview", environment)
        with self._guard:
            routes = self._places.get(environment)
            if routes is None or routes.plan.preview is None:
                return
            wanted = {number: name for number, name in targets.items() if name in routes.targets}
            others = self._by_header(routes, beside)
            if (wanted, others) != (routes.previewed, routes.previewed_beside):
                with self._effects.step(f"preview {environment} {wanted} {others}"):
                    routes.previewed, routes.previewed_beside = wanted, others

    def detach(self, environment: EnvironmentId, names: Sequence[str]) -> int:
        self._refuse("detach", environment)
        with self._guard:
            routes = self._places.get(environment)
            present = [name for name in names if routes and name in routes.targets]
            if routes is None or not present:
                return 0
            cut = sum(self._in_flight(routes, name) for name in present)
            routes.failed += cut
            self._drop(environment, routes, present)
            return cut

    def observe(self, environment: EnvironmentId) -> RouterState:
        with self._guard:
            routes = self._places.get(environment)
            if routes is None:
                return RouterState(running=False)
            targets = tuple(self._seen(routes, name) for name in routes.targets)
            plan = routes.plan if routes.running else None
            return RouterState(
                running=routes.running,
                plan=plan,
                targets=targets,
                previewed=self._previewed(routes),
                previewed_beside=self._previewed_beside(routes),
                inside=routes.inside,
                inside_beside=routes.beside,
            )

    def inspect(self, environment: EnvironmentId) -> tuple[Finding, ...]:
        return self.tampered.get(environment, ())

    def restore(
        self,
        plan: RouterPlan,
        targets: Sequence[Target],
        *,
        inside: tuple[str, ...] = (),
        beside: Mapping[str, str] = MappingProxyType({}),
    ) -> bool:
        self._refuse("restore", plan.environment)
        with self._guard:
            routes = self._places.get(plan.environment)
            if routes is None or not routes.running:
                return False
            with self._effects.step(f"restore {plan.environment}"):
                routes.plan, routes.inside, routes.beside = plan, inside, dict(beside)
                self.tampered.pop(plan.environment, None)
            return True

    def counters(self, environment: EnvironmentId) -> Counters:
        routes = self._places.get(environment)
        if routes is None:
            return Counters(requests=0, failed=0)
        self._let_go(routes)
        return Counters(requests=routes.requests, failed=routes.failed)

    def remove(self, environment: EnvironmentId) -> None:
        self._refuse("remove", environment)
        with self._guard:
            if environment in self._places:
                with self._effects.step(f"close {environment}"):
                    del self._places[environment]
                    self.maintained.discard(environment)

    def clear_orphans(self, known: Callable[[], Sequence[EnvironmentId]]) -> tuple[str, ...]:
        orphans = [environment for environment in self._places if environment not in known()]
        for environment in orphans:
            self.remove(environment)
        return tuple(str(environment) for environment in orphans)

    # How it works

    def _refuse(self, verb: str, environment: EnvironmentId) -> None:
        if verb in self.refuses:
            raise RouterError(f"cannot {verb} '{environment}': the router refuses")

    def _running(self, environment: EnvironmentId, verb: str) -> Routes:
        routes = self._places.get(environment)
        if routes is None or not routes.running:
            raise RouterError(f"cannot {verb} '{environment}': its router does not run")
        return routes

    def _must_fit(self, routes: Routes, weights: Mapping[str, int]) -> None:
        for name, weight in weights.items():
            if name not in routes.targets:
                raise RouterError(f"cannot route to '{name}': it is not attached")
            if not 1 <= weight <= HIGHEST_WEIGHT:
                raise RouterError(f"cannot route to '{name}': {weight} is no weight from 1 to {HIGHEST_WEIGHT}")
        for door in {one.door for one in routes.targets.values()}:
            mine = [name for name in weights if routes.targets[name].door == door]
            others = (name for name in self._ready(routes, door) if name not in weights)
            if mine and not any(self._up(routes, name) for name in mine) and any(others):
                raise RouterError(f"cannot route to '{mine[0]}': the router's checks fail")

    def _weigh(self, routes: Routes, weights: Mapping[str, int]) -> None:
        self._let_go(routes)
        routes.weights = {name: weights.get(name, 0) for name in routes.targets}
        self._let_go(routes)

    def _ready(self, routes: Routes, door: str = "") -> list[str]:
        weighted = [name for name, weight in routes.weights.items() if weight and routes.targets[name].door == door]
        up = [name for name in weighted if self._up(routes, name)]
        return [name for name in up for _ in range(routes.weights[name])]

    def _answered(self, routes: Routes, ready: Sequence[str], lasts_s: float = 0.0) -> str | None:
        """Have one of those that are ``ready`` answer; return which did so well."""
        if not ready:
            routes.failed += 1
            return None
        name = ready[next(self._turn) % len(ready)]
        if lasts_s:
            until = self._clock.peek() + timedelta(seconds=lasts_s)
            routes.sessions.setdefault(name, []).append(until)
        well = self._answered_well(routes, name)
        routes.failed += not well
        return name if well else None

    def _let_go(self, routes: Routes) -> None:
        """Have requests that waited answered, if there is somebody now, or refused, if their time is over."""
        for one in (held for held in routes.held if not held.over):
            late = self._clock.peek() >= one.until
            ready = [] if late or not routes.running else self._ready(routes)
            if late or ready:
                one.answered, one.over = self._answered(routes, ready), True

    def _lose(self, routes: Routes) -> None:
        for one in routes.held:
            one.over = True

    def _drop(self, environment: EnvironmentId, routes: Routes, names: Sequence[str]) -> None:
        with self._effects.step(f"detach {environment} {' '.join(names)}"):
            for name in names:
                for kept in (routes.targets, routes.weights, routes.sessions, routes.served, routes.seen):
                    kept.pop(name, None)
            routes.previewed = {number: name for number, name in routes.previewed.items() if name not in names}

    def _answered_well(self, routes: Routes, name: str) -> bool:
        """Count a request that ``name`` answers as it behaves; return whether it did so well."""
        behaviour = self._runtime.behaviour_at(routes.targets[name].address)
        before = routes.served.get(name, Served())
        failed = int((before.requests + 1) * behaviour.fails_share) - int(before.requests * behaviour.fails_share)
        routes.served[name] = before + Served(requests=1, failed=failed, response_ms=behaviour.answers_in_ms)
        return not failed

    def _answered_as(self, routes: Routes, release: int) -> str | None:
        """Return who answers for ``release``; that counts as nobody's traffic."""
        name = self._previewed(routes).get(release)
        return name if name and self._up(routes, name) else None

    def _seen(self, routes: Routes, name: str) -> RoutedTarget:
        """Return a target as it is, as the same value while nothing about it changes: there can be thousands."""
        facts = (
            routes.targets[name],
            routes.weights[name],
            self._in_flight(routes, name),
            routes.running and self._up(routes, name),
            routes.served.get(name, _NOTHING),
        )
        known = routes.seen.get(name)
        if known is None or known[0] != facts:
            target, weight, sessions, up, served = facts
            made = RoutedTarget(target=target, weight=weight, sessions=sessions, up=up, served=served)
            known = routes.seen[name] = (facts, made)
        return known[1]

    def _previewed(self, routes: Routes) -> Mapping[int, str]:
        kept = routes.previewed if routes.plan.preview is not None else {}
        return {number: name for number, name in kept.items() if name in routes.targets}

    def _by_header(self, routes: Routes, beside: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
        """Only doors of http have requests that can ask for a release, by a header."""
        spoken = {door.key for door in routes.plan.doors if door.protocol != "tcp"}
        asked = spoken if routes.plan.preview == "header" else set[str]()
        kept = {
            number: tuple(
                sorted(name for name in names if name in routes.targets and routes.targets[name].door in asked)
            )
            for number, names in beside.items()
        }
        return {number: names for number, names in kept.items() if names}

    def _previewed_beside(self, routes: Routes) -> Mapping[int, tuple[str, ...]]:
        kept = routes.previewed_beside if routes.plan.preview is not None else {}
        there = {number: tuple(name for name in names if name in routes.targets) for number, names in kept.items()}
        return {number: names for number, names in there.items() if names}

    def _up(self, routes: Routes, name: str) -> bool:
        target = routes.targets[name]
        return self._runtime.well_at(target.address, target.port)

    def _in_flight(self, routes: Routes, name: str) -> int:
        if name not in routes.sessions:
            return 0
        now = self._clock.peek()
        return sum(1 for until in routes.sessions[name] if until > now)


def _addresses(plan: RouterPlan) -> tuple[str, ...]:
    return plan.listen if plan.preview in (None, "header") else (*plan.listen, plan.preview)
