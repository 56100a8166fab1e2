"""The plan of an environment's router: all doors of all of its roles, from its settings and its releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Final, Literal

from instar.frozen import dataclass
from instar.model.codec import ADDED, canonical
from instar.model.definition import Headers, Service
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId, OwnNames, Release
from instar.model.requests import Compression, Requests
from instar.providers.doors import (
    DoorPlan,
    asked_by_router,
    door_plans,
    first_sites,
    kept_open_ms,
    roles_of,
    widest,
)

_HEADER: Final = "header"  # what stands for a preview's address: each door's own


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterPlan:
    """All about an environment's router besides its targets."""

    environment: EnvironmentId
    listen: tuple[str, ...]  # "127.0.0.1:8080", each
    protocol: Literal["http", "h2", "tcp"]
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None  # the router's own check: GET this path, or a TCP connection when None
    instances: int  # wanted; the router makes room for several times as many targets
    preview: str | None = None  # where the previewed target is reached: an address of its own, "header", or nowhere
    health_host: str = "localhost"  # what the router's own check calls the service
    headers: Headers = Headers()
    wait_ms: int = 0  # how long a request waits while no target can take it; 0: it is refused at once
    accept_proxy: tuple[str, ...] = ()  # from these addresses, connections begin with the PROXY protocol's header
    keep_alive_ms: int = 0  # targets keep idle connections open for so long; 0: each request has one of its own
    names: HostNames = field(default=HostNames(), metadata=ADDED)  # whose requests the machine's edge passes on
    expected: tuple[str, ...] = field(default=(), metadata=ADDED)  # names that stay where they are until it serves
    requests: Requests = field(default=Requests(), metadata=ADDED)  # what is taken from clients
    compression: Compression | None = field(default=None, metadata=ADDED)
    access_log: bool = field(default=False, metadata=ADDED)  # what clients ask for is written down
    stream_timeout_ms: int = field(default=0, metadata=ADDED)  # of streams; 0: that of any request
    doors: tuple[DoorPlan, ...] = field(default=(), metadata=ADDED)  # besides the first, which all else is about
    sites: tuple[str, ...] = field(default=(), metadata=ADDED)  # names of the first door, where others have some too

    @property
    def fingerprint(self) -> str:
        """Return what tells it from any other plan: kept by a provider beside what it made of it."""
        return str(Digest.of(canonical(self)))

    @property
    def role_doors(self) -> tuple[DoorPlan, ...]:
        """Return the doors of the roles besides the first, each of its first port; a door's key is the role then."""
        return tuple(door for door in self.doors if "." not in door.key)

    @property
    def previewed_roles(self) -> frozenset[str]:
        """Return the roles besides the first whose door a request can ask for one release at: by its header, so where
        http is spoken."""
        by_header = self.role_doors if self.preview == _HEADER else ()
        return frozenset(door.key for door in by_header if door.protocol != "tcp")

    @classmethod
    def of(
        cls,
        environment: EnvironmentId,
        settings: Settings,
        service: Service,
        others: Iterable[Service] = (),
        own: OwnNames | None = None,
        roles: Mapping[str, tuple[Service, ...]] = MappingProxyType({}),
    ) -> RouterPlan:
        """Return the plan of a router that serves ``service``, and ``others`` that run beside it; ``roles`` are those
        besides the first that have a door, each with how it runs here and there.

        A role has one health check for all: where they ask different paths it only connects, so that no release is
        judged by a path that it doesn't know. So with connections: they are kept as all of them allow.
        """
        http, together = service.http, (service, *others)
        path, host = asked_by_router(together)
        routed = [one for each in roles.values() for one in each[:1] if one.http] + ([service] if http else [])
        doors = door_plans(settings, together, roles)
        read = http or any(door.protocol != "tcp" for door in doors)
        return cls(
            environment=environment,
            listen=settings.listen,
            protocol=service.protocol,
            request_timeout_ms=service.timeouts.request_ms,
            tunnel_timeout_ms=service.timeouts.tunnel_ms,
            health_path=path,
            instances=settings.instances + sum(settings.of_role(role).instances for role in roles_of(settings)),
            preview=settings.preview if http or (read and settings.preview == _HEADER) else None,
            health_host=host,
            headers=widest([one.headers for one in routed]),
            wait_ms=service.timeouts.wait_ms or 0,
            accept_proxy=settings.accept_proxy,
            keep_alive_ms=kept_open_ms(together) if http else 0,
            names=settings.names if own is None else settings.names.only(own.held),
            expected=() if own is None else own.expected,
            requests=settings.requests if read else Requests(),
            compression=settings.compression if read else None,
            access_log=settings.access_log and read,
            stream_timeout_ms=(service.timeouts.stream_ms or 0) if http else 0,
            doors=doors,
            sites=first_sites(settings) if http else (),
        )


def router_plan(
    environment: EnvironmentId,
    settings: Settings,
    release: Release,
    beside: Iterable[Release] = (),
    own: OwnNames | None = None,
) -> RouterPlan:
    """Return the plan of a router that serves ``release``, and what of the releases ``beside`` it runs. What these have
    of a role that ``release`` has not says how its door is spoken to, where nobody answers."""
    others = tuple(beside)
    each = {role: [one.configuration.roles.get(role) for one in (release, *others)] for role in roles_of(settings)}
    roles = {role: tuple(one for one in found if one is not None) for role, found in each.items()}
    services = [one.service for one in others]
    return RouterPlan.of(environment, settings.of_role(release.role), release.service, services, own, roles)
