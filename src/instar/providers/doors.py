"""The doors of an environment's router: which ports of a release they lead to, and how each takes requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Final, Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.definition import Headers, Health, Service
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.release import Release
from instar.model.roles import FIRST_DOOR, door_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """What a role of a release listens on: its own ``port``, behind ``door``, and ``more`` by the doors that lead
    there."""

    door: str
    port: int
    more: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, release: Release, role: str) -> Ports | None:
        """Return what is listened on; None where requests go to no instance of that role."""
        service, door = release.services[role], door_of(role, release.role)
        if service.port is None:
            return None
        return cls(
            door=door, port=service.port, more={f"{door}.{name}": one.port for name, one in service.ports.items()}
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DoorPlan:
    """A door of a router's besides the first, as :class:`RouterPlan` has that. ``key``: ".PORT" of the first role,
    "ROLE" or "ROLE.PORT" of another."""

    key: str
    listen: tuple[str, ...]
    protocol: Literal["http", "h2", "tcp"]
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None = None
    health_host: str = "localhost"
    keep_alive_ms: int = 0
    stream_timeout_ms: int = 0
    sites: tuple[str, ...] = ()  # what comes by these names, through the machine's edge
    wait_ms: int = field(default=0, metadata=ADDED)

    @classmethod
    def of(cls, key: str, door: Door, service: Service, others: Iterable[Service] = ()) -> DoorPlan:
        """Return the plan of a door that leads to a port of ``service``, a role's. Where that has none of its name, as
        a release before may not have had it, one of the ``others`` says how it is spoken to: nobody answers there."""
        _, named, port = key.partition(".")
        together = (service, *others)
        known = (one.ports[port] for one in together if port in one.ports)
        protocol = service.protocol
        if named:
            protocol = next((one.protocol for one in known), "http")
        path, host = asked_by_router(together) if not named else ONLY_CONNECTS
        return cls(
            key=key,
            listen=door.listen,
            protocol=protocol,
            request_timeout_ms=service.timeouts.request_ms,
            tunnel_timeout_ms=service.timeouts.tunnel_ms,
            health_path=path,
            health_host=host,
            keep_alive_ms=0 if named or protocol == "tcp" else kept_open_ms(together),
            stream_timeout_ms=(service.timeouts.stream_ms or 0) if protocol != "tcp" else 0,
            sites=door.sites if protocol != "tcp" else (),
            wait_ms=service.timeouts.wait_ms or 0,
        )


ONLY_CONNECTS: Final = (None, "localhost")
_NOBODY: Final = Service(command=(), health=Health(kind="none"))


def asked_by_router(services: Iterable[Service]) -> tuple[str | None, str]:
    """Return the path and the host of the health check of a role of several releases, as far as they are the router's
    business: it has one for all, so where they ask different ones it only connects."""
    asked = {(one.health.path, one.health.host) if one.health.kind == "http" else ONLY_CONNECTS for one in services}
    return asked.pop() if len(asked) == 1 else ONLY_CONNECTS


def kept_open_ms(services: Iterable[Service]) -> int:
    """Return for how long connections to a role of several releases are kept: as all of them allow."""
    return min(one.keep_alive_ms or 0 for one in services)


def widest(each: Sequence[Headers]) -> Headers:
    """Return what a router has to have room for: it is one for all roles. Of none that speaks http, the usual."""
    if not each:
        return Headers()
    return Headers(size_bytes=max(one.size_bytes for one in each), count=max(one.count for one in each))


def roles_of(settings: Settings) -> tuple[str, ...]:
    """Return the roles that have a door of their own, besides the first."""
    return tuple(sorted({key.partition(".")[0] for key in settings.doors} - {FIRST_DOOR}))


def door_plans(
    settings: Settings, services: tuple[Service, ...], roles: Mapping[str, tuple[Service, ...]]
) -> tuple[DoorPlan, ...]:
    """Return the plans of all doors besides the first. ``services`` are how the first role runs, in the release that is
    served and in those beside it; ``roles``: how others do."""
    found = []
    for key, door in sorted(settings.doors.items()):
        role = key.partition(".")[0]
        first, *others = (roles.get(role) or (_NOBODY,)) if role else services
        found.append(DoorPlan.of(key, door, first, others))
    return tuple(found)


def first_sites(settings: Settings) -> tuple[str, ...]:
    """Return the names that lead to the first door, where some lead to another."""
    if not any(door.sites for door in settings.doors.values()):
        return ()
    return tuple(one for one in settings.first_sites if one not in settings.names.redirect)
