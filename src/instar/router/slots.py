"""Which server sits in which of a router's slots: pure.

HAProxy is started with a fixed number of slots, ``s1`` to ``sN``, most of them free; a server that comes or goes
changes what a slot holds while it runs. The file says what is wanted, HAProxy's own tables what is; the difference is
a list of commands. A server with a weight is ``ready``; one without is in ``drain``, so that nothing sticks to it, and
keeps the weight that it had: HAProxy yields to requests between two commands, so a switch is as few as can be. One that
HAProxy has read from the file with the weight 0 is as good as drained.

A router can have several doors: of several ports, or roles. Each has a backend of its own with as many slots, and what
is in a slot is there in each at the port that belongs to the door, if it has one: so one list of slots says what all
doors have, and they move together. The first door's key is "", another port's of its role ".PORT", another role's
"ROLE" or "ROLE.PORT", each by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.roles import FIRST_DOOR
from instar.router.address import Address

BACKEND: Final = "instances"
RISE, FALL = 1, 2
FULL_HEALTH: Final = RISE + FALL - 1
HEAVIEST: Final = 256
FREE: Final = Address("127.0.0.1", 1)  # what a free slot names: nothing listens there, and nothing is sent there

DOOR_KEY: Final = re.compile(r"[a-z0-9-]{0,63}\.[a-z0-9-]{1,63}|[a-z0-9-]{1,63}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAINTENANCE, _DRAIN = 0x01, 0x08  # bits of srv_admin_state. Source: HAProxy 2.6 management guide, "show servers state"
_RUNNING = 2  # a value of srv_op_state
_CHECK_ENABLED = 0x04  # a bit of srv_check_state
_UNNAMED: Final = "unnamed-s"  # of a server whose slot is known, and whose name is lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a slot holds. ``weight`` 0: it takes no new requests. ``address`` is where requests go that come by
    ``door``, its role's own; ``ports``: where those go that come by others, by their keys."""

    name: str
    address: Address
    weight: int = 0
    door: str = FIRST_DOOR
    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, host: str, port: int, *, door: str = FIRST_DOOR, ports: Mapping[str, int] | None = None
    ) -> Server:
        """Raises RouterError for anything that has no place in HAProxy's file."""
        if not _NAME.fullmatch(name):
            raise RouterError(f"cannot route to {name!r}: a target's name is made of letters, digits and . _ -")
        if not all(DOOR_KEY.fullmatch(key) for key in ((door,) if door else ()) + tuple(ports or ())):
            raise RouterError(f"cannot route to {name!r}: {door!r} is no door")
        try:
            for number in (ports or {}).values():
                Address.of(host, number)
            return cls(name=name, address=Address.of(host, port), door=door, ports=dict(ports or {}))
        except ValueError as error:
            raise RouterError(f"cannot route to '{name}': {host!r} port {port!r} is no address") from error

    def at(self, door: str) -> Address | None:
        """Return where requests go that come by ``door``; None: they do not come here."""
        if door == self.door:
            return self.address
        return Address(self.address.host, self.ports[door]) if door in self.ports else None

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.address, *(Address(self.address.host, port) for port in self.ports.values()))


