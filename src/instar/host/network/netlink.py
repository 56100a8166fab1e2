"""Links, addresses, routes and neighbours by rtnetlink: what ``ip`` and ``bridge`` do, without starting them; and
questions to netlink's others.

One :class:`Netlink` speaks to the network namespace in which it was opened (see ``namespaces.inside``). Source:
rtnetlink(7), linux/if_link.h, linux/rtnetlink.h, linux/neighbour.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import NamedTuple, Self

_HEADER = struct.Struct("=LHHLL")  # nlmsghdr
_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg
_ATTRIBUTE = struct.Struct("=HH")

_ERROR, _DONE = 2, 3
_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _GET_ROUTE = 24, 26
_NEW_NEIGHBOUR, _DEL_NEIGHBOUR, _GET_NEIGHBOUR = 28, 29, 30
_REQUEST, ACK, _DUMP, CREATE, _EXCLUSIVE, _REPLACE = 1, 4, 0x300, 0x400, 0x200, 0x100

_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_INFO, _IFLA_NS_FD, _IFLA_XDP = 1, 3, 4, 10, 18, 28, 43
_INFO_KIND, _INFO_DATA, _INFO_PORT_KIND, _INFO_PORT, _VETH_PEER = 1, 2, 4, 5, 1
_PORT = {"learning": 8, "flood": 9, "mcast_flood": 27, "bcast_flood": 30, "isolated": 33}
_PORT |= {"hairpin": 4, "guard": 5, "root_block": 6, "proxy_arp": 10, "neigh_suppress": 32, "locked": 39}
_PORT_STATE, _FORWARDING = 1, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DESTINATION, _RTA_LINK, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_CACHED = 0x200  # a route that the kernel remembers for itself: RTM_F_CLONED
_NDA_ADDRESS, _NDA_MAC = 1, 2
_PERMANENT, _NO_ARP, _OF_BRIDGE, _STICKY = 0x80, 0x40, 0x04, 0x40
_ANSWERS_WITHIN_S = 20.0
_UP = 1
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _SCOPE_LINK, UNICAST = 254, 4, 0, 253, 1


class Link(NamedTuple):
    """``master`` is the number of the bridge that it is a port of, 0 for none; ``port`` how it is one: see ALONE.
    ``forwards``: the bridge lets packets through it; ``program``: one of XDP sees each packet first."""

    number: int
    name: str
    master: int
    mtu: int
    up: bool
    port: dict[str, bool]
    forwards: bool
    mac: bytes
    program: bool


class RouteEntry(NamedTuple):
    """``destination`` is None for the default; ``link`` 0 where it names none; ``kind`` as rtnetlink(7) has them."""

    family: int
    destination: bytes | None
    prefix: int
    link: int
    gateway: bytes | None
    service: int  # the type of service that it is for, 0: any
    kind: int
    table: int
    priority: int
    cached: bool


class Neighbour(NamedTuple):
    """Who has an address, or (of a bridge's own table) behind which port a hardware address is. ``fixed``: it was
    set, and nobody's packets change it."""

    link: int
    address: IPv4Address | None
    mac: bytes
    fixed: bool


ALONE = {"isolated": True, "learning": False, "flood": False, "mcast_flood": False, "bcast_flood": False}
"""How a port is that takes no part in what other ports do, and gets nothing but what is for it; all else is off."""


class Netlink:
    """A socket to the kernel's routing tables. Its methods raise OSError with the kernel's own number."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(_ANSWERS_WITHIN_S)  # the kernel answers at once; what waits for ever tells nobody why
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def links(self) -> tuple[Link, ...]:
        return tuple(map(_link, self.dump(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))))

    def link(self, name: str) -> Link:
        body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
        return _link(self.ask(_GET_LINK, body)[0])

    def addresses(self) -> tuple[tuple[int, IPv4Interface], ...]:
        """Return (link's index, address) of every IPv4 address."""
        found = []
        for message in self.dump(_GET_ADDRESS, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(message)
            fields = dict(attributes(message[_ADDRESS.size :]))
            address = fields.get(_IFA_LOCAL) or fields[_IFA_ADDRESS]
            found.append((index, IPv4Interface((address, prefix))))
        return tuple(found)

    def routes(self, family: int = socket.AF_INET) -> tuple[RouteEntry, ...]:
        """Return every route of every table; ``AF_UNSPEC``: of all families."""
        return tuple(map(_route, self.dump(_GET_ROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))))

    def route_to(self, address: IPv4Address) -> RouteEntry:
        """Return which way packets to ``address`` go, by all tables and rules at once."""
        wanted = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DESTINATION, address.packed)
        return _route(self.ask(_GET_ROUTE, wanted)[0])

    def default_link(self) -> int | None:
        """Return the index of the link that leads to the world: that of the best default route."""
        found = [
            (one.priority, one.link)
            for one in self.routes()
            if one.prefix == 0 and one.table == _TABLE_MAIN and one.kind == UNICAST and one.link
        ]
        return min(found)[1] if found else None

    def neighbours(self, family: int = socket.AF_INET) -> tuple[Neighbour, ...]:
        """Return all neighbours of IPv4, or (``AF_BRIDGE``) what bridges know of hardware addresses."""
        found = []
        for message in self.dump(_GET_NEIGHBOUR, _NEIGHBOUR.pack(family, 0, 0, 0, 0)):
            _, index, state, flags, _ = _NEIGHBOUR.unpack_from(message)
            fields = dict(attributes(message[_NEIGHBOUR.size :]))
            packed = fields.get(_NDA_ADDRESS)
            address = IPv4Address(packed) if family == socket.AF_INET and packed else None
            fixed = bool(state & _PERMANENT if address else state & _NO_ARP and flags & _STICKY)
            found.append(Neighbour(index, address, fields.get(_NDA_MAC, b""), fixed))
        return tuple(found)

    def set_neighbour(self, name: str, address: IPv4Address, mac: bytes) -> None:
        """Say for good which hardware address an address on the link ``name`` has."""
        body = _NEIGHBOUR.pack(socket.AF_INET, socket.if_nametoindex(name), _PERMANENT, 0, 0)
        body += attribute(_NDA_ADDRESS, address.packed) + attribute(_NDA_MAC, mac)
        self._ask(_NEW_NEIGHBOUR, body, CREATE | _REPLACE)

    def delete_neighbour(self, name: str, address: IPv4Address) -> None:
        """Forget a neighbour on the link ``name``; one that isn't there is fine."""
        with contextlib.suppress(FileNotFoundError):
            body = _NEIGHBOUR.pack(socket.AF_INET, socket.if_nametoindex(name), 0, 0, 0)
            self._ask(_DEL_NEIGHBOUR, body + attribute(_NDA_ADDRESS, address.packed), 0)

    def set_behind(self, port: str, mac: bytes) -> None:
        """Say for good that a hardware address is behind ``port`` of a bridge and behind no other."""
        body = _NEIGHBOUR.pack(socket.AF_BRIDGE, socket.if_nametoindex(port), _NO_ARP, _OF_BRIDGE | _STICKY, 0)
        self._ask(_NEW_NEIGHBOUR, body + attribute(_NDA_MAC, mac), CREATE | _REPLACE)

    def add_bridge(self, name: str, mac: bytes) -> None:
        """Make a bridge whose hardware address stays, whatever ports come and go."""
        self._new_link(name, attribute(_IFLA_ADDRESS, mac) + _kind("bridge", b""))

    def add_veth(self, name: str, *, master: int, mtu: int, peer: str, peer_mac: bytes, peer_namespace: int) -> None:
        """Make a pair, both down: ``name``, a port of the bridge ``master``; ``peer`` in ``peer_namespace`` (a fd)."""
        inner = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _text(_IFLA_NAME, peer) + _u32(_IFLA_MTU, mtu)
        inner += attribute(_IFLA_ADDRESS, peer_mac) + _u32(_IFLA_NS_FD, peer_namespace)
        info = _kind("veth", attribute(_VETH_PEER, inner))
        self._new_link(name, _u32(_IFLA_MASTER, master) + _u32(_IFLA_MTU, mtu) + info)

    def delete_link(self, name: str) -> bool:
        """Delete the link ``name``; return False where there is none."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _text(_IFLA_NAME, name)
        try:
            self._ask(_DEL_LINK, body, 0)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def set_port(self, name: str, port: dict[str, bool]) -> None:
        """Say how the link ``name`` is a port of its bridge."""
        flags = b"".join(attribute(_PORT[key], bytes([on])) for key, on in port.items())
        info = attribute(_INFO_PORT_KIND, b"bridge") + attribute(_INFO_PORT, flags)
        body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
        self._ask(_NEW_LINK, body + attribute(_IFLA_INFO, info), 0)

    def set_up(self, name: str) -> None:
        body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), _UP, _UP)
        self._ask(_NEW_LINK, body, 0)

    def add_address(self, name: str, address: IPv4Interface) -> None:
        body = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, socket.if_nametoindex(name))
        body += attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
        self._ask(_NEW_ADDRESS, body, CREATE | _EXCLUSIVE)

    def delete_address(self, name: str, address: IPv4Interface) -> None:
        body = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, socket.if_nametoindex(name))
        body += attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
        self._ask(_DELETE_ADDRESS, body, 0)

    def add_route(self, name: str, destination: IPv4Address) -> None:
        """Have ``destination`` reached over the link ``name``, without a gateway."""
        body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, UNICAST, 0)
        body += attribute(_RTA_DESTINATION, destination.packed) + _u32(_RTA_LINK, socket.if_nametoindex(name))
        self._ask(_NEW_ROUTE, body, CREATE | _EXCLUSIVE)

    def add_default_route(self, gateway: IPv4Address) -> None:
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, UNICAST, 0)
        self._ask(_NEW_ROUTE, body + attribute(_RTA_GATEWAY, gateway.packed), CREATE | _EXCLUSIVE)

    def _new_link(self, name: str, attributes: bytes) -> None:
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _text(_IFLA_NAME, name) + attributes
        self._ask(_NEW_LINK, body, CREATE | _EXCLUSIVE)

    def _ask(self, kind: int, body: bytes, flags: int) -> None:
        for _ in self._exchange(kind, body, ACK | flags):
            pass

    def ask(self, kind: int, body: bytes) -> tuple[bytes, ...]:
        """Ask for one thing; return the answers, each without its header."""
        return tuple(self._exchange(kind, body, ACK))

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Ask for all there is of a kind; yield the answers, each without its header."""
        return self._exchange(kind, body, _DUMP)

    def send_all(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        """Send (kind, flags, body) in one go; return when each that asks for an answer (``ACK``) got a good one."""
        data, awaited = b"", set()
        for kind, flags, body in messages:
            self._sequence += 1
            data += _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0)
            data += body + bytes(_aligned(len(body)) - len(body))
            awaited |= {self._sequence} if flags & ACK else set()
        self._socket.send(data)
        while awaited:
            data = self._socket.recv(1 << 18)
            while data:
                length, answer, _, sequence, _ = _HEADER.unpack_from(data)
                message, data = data[_HEADER.size : length], data[_aligned(length) :]
                if answer == _ERROR:
                    _raise(message)
                    awaited.discard(sequence)

    def _exchange(self, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, _REQUEST | flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            while data:
                length, answer, _, sequence, _ = _HEADER.unpack_from(data)
                message, data = data[_HEADER.size : length], data[_aligned(length) :]
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _raise(message)
                    return
                yield message


def _raise(message: bytes) -> None:
    number = -struct.unpack_from("=i", message)[0]
    if number:
        raise OSError(number, os.strerror(number))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of each attribute in ``data``."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _port(info: bytes) -> tuple[dict[str, bool], bool]:
    """Return how a link is a port, and whether it forwards, from what is told of its kind."""
    fields = dict(attributes(info))
    if fields.get(_INFO_PORT_KIND, b"").rstrip(b"\0") != b"bridge":
        return {}, True
    flags = dict(attributes(fields.get(_INFO_PORT, b"")))
    forwards = _number(flags.get(_PORT_STATE)) == _FORWARDING
    return {name: any(flags.get(kind, b"")) for name, kind in _PORT.items()}, forwards


def _link(message: bytes) -> Link:
    _, _, number, state, _ = _LINK.unpack_from(message)
    fields = dict(attributes(message[_LINK.size :]))
    port, forwards = _port(fields.get(_IFLA_INFO, b""))
    return Link(
        number=number,
        name=fields[_IFLA_NAME].rstrip(b"\0").decode(errors="replace"),
        master=_number(fields.get(_IFLA_MASTER)),
        mtu=_number(fields.get(_IFLA_MTU)),
        up=bool(state & _UP),
        port=port,
        forwards=forwards,
        mac=fields.get(_IFLA_ADDRESS, b""),
        program=any(fields.get(_IFLA_XDP, b"")[4:5]),
    )


def _route(message: bytes) -> RouteEntry:
    family, prefix, _, service, table, _, _, kind, flags = _ROUTE.unpack_from(message)
    fields = dict(attributes(message[_ROUTE.size :]))
    return RouteEntry(
        family=family,
        destination=fields.get(_RTA_DESTINATION),
        prefix=prefix,
        link=_number(fields.get(_RTA_LINK)),
        gateway=fields.get(_RTA_GATEWAY),
        service=service,
        kind=kind,
        table=_number(fields[_RTA_TABLE]) if _RTA_TABLE in fields else table,
        priority=_number(fields.get(_RTA_PRIORITY)),
        cached=bool(flags & _CACHED),
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "little")


def attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _kind(name: str, data: bytes) -> bytes:
    return attribute(_IFLA_INFO, attribute(_INFO_KIND, name.encode()) + attribute(_INFO_DATA, data))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
