"""All about a router besides its servers: what its file, haproxy.cfg, is made from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Final, get_args

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.definition import Headers
from instar.model.requests import Compression, Requests
from instar.router import address, bodies, checking, connections, headers, in_front, previews, rates
from instar.router.address import Address
from instar.router.selection import SITE
from instar.router.slots import DOOR_KEY

FEWEST_SLOTS, SLOTS_PER_INSTANCE = 16, 6
LONGEST_MS: Final = 2**31 - 1  # Source: HAProxy 2.6 configuration manual, 2.5 "Time format"
FORM: Final = 8  # of the files that are written now; 1 is that of the first Instar
WITH_MAINTENANCE: Final = 4  # and those after it
WITH_DOORS_ALIKE: Final = 7  # requests wait, and are led to what is previewed, by each door
WITH_HTTP_BESIDE_TCP: Final = 8  # a door of http has its limits and its room also where the first is of tcp


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDoor:
    """A further door: of another port, or of another role. ``key`` says which, as the slots know it; all else is as a
    plan has it of its first door."""

    key: str
    listen: tuple[str, ...]
    protocol: connections.Protocol
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None = None
    health_host: str = "localhost"
    keep_alive_ms: int = 0
    stream_timeout_ms: int = 0
    also: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()  # what comes by these names, through the edge
    wait_ms: int = field(default=0, metadata=ADDED)

    @property
    def public(self) -> tuple[Address, ...]:
        return tuple(address.parse(text) for text in (*self.listen, *self.also))

    @property
    def for_instances(self) -> tuple[Address, ...]:
        return tuple(map(address.parse, self.inside))


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterFilePlan:
    """All about a router besides its servers. ``health_path`` None: its own check is a TCP connection.

    ``also`` are addresses that it listens on from before, each part of one of ``listen`` ("every address"): closing a
    socket would lose who has connected to it and waits. ``preview`` is where requests for one release are told apart:
    at an address of their own, by a "header", or (None) nowhere. ``door``: the machine's edge asks too. ``inside``:
    where it listens for instances that find it by name; no server in front comes there. ``doors``: those besides the
    first, which all else is about.
    """

    listen: tuple[str, ...]
    protocol: connections.Protocol
    request_timeout_ms: int
    tunnel_timeout_ms: int
    health_path: str | None
    instances: int
    also: tuple[str, ...] = ()
    preview: str | None = None
    health_host: str = field(default="localhost", metadata=ADDED)
    headers: Headers = field(default=Headers(), metadata=ADDED)
    wait_ms: int = field(default=0, metadata=ADDED)
    accept_proxy: tuple[str, ...] = field(default=(), metadata=ADDED)
    keep_alive_ms: int = field(default=0, metadata=ADDED)
    form: int = field(default=1, metadata=ADDED)
    door: bool = field(default=False, metadata=ADDED)
    requests: Requests = field(default=Requests(), metadata=ADDED)
    compression: Compression | None = field(default=None, metadata=ADDED)
    access_log: bool = field(default=False, metadata=ADDED)
    stream_timeout_ms: int = field(default=0, metadata=ADDED)
    inside: tuple[str, ...] = field(default=(), metadata=ADDED)
    sites: tuple[str, ...] = field(default=(), metadata=ADDED)  # of the first door, where others have some too
    doors: tuple[FileDoor, ...] = field(default=(), metadata=ADDED)

    @property
    def http(self) -> bool:
        return self.protocol != "tcp"

    @property
    def reads(self) -> bool:
        """Some door of it is of http: what is said of requests is about those."""
        beside = self.form >= WITH_HTTP_BESIDE_TCP and any(door.protocol != "tcp" for door in self.doors)
        return self.http or beside

    @property
    def maintained(self) -> bool:
        """Its file has maintenance."""
        return self.http and self.form >= WITH_MAINTENANCE

    @property
    def alike(self) -> bool:
        """Its file has of each door what once the first alone had."""
        return self.form >= WITH_DOORS_ALIKE

    def previews_by(self, door: FileDoor) -> bool:
        """Tell whether a request by ``door`` can ask for one release."""
        return self.alike and self.preview == previews.HEADER and door.protocol != "tcp"

    @property
    def previewed_doors(self) -> tuple[str, ...]:
        return tuple(door.key for door in self.doors if self.previews_by(door))

    @property
    def slots(self) -> int:
        """How many servers there must be room for: those of several releases at a time."""
        return max(FEWEST_SLOTS, SLOTS_PER_INSTANCE * self.instances)

    @property
    def public(self) -> tuple[Address, ...]:
        return tuple(address.parse(text) for text in (*self.listen, *self.also))

    @property
    def for_instances(self) -> tuple[Address, ...]:
        return tuple(map(address.parse, self.inside))

    @property
    def all_for_instances(self) -> tuple[Address, ...]:
        return (*self.for_instances, *(one for door in self.doors for one in door.for_instances))

    @property
    def preview_address(self) -> Address | None:
        return None if self.preview in (None, previews.HEADER) else address.parse(self.preview)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that it listens on, that of the preview last."""
        return (
            *(*self.public, *self.for_instances),
            *(one for door in self.doors for one in (*door.public, *door.for_instances)),
            *((self.preview_address,) if self.preview_address else ()),
        )

    @property
    def all_public(self) -> tuple[Address, ...]:
        return (*self.public, *(one for door in self.doors for one in door.public))

    def after(self, before: RouterFilePlan) -> RouterFilePlan:
        """Return this plan as it follows ``before`` while that one's router runs."""
        old = [one for one in before.all_public if one not in self.addresses]
        doors = tuple(replace(door, also=_parts(door.public, old)) for door in self.doors)
        return replace(self, also=_parts(self.public, old), doors=doors)

    def of_door(self, door: FileDoor) -> RouterFilePlan:
        """Return a plan that has ``door`` as its first and only one."""
        return replace(
            self,
            listen=door.listen,
            also=door.also,
            inside=door.inside,
            protocol=door.protocol,
            request_timeout_ms=door.request_timeout_ms,
            tunnel_timeout_ms=door.tunnel_timeout_ms,
            health_path=door.health_path,
            health_host=door.health_host,
            keep_alive_ms=door.keep_alive_ms,
            stream_timeout_ms=door.stream_timeout_ms,
            requests=self.requests if door.protocol != "tcp" else Requests(),
            compression=self.compression if door.protocol != "tcp" else None,
            wait_ms=door.wait_ms if self.alike else 0,
            preview=previews.HEADER if self.previews_by(door) else None,
            door=False,
            sites=(),
            doors=(),
        )


