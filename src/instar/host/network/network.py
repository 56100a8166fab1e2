"""The network of this machine's instances: which addresses, the bridge, and each instance's pair of links.

Every name carries the state directory's id (see ``names.py`` of the provider). IPv6 is off on what is made here: an
instance has one address, and nobody beside it on its link: all that it sends goes to this machine, which passes on
what ``firewall.py`` lets through. Who has which address is said for good from outside, so nobody can be asked for it,
and nobody lie.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from instar.errors import HostError
from instar.host.kernel import namespaces
from instar.host.network import firewall, guests
from instar.host.network.guests import Guest
from instar.host.network.netlink import ALONE, Netlink

INSIDE = "eth0"
_PREFIX = 20
_PRIVATE = tuple(IPv4Network(text) for text in ("10.192.0.0/10", "172.16.0.0/12", "192.168.0.0/16"))
_SMALLEST, _LARGEST = 28, 16
_USUAL_MTU = 1500
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
# this network, the machine itself, groups, and what is reserved
_NOBODYS = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")))
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
        if network.overlaps(firewall.METADATA):
            why = "addresses there are of one link alone, such as that of a cloud's metadata"
            raise HostError(f"cannot use the subnet '{wanted}': {why}", hint=_ANOTHER)
        if any(network.overlaps(one) for one in _NOBODYS):
            text = f"cannot use the subnet '{wanted}': no machine has addresses of its own in it"
            raise HostError(text, hint=_ANOTHER)
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


def ensure_bridge(bridge: str, network: IPv4Network, others: Iterable[IPv4Address] = ()) -> None:
    """Make the bridge with the network's first address and ``others``, and let this machine pass packets on. Raises
    HostError."""
    try:
        with Netlink() as link:
            _ignore_existing(lambda: link.add_bridge(bridge, mac(gateway(network).ip)))
            _write(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6", "1")
            _ignore_existing(lambda: link.add_address(bridge, gateway(network)))
            for one in others:
                _ignore_existing(lambda one=one: link.add_address(bridge, IPv4Interface((one, 32))))  # type: ignore[misc]
            link.set_up(bridge)
        _write(_FORWARDING, "1")
        _write(forwarding_of(bridge), "1")  # where somebody has changed that of this link alone
    except OSError as error:
        raise HostError(f"cannot make the bridge '{bridge}': {error.strerror}") from error


def bridge_is_up(bridge: str, network: IPv4Network, others: Iterable[IPv4Address] = ()) -> bool:
    """Tell whether the bridge is up with its addresses and packets are passed on, so that nothing is to be made."""
    if Path(_FORWARDING).read_text().strip() != "1":
        return False
    try:
        if Path(forwarding_of(bridge)).read_text().strip() != "1":
            return False
        with Netlink() as netlink:
            link = netlink.link(bridge)
            wanted = {gateway(network), *(IPv4Interface((one, 32)) for one in others)}
            return link.up and wanted <= {one for number, one in netlink.addresses() if number == link.number}
    except OSError:
        return False


def drop_address(bridge: str, address: IPv4Address) -> None:
    """Take an address from the bridge; one that it has not is fine. Raises HostError."""
    try:
        with Netlink() as link:
            link.delete_address(bridge, IPv4Interface((address, 32)))
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.EADDRNOTAVAIL):
            raise HostError(f"cannot take {address} from the bridge '{bridge}': {error.strerror}") from error


def forwarding_of(bridge: str) -> str:
    """Return the file that says whether packets that come over the bridge are passed on."""
    return f"/proc/sys/net/ipv4/conf/{bridge}/forwarding"


def gateway(network: IPv4Network) -> IPv4Interface:
    """Return the network's first address, the bridge's own."""
    return IPv4Interface((network.network_address + 1, network.prefixlen))


def connect(table: str, bridge: str, namespace: Path, guest: Guest, network: IPv4Network) -> None:
    """Join the network namespace to the bridge by the pair ``guest.link``–eth0, and set up all that is inside.

    The link is up only when everything holds that ties it. Raises HostError; what was made then goes by
    :func:`disconnect`.
    """
    address, hardware = IPv4Address(guest.address), bytes.fromhex(guest.mac)
    try:
        with open(namespace, "rb") as kept, Netlink() as outside:  # noqa: PTH123 - a namespace is no file to read
            master = socket.if_nametoindex(bridge)
            outside.add_veth(
                guest.link, master=master, mtu=guest.mtu, peer=INSIDE, peer_mac=hardware, peer_namespace=kept.fileno()
            )
            _write(f"/proc/sys/net/ipv6/conf/{guest.link}/disable_ipv6", "1")
            outside.set_port(guest.link, ALONE)
            outside.set_behind(guest.link, hardware)
            outside.set_neighbour(bridge, address, hardware)
            guests.admit(table, guest)
            outside.set_up(guest.link)
    except OSError as error:
        raise HostError(f"cannot make the link '{guest.link}': {error.strerror}") from error
    namespaces.inside(namespace, lambda: _set_up_inside(address, gateway(network).ip))


def disconnect(table: str, bridge: str, link: str, address: str | None) -> None:
    """Remove a link and all that ties it; what isn't there is fine. Raises HostError."""
    delete_link(link)
    known = guests.dismiss(table, link, address)
    if known is None:
        return
    try:
        with Netlink() as outside:
            outside.delete_neighbour(bridge, IPv4Address(known))
    except OSError as error:
        if error.errno != errno.ENODEV:  # the bridge is gone, and all neighbours on it
            raise HostError(f"cannot forget the neighbour {known}: {error.strerror}") from error


def mtu() -> int:
    """Return the longest packet that goes on into the world as it is: that of the link with the default route."""
    with Netlink() as link:
        number = link.default_link()
        return next((one.mtu for one in link.links() if one.number == number), _USUAL_MTU)


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


def carriers(network: IPv4Network) -> tuple[str, ...]:
    """Return the links of this machine that have an address in ``network``."""
    with Netlink() as link:
        names = {found.number: found.name for found in link.links()}
        return tuple(names.get(index, "") for index, address in link.addresses() if address.ip in network)


def mac(address: IPv4Address) -> bytes:
    """An address that is used again keeps its hardware address, so that no neighbour remembers a wrong one."""
    return b"\x02\x69" + address.packed  # locally administered


def _set_up_inside(address: IPv4Address, router: IPv4Address) -> None:
    """The instance is alone on its link with the router, whose hardware address it need not ask for."""
    with Netlink() as link:
        link.set_up("lo")
        _write(f"/proc/sys/net/ipv6/conf/{INSIDE}/disable_ipv6", "1")
        _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        link.add_address(INSIDE, IPv4Interface((address, 32)))
        link.set_up(INSIDE)
        link.set_neighbour(INSIDE, router, mac(router))
        link.add_route(INSIDE, router)
        link.add_default_route(router)


def _taken(but: str | None = None) -> list[tuple[IPv4Network, str]]:
    with Netlink() as link:
        names = {found.number: found.name for found in link.links()}
        routes = [(one.link, IPv4Network((one.destination, one.prefix))) for one in link.routes() if one.destination]
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
