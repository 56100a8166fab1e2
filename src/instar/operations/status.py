"""``instar status``: what runs now, by the ledger, the runtime and the router together. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from instar.control.observe import observe
from instar.control.world import Copy, World
from instar.model.digest import Digest
from instar.model.release import EnvironmentState, Place, Release
from instar.operations.parts import Parts


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceStatus:
    """``healthy`` is None where nobody asked, and of one that is created and waits to begin."""

    id: str
    state: str
    healthy: bool | None
    address: str
    started_at: datetime | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseStatus:
    """``state``: active, candidate, draining, hot, stopped, failed (it never ran well).

    ``weight``: its share of new requests, in percent."""

    number: int
    image: Digest
    config: Digest
    weight: int
    state: str
    instances: tuple[InstanceStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentStatus:
    """``unfinished`` is the target of a rollout that no process is carrying on, or that runs just now.

    ``router``: it runs, and under its holder.
    """

    place: Place
    listen: tuple[str, ...]
    active: int | None
    unfinished: int | None
    router: bool
    destroying: bool
    releases: tuple[ReleaseStatus, ...]


def status(parts: Parts, environment: EnvironmentState) -> EnvironmentStatus:
    """Return how ``environment`` is: its newest ``keep.releases`` releases and all with instances, newest first."""
    provider = parts.provider(environment.settings.provider)
    world = observe(parts.ledger, provider, environment.place)
    newest = parts.ledger.releases(environment.place, last=environment.settings.keep.releases)
    releases = {release.number: release for release in newest} | dict(world.releases)
    total = sum(copy.weight for copy in world.copies)
    return EnvironmentStatus(
        place=environment.place,
        listen=environment.settings.listen,
        active=environment.active,
        unfinished=environment.rollout.target if environment.rollout else None,
        router=world.router_plan is not None,
        destroying=environment.destroying,
        releases=tuple(_release(world, release, total) for _, release in sorted(releases.items(), reverse=True)),
    )


def _release(world: World, release: Release, total: int) -> ReleaseStatus:
    copies = world.of(release)
    weight = sum(copy.weight for copy in copies)
    return ReleaseStatus(
        number=release.number,
        image=release.image,
        config=release.configuration.digest,
        weight=round(100 * weight / total) if total else 0,
        state=_state(world, release, copies),
        instances=tuple(_instance(copy) for copy in copies),
    )


def _state(world: World, release: Release, copies: tuple[Copy, ...]) -> str:
    environment = world.environment
    if release.number == environment.active:
        return "active"
    if environment.rollout is not None and environment.rollout.target == release.number:
        return "candidate"
    if any(copy.sessions for copy in copies):
        return "draining"
    if not release.ran_well:
        return "failed"
    return "hot" if any(copy.state in ("running", "created") for copy in copies) else "stopped"


def _reason(copy: Copy) -> str | None:
    """Return why it isn't well, where that is known."""
    if copy.state == "dead":
        status = copy.observed.exit_status
        return copy.observed.reason or (f"exit status {status}" if status is not None else "it is gone")
    return copy.probe.cause if copy.probe and not copy.probe.healthy else None


def _instance(copy: Copy) -> InstanceStatus:
    healthy = copy.probe.healthy if copy.probe else copy.routed.up if copy.routed else None
    return InstanceStatus(
        id=copy.id,
        state=copy.state,
        healthy=healthy if copy.state == "running" else None if copy.state == "created" else False,
        address=copy.instance.address,
        started_at=copy.instance.started_at,
        reason=_reason(copy),
    )
