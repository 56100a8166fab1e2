"""What running instances have open that they may not begin any more: under other rules, or when they are replaced.

Seen from inside, where a connection is one's own whatever the machine does with it on its way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from instar import durable
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.kernel import namespaces
from instar.host.network import network_view
from instar.host.network.firewall import METADATA, Reach
from instar.host.network.netlink import Netlink
from instar.host.network.network_view import Connection
from instar.model.environment import MACHINE, Allow
from instar.providers.local import allocations, record
from instar.providers.local.names import InstanceNames, Names


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Who has which address: this machine's ``own``, instances' by their environment, and where routers listen."""

    own: frozenset[IPv4Address]
    instances: Mapping[IPv4Address, str]
    doors: Mapping[str, tuple[str, ...]]
    network: IPv4Network


def look(names: Names, network: IPv4Network, doors: Mapping[str, tuple[str, ...]]) -> Whereabouts:
    """Look who is where."""
    with Netlink() as netlink:
        own = frozenset(address.ip for _, address in netlink.addresses())
    allocated = filter(None, allocations.all_allocations(names).values())
    places = {IPv4Address(one.address): one.environment for one in allocated}
    places |= {IPv4Address(guest.address): guest.environment for guest in record.guests(names)}
    return Whereabouts(own=own, instances=places, doors=doors, network=network)


def cut(names: InstanceNames, reach: Reach, where: Whereabouts) -> tuple[str, ...]:
    """Return what the instance has open and could not begin under ``reach``, each as "tcp ADDRESS:PORT (whose)"."""
    process = allocations.process_of(names)
    if process is None:
        return ()
    with contextlib.suppress(HostError):  # it has just ended
        found = namespaces.inside_of(process.pid, ["net"], _begun)
        servers = set(_servers(names))
        refused = (one for one in found if not allowed(one, reach, where, servers))
        return tuple(dict.fromkeys(f"{one} ({_whose(one.address, where)})" for one in refused))
    return ()


def allowed(one: Connection, reach: Reach, where: Whereabouts, servers: set[IPv4Address]) -> bool:
    """Tell whether ``reach`` lets an instance begin the connection ``one``. The rules themselves are in nftables."""
    closed = one.address in where.own or one.address in where.network or one.address in METADATA
    asks_for_names = one.port == 53 and one.address in servers
    return not closed or asks_for_names or any(_opens(entry, one, where) for entry in reach.network.allow)


def _opens(entry: Allow, one: Connection, where: Whereabouts) -> bool:
    if entry.ports and f"{one.port}/{one.protocol}" not in entry.ports:
        return False
    if entry.to == MACHINE:
        return one.address in where.own
    if not entry.names_environment:
        return one.address in IPv4Network(entry.to)
    doors = where.doors.get(entry.to, ()) if one.address in where.own and one.protocol == "tcp" else ()
    at_door = f"0.0.0.0:{one.port}" in doors or f"{one.address}:{one.port}" in doors
    return at_door or where.instances.get(one.address) == entry.to


def _begun() -> list[Connection]:
    """Return the connections of this network namespace that were begun in it."""
    listening = {(one.protocol, one.port) for one in network_view.listeners()}
    found = network_view.connections()
    return [one for one in found if (one.protocol, one.own_port) not in listening and not one.address.is_loopback]


def _servers(names: InstanceNames) -> Iterator[IPv4Address]:
    with contextlib.suppress(OSError, ValueError):
        for line in durable.read_text(names.folder / "resolv.conf").splitlines():
            word, _, address = line.partition(" ")
            with contextlib.suppress(ValueError):
                if word == "nameserver":
                    yield IPv4Address(address.strip())


def _whose(address: IPv4Address, where: Whereabouts) -> str:
    if address in where.own:
        return "this machine"
    if address in METADATA:
        return "the cloud's metadata"
    environment = where.instances.get(address)
    return f"an instance of {environment}" if environment else "an instance"
