"""Links, addresses and routes by rtnetlink: what ``ip`` does, without starting it; and dumps of netlink's others.

One :class:`Netlink` speaks to the network namespace in which it was opened (see ``namespaces.inside``). Source:
rtnetlink(7), linux/if_link.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple, Self

_HEADER = struct.Struct("=LHHLL")  # nlmsghdr
_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg
_ATTRIBUTE = struct.Struct("=HH")

_ERROR, _DONE = 2, 3
_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _GET_ADDRESS = 20, 22
_NEW_ROUTE, _GET_ROUTE = 24, 26
_REQUEST, _ACK, _DUMP, _CREATE, _EXCLUSIVE = 1, 4, 0x300, 0x400, 0x200

_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MASTER, _IFLA_INFO, _IFLA_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DESTINATION, _RTA_LINK, _RTA_GATEWAY = 1, 4, 5
_ANSWERS_WITHIN_S = 20.0
_UP = 1
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST = 254, 4, 0, 1


class Link(NamedTuple):
    number: int
    name: str
    master: int  # the bridge that it is a port of; 0 for none


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
        found = []
        for message in self.dump(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            _, _, index, _, _ = _LINK.unpack_from(message)
            fields = dict(attributes(message[_LINK.size :]))
            name = fields[_IFLA_NAME].rstrip(b"\0").decode(errors="replace")
            found.append(Link(index, name, int.from_bytes(fields.get(_IFLA_MASTER, b""), "little")))
        return tuple(found)

    def addresses(self) -> tuple[tuple[int, IPv4Interface], ...]:
        """Return (link's index, address) of every IPv4 address."""
        found = []
        for message in self.dump(_GET_ADDRESS, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(message)
            fields = dict(attributes(message[_ADDRESS.size :]))
            address = fields.get(_IFA_LOCAL) or fields[_IFA_ADDRESS]
            found.append((index, IPv4Interface((address, prefix))))
        return tuple(found)

    def routes(self) -> tuple[tuple[int, IPv4Network], ...]:
        """Return (link's index, destination) of every IPv4 route of every table; 0.0.0.0/0 is the default."""
        found = []
        for message in self.dump(_GET_ROUTE, _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
            prefix = _ROUTE.unpack_from(message)[1]
            fields = dict(attributes(message[_ROUTE.size :]))
            destination = fields.get(_RTA_DESTINATION, bytes(4))
            link = int.from_bytes(fields.get(_RTA_LINK, b""), "little")
            found.append((link, IPv4Network((destination, prefix))))
        return tuple(found)

    def add_bridge(self, name: str, mac: bytes) -> None:
        """Make a bridge whose hardware address stays, whatever ports come and go."""
        self._new_link(name, _attribute(_IFLA_ADDRESS, mac) + _kind("bridge", b""))

    def add_veth(self, name: str, *, master: int, peer: str, peer_mac: bytes, peer_namespace: int) -> None:
        """Make a pair, both down: ``name``, a port of the bridge ``master``; ``peer`` in ``peer_namespace`` (a fd)."""
        inner = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _text(_IFLA_NAME, peer)
        inner += _attribute(_IFLA_ADDRESS, peer_mac) + _u32(_IFLA_NS_FD, peer_namespace)
        info = _kind("veth", _attribute(_VETH_PEER, inner))
        self._new_link(name, _u32(_IFLA_MASTER, master) + info)

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

    def set_up(self, name: str) -> None:
        body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), _UP, _UP)
        self._ask(_NEW_LINK, body, 0)

    def add_address(self, name: str, address: IPv4Interface) -> None:
        body = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, socket.if_nametoindex(name))
        body += _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        self._ask(_NEW_ADDRESS, body, _CREATE | _EXCLUSIVE)

    def add_default_route(self, gateway: IPv4Address) -> None:
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0)
        self._ask(_NEW_ROUTE, body + _attribute(_RTA_GATEWAY, gateway.packed), _CREATE | _EXCLUSIVE)

    def _new_link(self, name: str, attributes: bytes) -> None:
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _text(_IFLA_NAME, name) + attributes
        self._ask(_NEW_LINK, body, _CREATE | _EXCLUSIVE)

    def _ask(self, kind: int, body: bytes, flags: int) -> None:
        for _ in self._exchange(kind, body, _ACK | flags):
            pass

    def ask(self, kind: int, body: bytes) -> tuple[bytes, ...]:
        """Ask for one thing; return the answers, each without its header."""
        return tuple(self._exchange(kind, body, _ACK))

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Ask for all there is of a kind; yield the answers, each without its header."""
        return self._exchange(kind, body, _DUMP)

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


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _kind(name: str, data: bytes) -> bytes:
    return _attribute(_IFLA_INFO, _attribute(_INFO_KIND, name.encode()) + _attribute(_INFO_DATA, data))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
