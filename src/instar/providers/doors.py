"""The doors of an environment's router: which ports of a release they lead to, and how each takes requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.definition import Service
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.release import Release


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """What a role of a release listens on: its own ``port``, behind ``door``, and ``more`` by the doors that lead
    there."""

    door: str
    port: int
    more: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, release: Release, role: str) -> Ports | None:
        """Return what is listened on; None where requests go to no instance of that role. The first role's door is "",
        and "ROLE" another's, whatever the first is called."""
        service, door = release.services[role], "" if role == release.role else role
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
        """Return the plan of a door that leads to a port of ``service``. Where that has none of its name, as a release
        before may not have had it, one of the ``others`` says how it is spoken to: nobody answers there."""
        _, named, port = key.partition(".")
        known = (one.ports[port] for one in (service, *others) if port in one.ports)
        protocol = service.protocol
        if named:
            protocol = next((one.protocol for one in known), "http")
        return cls(
            key=key,
            listen=door.listen,
            protocol=protocol,
            request_timeout_ms=service.timeouts.request_ms,
            tunnel_timeout_ms=service.timeouts.tunnel_ms,
            stream_timeout_ms=(service.timeouts.stream_ms or 0) if protocol != "tcp" else 0,
            sites=door.sites if protocol != "tcp" else (),
            wait_ms=service.timeouts.wait_ms or 0,
        )


def first_sites(settings: Settings) -> tuple[str, ...]:
    """Return the names that lead to the first door, where some lead to another."""
    others, names = {site for door in settings.doors.values() for site in door.sites}, settings.names
    return tuple(one for one in (*names.http, *names.https) if one not in others) if others else ()