def _parts(wide: Sequence[Address], old: Sequence[Address]) -> tuple[str, ...]:
    """Return those of ``old`` that are a part of one of ``wide``."""
    return tuple(str(one) for one in old if any(each.covers(one) for each in wide))


def require(plan: RouterFilePlan) -> None:
    """Raise RouterError for what may not stand in a router's file."""
    if not (plan.listen or plan.door or plan.inside):
        raise RouterError("cannot configure a router: it needs addresses to listen on, each one once")
    _require_one(plan)
    for door in plan.doors:
        _require_door(plan, door)
        _require_one(plan.of_door(door))


def _require_one(plan: RouterFilePlan) -> None:
    if len(set(plan.addresses)) != len(plan.addresses):
        raise RouterError("cannot configure a router: it needs addresses to listen on, each one once")
    preview = plan.preview_address
    if preview and any(preview.overlaps(one) for one in plan.all_public):
        raise RouterError(f"cannot configure a router: '{preview}' cannot be both its own address and its preview's")
    if not all(SITE.fullmatch(site) for site in plan.sites):
        raise RouterError("cannot configure a router: a name that leads to it is none")
    if plan.form not in range(1, FORM + 1):
        raise RouterError(f"cannot read the router's file: a newer Instar wrote it (form {plan.form})")
    _require_check(plan)
    _require_numbers(plan)
    _require_requests(plan)
    if plan.preview and not (plan.http or (plan.reads and plan.preview == previews.HEADER)):
        raise RouterError("cannot configure a router: there is no preview of a service that does not speak http")
    if plan.protocol not in get_args(connections.Protocol):
        raise RouterError(f"cannot configure a router: it speaks http, h2 or tcp, not {plan.protocol!r}")
    in_front.require(plan.accept_proxy, "a router")


