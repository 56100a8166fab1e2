"""What ties an instance's link from outside: its port of the bridge, its neighbour entries, its place in the tables.

Looked up once for all instances. What an older Instar tied to nothing is not looked at here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from ipaddress import IPv4Address

from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.network import firewall, guests
from instar.host.network.guests import Entries, Guest
from instar.host.network.netlink import ALONE, Link, Neighbour, Netlink
from instar.model.drift import Finding
from instar.providers.local import creation
from instar.providers.local.inspection.case import Case
from instar.providers.local.names import Names

_KIND, _NOTHING = "network", "nothing is said for good"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ties:
    """``links``: by name; ``neighbours``: what is said on the bridge; ``behind``: what its ports are said to lead to;
    ``entries``: of the tables, None where a table is not there, which is no instance's finding. ``cause``: why nothing
    could be looked at."""

    links: Mapping[str, Link] = field(default_factory=dict)
    neighbours: Sequence[Neighbour] = ()
    behind: Sequence[Neighbour] = ()
    entries: Entries | None = None
    cause: str | None = None


def look(names: Names) -> Ties:
    """Look at everything of a state directory that ties links."""
    try:
        return _read(names)
    except OSError as error:
        return Ties(cause=error.strerror or str(error))
    except HostError as error:
        return Ties(cause=error.message)


def _read(names: Names) -> Ties:
    with Netlink() as netlink:
        links = {link.name: link for link in netlink.links()}
        neighbours, behind = netlink.neighbours(), netlink.neighbours(socket.AF_BRIDGE)
    entries = guests.Entries(guests.entries(names.table)) if firewall.exists(names.table) else None
    bridge = links.get(names.bridge)
    return Ties(
        links=links,
        neighbours=[one for one in neighbours if bridge is not None and one.link == bridge.number],
        behind=behind,
        entries=entries,
    )


def differences(case: Case, ties: Ties) -> Iterator[Finding]:
    """Yield what does not hold any more of what tied the instance when it was made."""
    guest = case.made.guest
    if guest is None:
        return
    if ties.cause is not None:
        yield case.finding(_KIND, "outside of it", "it can be looked at", ties.cause)
        return
    wanted = replace(creation.guest_of(case.order, mtu=guest.mtu, servers=guest.servers), crafts=guest.crafts)
    if guest != wanted:
        yield case.finding("record", str(case.names.made), f"{wanted.address} at {wanted.link}", "another instance's")
    yield from _link(case, wanted, ties)
    yield from _neighbours(case, wanted, ties)
    if ties.entries is not None:
        yield from _entries(case, wanted, ties.entries)


def _link(case: Case, guest: Guest, ties: Ties) -> Iterator[Finding]:
    """Whether it is there, and on the bridge, is asked of every link (``outside``)."""
    link, path = ties.links.get(guest.link), f"port {guest.link}"
    wanted = dict.fromkeys(link.port, False) | ALONE if link is not None else ALONE
    if link is not None and link.master and link.port != wanted:
        yield case.finding(_KIND, path, _shown(wanted, link.port), _shown(link.port, wanted))
    if link is not None and link.master and link.up and not link.forwards:
        yield case.finding(_KIND, path, "packets pass", "the bridge lets none pass")
    if link is not None and link.mtu != guest.mtu:
        yield case.finding(_KIND, path, f"mtu {guest.mtu}", f"mtu {link.mtu}")


def _shown(port: Mapping[str, bool], other: Mapping[str, bool]) -> str:
    """Say in what a port is otherwise than another."""
    return ", ".join(f"{name} {'on' if on else 'off'}" for name, on in port.items() if other.get(name) != on)


def _neighbours(case: Case, guest: Guest, ties: Ties) -> Iterator[Finding]:
    mac, address = bytes.fromhex(guest.mac), IPv4Address(guest.address)
    found = [one for one in ties.neighbours if one.address == address]
    if [(one.mac, one.fixed) for one in found] != [(mac, True)]:
        yield case.finding(_KIND, f"neighbour {address}", f"{mac.hex(':')}, permanent", _permanent(found))
    link = ties.links.get(guest.link)
    ports = [one.link for one in ties.behind if one.mac == mac and one.fixed]
    if link is not None and ports != [link.number]:
        names = {one.number: name for name, one in ties.links.items()}
        seen = ", ".join(names.get(number, "a link") for number in ports)
        yield case.finding(_KIND, f"address {mac.hex(':')}", f"behind {guest.link} for good", seen or _NOTHING)


def _permanent(found: Sequence[Neighbour]) -> str:
    """Say what is said for good: what the kernel learns for itself comes and goes between two looks."""
    return ", ".join(f"{one.mac.hex(':')}, permanent" for one in found if one.fixed) or _NOTHING


def _entries(case: Case, guest: Guest, entries: Entries) -> Iterator[Finding]:
    wanted, there = set(guest.elements), set(entries.of(guest.link, guest.address))
    for element in sorted(wanted ^ there):
        path = f"table {element.family} {case.names.of.table}, {element.set}"
        shown = element.goto or "an entry of this instance"
        expected, observed = (shown, "not there") if element in wanted else ("no such entry", shown)
        yield case.finding(_KIND, path, expected, observed)
