"""Which server sits in which of a router's slots: pure.

HAProxy is started with a fixed number of slots, ``s1`` to ``sN``, most of them free; a server that comes or goes
changes what a slot holds while it runs. The file says what is wanted, HAProxy's own tables what is; the difference is
a list of commands. A server with a weight is ``ready``; one without is in ``drain``, so that nothing sticks to it, and
keeps the weight that it had: HAProxy yields to requests between two commands, so a switch is as few as can be. One that
HAProxy has read from the file with the weight 0 is as good as drained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.router.address import Address

BACKEND: Final = "instances"
RISE, FALL = 1, 2
FULL_HEALTH: Final = RISE + FALL - 1
HEAVIEST: Final = 256
FREE: Final = Address("127.0.0.1", 1)  # what a free slot names: nothing listens there, and nothing is sent there

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAINTENANCE, _DRAIN = 0x01, 0x08  # bits of srv_admin_state. Source: HAProxy 2.6 management guide, "show servers state"
_RUNNING = 2  # a value of srv_op_state
_CHECK_ENABLED = 0x04  # a bit of srv_check_state
_UNNAMED: Final = "unnamed-s"  # of a server whose slot is known, and whose name is lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a slot holds. ``weight`` 0: it takes no new requests."""

    name: str
    address: Address
    weight: int = 0

    @classmethod
    def of(cls, name: str, host: str, port: int) -> Server:
        """Raises RouterError for anything that has no place in HAProxy's file."""
        if not _NAME.fullmatch(name):
            raise RouterError(f"cannot route to {name!r}: a target's name is made of letters, digits and . _ -")
        try:
            return cls(name=name, address=Address.of(host, port))
        except ValueError as error:
            raise RouterError(f"cannot route to '{name}': {host!r} port {port!r} is no address") from error


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


def padded(slots: Slots, count: int) -> Slots:
    """Return ``slots`` with free ones added until there are ``count``; none is taken away."""
    return slots + (None,) * (count - len(slots))


def attached(slots: Slots, servers: Sequence[Server]) -> Slots:
    """Return ``slots`` with each of ``servers`` in one; there are more slots than before when too few were free."""
    found = list(slots)
    for server in servers:
        index = find(tuple(found), server.name)
        if index is None and (index := _unnamed_at(found, server)) is not None:
            found[index] = replace(found[index] or server, name=server.name)
        elif index is None:
            index = found.index(None) if None in found else len(found)
            found[index : index + 1] = [server]
        elif (there := found[index]) is not None and there.address != server.address:
            raise RouterError(f"cannot route to '{server.name}' at {server.address}: it is at {there.address}")
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


def seen(live: Sequence[Live]) -> Slots:
    """Return what HAProxy's slots hold where the file that says so is lost: servers without their names. They keep
    their traffic, and get their names back when they are attached again."""
    return tuple(
        None
        if one.address == FREE
        else Server(name=f"{_UNNAMED}{index + 1}", address=one.address, weight=min(one.share, HEAVIEST))
        for index, one in enumerate(live)
    )


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


def commands(wanted: Slots, live: Sequence[Live]) -> tuple[str, ...]:
    """Return what makes ``live`` as ``wanted``; nothing when it is.

    First comes what gives servers traffic, then what takes it from others, so that at no moment nobody has it.
    """
    raised, drained, freed = list[str](), list[str](), list[str]()
    for index, (server, seen) in enumerate(zip(wanted, live, strict=True)):
        if server is None:
            freed += _free(index, seen)
        elif server.weight:
            raised += [*_put(index, server, seen), *_raise(index, server, seen)]
        else:
            drained += [*_put(index, server, seen), *_drain(index, server, seen)]
    return (*raised, *drained, *freed)


def arrivals(wanted: Slots, live: Sequence[Live]) -> tuple[int, ...]:
    """Return the slots that :func:`commands` would bring another server to."""
    return tuple(index for index, server in held(wanted) if live[index].address != server.address)


def label(index: int) -> str:
    """Return the name that HAProxy knows a slot by."""
    return f"{BACKEND}/s{index + 1}"


def index_of(name: str) -> int | None:
    """Return which slot it is that HAProxy calls ``name``; None for the backend itself, and for a server of others'."""
    number = name.removeprefix("s")
    return int(number) - 1 if number.isascii() and number.isdigit() and number != name else None


def _put(index: int, server: Server, seen: Live) -> list[str]:
    if seen.address == server.address:
        return []
    return [
        f"set server {label(index)} state maint",
        f"set server {label(index)} weight 0",
        f"set server {label(index)} addr {server.address.host} port {server.address.port}",
    ]


def _raise(index: int, server: Server, seen: Live) -> list[str]:
    new = seen.address != server.address
    lines = [f"set server {label(index)} state ready"] if new or seen.maintenance or seen.drain else []
    if new or seen.weight != server.weight:
        lines.append(f"set server {label(index)} weight {server.weight}")
    return lines


def _drain(index: int, server: Server, seen: Live) -> list[str]:
    new = seen.address != server.address
    return [f"set server {label(index)} state drain"] if new or seen.maintenance or seen.share else []


def _free(index: int, seen: Live) -> list[str]:
    lines = []
    if not seen.maintenance:
        lines += [f"shutdown sessions server {label(index)}", f"set server {label(index)} state maint"]
    if seen.address != FREE:
        lines.append(f"set server {label(index)} addr {FREE.host} port {FREE.port}")
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
