"""An instance's network as this machine has it: its link, the bridge, and which way packets to it go.

Asked of the kernel, which answers for all of its tables and rules of routing at once. Source: rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from instar.host.netlink import Netlink, attributes

_LINK, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_GET_LINK, _GET_ROUTE = 18, 26
_IFLA_NAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_XDP = 3, 4, 10, 43
_RTA_DESTINATION, _RTA_LINK, _RTA_GATEWAY = 1, 4, 5
_UP, _UNICAST = 1, 1
_KINDS: Final = {
    2: "this machine itself",
    6: "nowhere (blackhole)",
    7: "nowhere (unreachable)",
    8: "nowhere (prohibit)",
}


class OuterLink(NamedTuple):
    number: int
    master: int
    up: bool
    program: bool  # an XDP program sees each packet first
    mtu: int = 0


def links() -> Mapping[str, OuterLink]:
    """Return this machine's links by name. Raises OSError."""
    found = {}
    with Netlink() as netlink:
        for message in netlink.dump(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            _, _, number, flags, _ = _LINK.unpack_from(message)
            fields = dict(attributes(message[_LINK.size :]))
            name = fields[_IFLA_NAME].rstrip(b"\0").decode(errors="replace")
            master = int.from_bytes(fields.get(_IFLA_MASTER, b""), "little")
            program = any(fields.get(_IFLA_XDP, b"")[4:5])
            mtu = int.from_bytes(fields.get(_IFLA_MTU, b""), "little")
            found[name] = OuterLink(number, master, bool(flags & _UP), program, mtu)
    return found


def ways_to(addresses: Mapping[str, IPv4Address], names: Mapping[int, str]) -> Mapping[str, str]:
    """Return for each of ``addresses`` (by any key) which way this machine sends packets there: the name of the link
    that they leave by, with "via ADDRESS" where that is not the last. Raises OSError."""
    with Netlink() as netlink:
        return {key: _way(netlink, address, names) for key, address in addresses.items()}


def _way(netlink: Netlink, address: IPv4Address, names: Mapping[int, str]) -> str:
    wanted = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    wanted += _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, _RTA_DESTINATION) + address.packed
    try:
        message, *_ = netlink.ask(_GET_ROUTE, wanted)
    except OSError as error:
        return f"nowhere ({error.strerror})"
    return way_of(_ROUTE.unpack_from(message)[7], dict(attributes(message[_ROUTE.size :])), names)


def nowhere(kind: int) -> str:
    """Return for people where a route or a rule of such a ``kind`` sends packets, which is over no link."""
    return _KINDS.get(kind, f"a route of type {kind}")


def way_of(kind: int, fields: Mapping[int, bytes], names: Mapping[int, str]) -> str:
    """Return which way a route of such a ``kind`` with these ``fields`` is, as :func:`ways_to` does."""
    if kind != _UNICAST:
        return nowhere(kind)
    number = int.from_bytes(fields.get(_RTA_LINK, b""), "little")
    via = fields.get(_RTA_GATEWAY)
    return names.get(number, f"link {number}") + (f" via {IPv4Address(via)}" if via else "")
