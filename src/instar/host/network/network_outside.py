"""An instance's network as this machine has it: its link, the bridge, and which way packets to it go.

Asked of the kernel, which answers for all of its tables and rules of routing at once. Source: rtnetlink(7).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final

from instar.host.network.netlink import UNICAST, Link, Netlink, RouteEntry

_KINDS: Final = {
    2: "this machine itself",
    6: "nowhere (blackhole)",
    7: "nowhere (unreachable)",
    8: "nowhere (prohibit)",
}


def links() -> Mapping[str, Link]:
    """Return this machine's links by name. Raises OSError."""
    with Netlink() as netlink:
        return {link.name: link for link in netlink.links()}


def ways_to(addresses: Mapping[str, IPv4Address], names: Mapping[int, str]) -> Mapping[str, str]:
    """Return for each of ``addresses`` (by any key) which way this machine sends packets there: the name of the link
    that they leave by, with "via ADDRESS" where that is not the last. Raises OSError."""
    with Netlink() as netlink:
        return {key: _way(netlink, address, names) for key, address in addresses.items()}


def _way(netlink: Netlink, address: IPv4Address, names: Mapping[int, str]) -> str:
    try:
        return way_of(netlink.route_to(address), names)
    except OSError as error:
        return f"nowhere ({error.strerror})"


def nowhere(kind: int) -> str:
    """Return for people where a route or a rule of such a ``kind`` sends packets, which is over no link."""
    return _KINDS.get(kind, f"a route of type {kind}")


def way_of(route: RouteEntry, names: Mapping[int, str]) -> str:
    """Return which way a route leads, as :func:`ways_to` does."""
    if route.kind != UNICAST:
        return nowhere(route.kind)
    via = f" via {IPv4Address(route.gateway)}" if route.gateway else ""
    return names.get(route.link, f"link {route.link}") + via
