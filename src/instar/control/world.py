"""One environment as wanted and as observed, at one moment: all that a decision is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from instar.model.release import EnvironmentState, Instance, Release
from instar.providers.base import Observed, Probe, RoutedTarget, RouterPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """An instance as intended (ledger), as it is (runtime), as it answers (probe) and as it is routed (router).

    ``probe`` is None where nobody asked; ``routed`` is None where the router doesn't know it.
    """

    instance: Instance
    observed: Observed
    probe: Probe | None = None
    routed: RoutedTarget | None = None

    @property
    def id(self) -> str:
        return self.instance.id

    @property
    def release(self) -> int:
        return self.instance.release

    @property
    def state(self) -> str:
        """planned (in the ledger only), created, running, or dead (it was there and is gone or has ended)."""
        if self.observed.state == "absent":
            return "planned" if self.instance.process is None else "dead"
        return "dead" if self.observed.state == "stopped" else self.observed.state

    @property
    def healthy(self) -> bool:
        return self.state == "running" and self.probe is not None and self.probe.healthy

    @property
    def weight(self) -> int:
        return self.routed.weight if self.routed else 0

    @property
    def sessions(self) -> int:
        return self.routed.sessions if self.routed else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """An environment at ``now``. ``releases`` has at least the active one, the target, and all with instances."""

    now: datetime
    environment: EnvironmentState
    releases: Mapping[int, Release]
    copies: tuple[Copy, ...] = ()
    router_running: bool = False
    router_plan: RouterPlan | None = None
    began: datetime | None = None  # when this run of the loop did
    tried: frozenset[int] = field(default_factory=frozenset)  # releases that got a replacement in this run already

    @property
    def active(self) -> Release | None:
        number = self.environment.active
        return None if number is None else self.releases[number]

    @property
    def target(self) -> Release | None:
        rollout = self.environment.rollout
        return None if rollout is None else self.releases[rollout.target]

    @property
    def wanted_copies(self) -> int:
        return self.environment.settings.instances

    def of(self, release: Release | None) -> tuple[Copy, ...]:
        """Return the copies of ``release``, oldest first."""
        number = None if release is None else release.number
        return tuple(copy for copy in self.copies if copy.release == number)

    def others(self, release: Release | None) -> tuple[Copy, ...]:
        number = None if release is None else release.number
        return tuple(copy for copy in self.copies if copy.release != number)

    def drained(self, copy: Copy) -> bool:
        """It has no request in flight, or its time to finish them is over."""
        return copy.sessions == 0 or self.now >= self.drain_deadline(copy)

    def drain_deadline(self, copy: Copy) -> datetime:
        release = self.releases[copy.release]
        if copy.release == self.environment.active:  # it loses its traffic in this run, not when its release did
            since = self.began or self.now
        else:
            since = release.last_active_at or copy.instance.created_at
        return since + timedelta(milliseconds=release.service.stop.drain_ms)


def wanted_plan(world: World, release: Release) -> RouterPlan:
    """Return the plan of a router that serves ``release`` and whatever else has copies.

    The router has one health check for all: where releases ask different paths it only connects, so that no
    release is judged by a path that it doesn't know.
    """
    plan = RouterPlan.of(world.environment.place, world.environment.settings, release.service)
    for number in {copy.release for copy in world.copies}:
        other = RouterPlan.of(world.environment.place, world.environment.settings, world.releases[number].service)
        if other.health_path != plan.health_path:
            return dataclasses.replace(plan, health_path=None)
    return plan


def routed(release: Release) -> bool:
    """Requests go to it: it has a port."""
    return release.service.port is not None


def alone(release: Release) -> bool:
    """It must not run beside another release: it holds a volume for itself."""
    return release.service.exclusive


def sleeps_when_hot(release: Release) -> bool:
    """Hot means created but not started: it must not run beside another, or would work though it has no traffic."""
    return alone(release) or not routed(release)