def _require_door(plan: RouterFilePlan, door: FileDoor) -> None:
    if not DOOR_KEY.fullmatch(door.key) or [one.key for one in plan.doors].count(door.key) > 1:
        raise RouterError(f"cannot configure a router: {door.key!r} is no door of its own")
    named = all(SITE.fullmatch(site) for site in door.sites)
    found = door.listen or door.sites or door.inside or "." not in door.key  # a role may be found by its name alone
    if not found or not named or (door.sites and door.protocol == "tcp"):
        raise RouterError(f"cannot configure a router: nobody gets to the door {door.key!r} like that")


def _require_check(plan: RouterFilePlan) -> None:
    if plan.health_path is not None and not checking.PATH.fullmatch(plan.health_path):
        raise RouterError(
            f"cannot configure a router: {plan.health_path!r} is no path for its health check",
            hint="letters, digits and /._~!*()@:&;=+,%?- can stand in it; write others as %XX",
        )
    if not checking.HOST.fullmatch(plan.health_host):
        raise RouterError(f"cannot configure a router: {plan.health_host!r} is no host for its health check")


def _require_numbers(plan: RouterFilePlan) -> None:
    for timeout_ms in (plan.request_timeout_ms, plan.tunnel_timeout_ms):
        if not 0 < timeout_ms <= LONGEST_MS:
            raise RouterError(f"cannot configure a router: no time-out can be {timeout_ms} ms")
    if not 0 <= plan.wait_ms <= LONGEST_MS - plan.request_timeout_ms - 1_000:
        raise RouterError(f"cannot configure a router: no request can wait {plan.wait_ms} ms")
    if plan.keep_alive_ms and not 1_000 <= plan.keep_alive_ms <= LONGEST_MS:
        raise RouterError(f"cannot configure a router: no connection is kept open for {plan.keep_alive_ms} ms")
    if not (0 < plan.headers.size_bytes <= headers.LARGEST_BYTES and 0 < plan.headers.count <= headers.MOST):
        raise RouterError(
            f"cannot configure a router: headers cannot have {plan.headers.size_bytes} bytes and {plan.headers.count}"
            " lines"
        )


def _require_requests(plan: RouterFilePlan) -> None:
    asked = plan.requests
    unread = not plan.reads and (asked != Requests() or plan.compression)
    if unread or (plan.stream_timeout_ms and not plan.http):
        raise RouterError("cannot configure a router: it does not read what is not of http")
    if asked.largest_body_bytes is not None and not 0 < asked.largest_body_bytes <= bodies.LARGEST_BYTES:
        raise RouterError(f"cannot configure a router: no body can have {asked.largest_body_bytes} bytes at the most")
    if asked.body_within_ms is not None and not 0 < asked.body_within_ms <= LONGEST_MS:
        raise RouterError(f"cannot configure a router: no body can take {asked.body_within_ms} ms at the most")
    if asked.rate and not (0 < asked.rate.requests <= rates.MOST and 0 < asked.rate.within_ms <= rates.LONGEST_MS):
        rate = f"{asked.rate.requests} requests in {asked.rate.within_ms} ms"
        raise RouterError(f"cannot configure a router: clients cannot be held to {rate}")
    if not 0 <= plan.stream_timeout_ms <= LONGEST_MS - plan.wait_ms:
        raise RouterError(f"cannot configure a router: no time-out can be {plan.stream_timeout_ms} ms")
    types = plan.compression.types if plan.compression else ()
    if not all(connections.MEDIA_TYPE.fullmatch(one) for one in types):
        raise RouterError(f"cannot configure a router: {types!r} are no types of answers")
