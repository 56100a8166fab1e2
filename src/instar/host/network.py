"""The network of this machine's instances: which addresses, the bridge, and each instance's pair of links.

Every name carries the state directory's id (see ``names.py`` of the provider). IPv6 is off on what is made here: an
instance has one address. Instances reach one another, the world through ``firewall.py``'s translation, and this
machine's own services as anybody on its network does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from instar.errors import HostError
from instar.host import namespaces
from instar.host.netlink import Netlink

INSIDE = "eth0"
_PREFIX = 20
_PRIVATE = tuple(IPv4Network(text) for text in ("10.192.0.0/10", "172.16.0.0/12", "192.168.0.0/16"))
_SMALLEST, _LARGEST = 28, 16
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
_ANOTHER = "name another network: INSTAR_SUBNET=ADDRESS/PREFIX"


def choose(wanted: str | None, *, seed: int, spared: Iterable[IPv4Address] = ()) -> IPv4Network:
    """Return a network that no route, no address of this machine and none of ``spared`` is in.

    ``wanted`` asks for one; without it, private ones are tried, from another beginning for each ``seed``.
    Raises HostError, saying what is in the way.
    """
    taken = [*_taken(), *((IPv4Network(address), f"{address} is a name server") for address in spared)]
    if wanted is not None:
        network = _parse(wanted)
        if not network.is_private:
            raise HostError(f"cannot use the subnet '{wanted}': it belongs to somebody on the internet", hint=_ANOTHER)
        if cause := _overlap(network, taken):
            raise HostError(f"cannot use the subnet '{wanted}': {cause}", hint=_ANOTHER)
        return network
    for network in _candidates(seed):
        if not _overlap(network, taken):
            return network
    raise HostError("cannot find a free subnet: every private network overlaps a route of this machine", hint=_ANOTHER)


def overlap(network: IPv4Network, bridge: str) -> str | None:
    """Say what else on this machine uses addresses of ``network``, apart from its own ``bridge``; None if nothing."""
    return _overlap(network, _taken(but=bridge))


def ensure_bridge(bridge: str, network: IPv4Network) -> None:
    """Make the bridge with the network's first address, and let this machine pass packets on. Raises HostError."""
    try:
        with Netlink() as link:
            _ignore_existing(lambda: link.add_bridge(bridge, _mac(gateway(network).ip)))
            _write(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6", "1")
            _ignore_existing(lambda: link.add_address(bridge, gateway(network)))
            link.set_up(bridge)
        _write(_FORWARDING, "1")
    except OSError as error:
        raise HostError(f"cannot make the bridge '{bridge}': {error.strerror}") from error


def bridge_is_up(bridge: str, network: IPv4Network) -> bool:
    """Tell whether the bridge is there with its address and packets are passed on, so that nothing is to be made."""
    if Path(_FORWARDING).read_text().strip() != "1":
        return False
    try:
        index = socket.if_nametoindex(bridge)
        with Netlink() as link:
            return (index, gateway(network)) in link.addresses()
    except OSError:
        return False


def gateway(network: IPv4Network) -> IPv4Interface:
    """Return the network's first address, the bridge's own."""
    return IPv4Interface((network.network_address + 1, network.prefixlen))


def connect(link: str, bridge: str, namespace: Path, address: IPv4Address, network: IPv4Network) -> None:
    """Join the network namespace to the bridge by the pair ``link``–eth0, and set up all that is inside.

    Raises HostError; what was made then goes with the namespace, or by :func:`delete_link`.
    """
    try:
        with open(namespace, "rb") as kept, Netlink() as outside:  # noqa: PTH123 - a namespace is no file to read
            master = socket.if_nametoindex(bridge)
            outside.add_veth(link, master=master, peer=INSIDE, peer_mac=_mac(address), peer_namespace=kept.fileno())
            _write(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "1")
            outside.set_up(link)
    except OSError as error:
        raise HostError(f"cannot make the link '{link}': {error.strerror}") from error
    namespaces.inside(namespace, lambda: _set_up_inside(IPv4Interface((address, network.prefixlen)), network))


def delete_link(name: str) -> bool:
    """Delete a link (one end of a pair, or a bridge); return False where there is none. Raises HostError."""
    try:
        with Netlink() as link:
            return link.delete_link(name)
    except OSError as error:
        raise HostError(f"cannot delete the link '{name}': {error.strerror}") from error


def link_names(prefix: str) -> tuple[str, ...]:
    with Netlink() as link:
        return tuple(sorted(found.name for found in link.links() if found.name.startswith(prefix)))


def _set_up_inside(address: IPv4Interface, network: IPv4Network) -> None:
    with Netlink() as link:
        link.set_up("lo")
        _write(f"/proc/sys/net/ipv6/conf/{INSIDE}/disable_ipv6", "1")
        _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        link.add_address(INSIDE, address)
        link.set_up(INSIDE)
        link.add_default_route(gateway(network).ip)


def _mac(address: IPv4Address) -> bytes:
    """An address that is used again keeps its hardware address, so that no neighbour remembers a wrong one."""
    return b"\x02\x69" + address.packed  # locally administered


def _taken(but: str | None = None) -> list[tuple[IPv4Network, str]]:
    with Netlink() as link:
        names = {found.number: found.name for found in link.links()}
        routes = [(index, route) for index, route in link.routes() if route.prefixlen]
        addresses = [(index, address.network) for index, address in link.addresses()]
    taken = []
    for index, network in (*addresses, *routes):
        name = names.get(index, "another table")
        if name != but:
            taken.append((network, f"{network} is reached through {name}"))
    return taken


def _overlap(network: IPv4Network, taken: Iterable[tuple[IPv4Network, str]]) -> str | None:
    return next((what for other, what in taken if network.overlaps(other)), None)


def _candidates(seed: int) -> Iterator[IPv4Network]:
    for private in _PRIVATE:
        count = 1 << (_PREFIX - private.prefixlen)
        for step in range(count):
            offset = (seed + step) % count << (32 - _PREFIX)
            yield IPv4Network((int(private.network_address) + offset, _PREFIX))


def _parse(text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except (ipaddress.AddressValueError, ValueError) as error:
        raise HostError(f"cannot use the subnet '{text}': {error}", hint="write it as 10.210.0.0/20") from error
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        raise HostError(f"cannot use the subnet '{text}': its prefix must be between /{_LARGEST} and /{_SMALLEST}")
    return network


def _ignore_existing(action: Callable[[], None]) -> None:
    with contextlib.suppress(FileExistsError):
        action()


def _write(path: str, text: str) -> None:
    """Write a setting of the kernel's; one that this kernel doesn't have (IPv6 is off) needs no writing."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