Slots = tuple[Server | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """A slot as HAProxy has it now. ``weight`` counts only where neither ``maintenance`` nor ``drain`` is set.

    ``checked``: its health is. ``elsewhere``: where that asks, and who else decides, if it is not the server itself.
    """

    address: Address
    weight: int
    maintenance: bool
    drain: bool
    up: bool
    health: int
    checked: bool = True
    elsewhere: str = ""

    @property
    def share(self) -> int:
        """The weight that new requests go by."""
        return 0 if self.maintenance or self.drain else self.weight

    @property
    def proven(self) -> bool:
        """Checks have passed since it came, so ``up`` is more than HAProxy's first assumption."""
        return self.up and self.health == FULL_HEALTH


def held(slots: Slots) -> Iterator[tuple[int, Server]]:
    """Yield the servers with the index of their slots."""
    return ((index, server) for index, server in enumerate(slots) if server is not None)


def find(slots: Slots, name: str) -> int | None:
    return next((index for index, server in held(slots) if server.name == name), None)


def seen_from(door: str, slots: Slots) -> Slots:
    """Return what the slots of a door's backend hold."""
    return tuple(None if server is None else _at(server, door) for server in slots)


def _at(server: Server, door: str) -> Server | None:
    address = server.at(door)
    if address == server.address:
        return server
    return None if address is None else replace(server, address=address)


def padded(slots: Slots, count: int) -> Slots:
    """Return ``slots`` with free ones added until there are ``count``; none is taken away."""
    return slots + (None,) * (count - len(slots))


def attached(slots: Slots, servers: Sequence[Server]) -> Slots:
    """Return ``slots`` with each of ``servers`` in one; there are more slots than before when too few were free."""
    found = list(slots)
    for server in servers:
        index = find(tuple(found), server.name)
        if index is None and (index := _unnamed_at(found, server)) is not None:
            found[index] = replace(server, weight=(found[index] or server).weight)
        elif index is None:
            index = found.index(None) if None in found else len(found)
            found[index : index + 1] = [server]
        elif (there := found[index]) is not None and there.address != server.address:
            raise RouterError(f"cannot route to '{server.name}' at {server.address}: it is at {there.address}")
        else:  # its ports may be known by other doors since
            found[index] = replace(server, weight=there.weight if there is not None else 0)
    return tuple(found)


def _unnamed_at(slots: Sequence[Server | None], wanted: Server) -> int | None:
    """Return which of ``slots`` has the address of ``wanted`` and lost its name with the file."""
    return next(
        (
            index
            for index, server in enumerate(slots)
            if server and server.name.startswith(_UNNAMED) and server.address == wanted.address
        ),
        None,
    )


def seen(live: Mapping[str, Sequence[Live]]) -> Slots:
    """Return what HAProxy's slots hold, ``live`` by door, where the file that says so is lost: servers without their
    names. They keep their traffic, and get their names back when they are attached again."""
    count = max((len(rows) for rows in live.values()), default=0)
    return tuple(_seen_at(index, {door: rows[index] for door, rows in live.items()}) for index in range(count))


def _seen_at(index: int, rows: Mapping[str, Live]) -> Server | None:
    there = {door: one for door, one in sorted(rows.items()) if one.address != FREE}
    if not there:
        return None
    door, first = next(iter(there.items()))
    ports = {key: one.address.port for key, one in there.items() if key != door}
    weight = min(first.share, HEAVIEST)
    return Server(name=f"{_UNNAMED}{index + 1}", address=first.address, weight=weight, door=door, ports=ports)


def weighted(slots: Slots, weights: Mapping[str, int]) -> Slots:
    """Return ``slots`` with the given weights, and 0 for every server that has none."""
    for name, weight in weights.items():
        if find(slots, name) is None:
            raise RouterError(f"cannot route to {name!r}: it is not attached")
        if not 1 <= weight <= HEAVIEST:
            raise RouterError(f"cannot route to {name!r}: its weight {weight} is not from 1 to {HEAVIEST}")
    return tuple(server and replace(server, weight=weights.get(server.name, 0)) for server in slots)


def without(slots: Slots, names: Sequence[str]) -> Slots:
    return tuple(None if server is None or server.name in names else server for server in slots)


def read_state(text: str) -> tuple[Live, ...]:
    """Read what ``show servers state`` printed, in the order of the slots."""
    rows = [line.split() for line in text.splitlines() if line and line != "1"]
    header = rows[0][1:] if rows and rows[0][0] == "#" else []
    try:
        return tuple(_live(dict(zip(header, row, strict=True))) for row in rows[1:])
    except (KeyError, ValueError) as error:
        raise RouterError(f"cannot understand HAProxy's table of servers: {error}") from error


def commands(wanted: Slots, live: Mapping[str, Sequence[Live]]) -> tuple[str, ...]:
    """Return what makes the slots of each door, ``live`` by its key, as ``wanted``; nothing when they are.

    First comes what gives servers traffic, then what takes it from others, so that at no moment nobody has it.
    """
    raised, drained, freed = list[str](), list[str](), list[str]()
    for door, seen_there in live.items():
        for index, (server, seen) in enumerate(zip(seen_from(door, wanted), seen_there, strict=True)):
            slot = label(index, door)
            if server is None:
                freed += _free(slot, seen)
            elif server.weight:
                raised += [*_put(slot, server, seen), *_raise(slot, server, seen)]
            else:
                drained += [*_put(slot, server, seen), *_drain(slot, server, seen)]
    return (*raised, *drained, *freed)


def arrivals(wanted: Slots, live: Sequence[Live], door: str = FIRST_DOOR) -> tuple[int, ...]:
    """Return the slots of a door that :func:`commands` would bring another server to."""
    return tuple(index for index, server in held(seen_from(door, wanted)) if live[index].address != server.address)


def backend(door: str) -> str:
    """Return the name of a door's backend."""
    return f"{BACKEND}:{door}" if door else BACKEND


def letter(door: str) -> str:
    """Return what the names of a door's slots begin with."""
    return "d" if door else "s"


def label(index: int, door: str = FIRST_DOOR) -> str:
    """Return the name that HAProxy knows a slot by."""
    return f"{backend(door)}/{letter(door)}{index + 1}"


def doors_of(backends: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of the doors whose backends are among ``backends``, the first one first."""
    found = {name.partition(":")[2] for name in backends if name == BACKEND or name.startswith(f"{BACKEND}:")}
    return tuple(sorted(found))


def index_of(name: str) -> int | None:
    """Return which slot it is that HAProxy calls ``name``; None for the backend itself, and for a server of others'."""
    number = name[1:] if name[:1] in ("s", "d") else name
    return int(number) - 1 if number.isascii() and number.isdigit() and number != name else None


def _put(slot: str, server: Server, seen: Live) -> list[str]:
    if seen.address == server.address:
        return []
    return [
        f"set server {slot} state maint",
        f"set server {slot} weight 0",
        f"set server {slot} addr {server.address.host} port {server.address.port}",
    ]


def _raise(slot: str, server: Server, seen: Live) -> list[str]:
    new = seen.address != server.address
    lines = [f"set server {slot} state ready"] if new or seen.maintenance or seen.drain else []
    if new or seen.weight != server.weight:
        lines.append(f"set server {slot} weight {server.weight}")
    return lines


def _drain(slot: str, server: Server, seen: Live) -> list[str]:
    new = seen.address != server.address
    return [f"set server {slot} state drain"] if new or seen.maintenance or seen.share else []


def _free(slot: str, seen: Live) -> list[str]:
    lines = []
    if not seen.maintenance:
        lines += [f"shutdown sessions server {slot}", f"set server {slot} state maint"]
    if seen.address != FREE:
        lines.append(f"set server {slot} addr {FREE.host} port {FREE.port}")
    return lines


def _live(row: Mapping[str, str]) -> Live:
    admin = int(row["srv_admin_state"])
    return Live(
        address=Address.of(row["srv_addr"], int(row["srv_port"])),
        weight=int(row["srv_uweight"]),
        maintenance=bool(admin & _MAINTENANCE),
        drain=bool(admin & _DRAIN),
        up=int(row["srv_op_state"]) == _RUNNING,
        health=int(row["srv_check_health"]),
        checked=bool(int(row.get("srv_check_state", _CHECK_ENABLED)) & _CHECK_ENABLED),
        elsewhere=", ".join(
            f"{noun} {host} port {port}"
            for noun in ("check", "agent")
            for host, port in [(row.get(f"srv_{noun}_addr", "-"), row.get(f"srv_{noun}_port", "0"))]
            if (host, port) != ("-", "0")
        ),
    )
