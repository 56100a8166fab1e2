"""What this machine does with the packets of instances, outside of them: links, bridge, routes, tables, redirects.

All of it follows from the names of the state directory and the instances' addresses, so that nothing is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final, TypeVar

from instar.errors import InstarError
from instar.frozen import dataclass
from instar.host.network import network, network_outside, policy_routing, redirects
from instar.host.network.netlink import Link, Netlink
from instar.host.network.policy_routing import Stray
from instar.host.network.redirects import Redirect
from instar.model.drift import Finding
from instar.providers.local import internal_record
from instar.providers.local.inspection.case import Case
from instar.providers.local.names import Names
from instar.providers.local.subnet import Subnet
from instar.waiting import Deadline, until

_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_MOMENT_S: Final = 0.5
_POLL_S: Final = 0.05
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """What is looked up once for all instances. ``ways``: the instance's name → which way packets to it go;
    ``strays``: → where a rule leads some of them; ``addresses``: the bridge's. ``unseen``: what could
    not be looked at, and why; ``of_machine``: what is wrong with what all instances share."""

    links: Mapping[str, Link] | None
    ways: Mapping[str, str] | None
    strays: Mapping[str, Stray] | None
    addresses: Sequence[IPv4Interface] | None
    redirects: Sequence[Redirect] | None
    unseen: Mapping[str, str]
    of_machine: Sequence[Finding] = ()


def look(cases: Sequence[Case]) -> Outside | None:
    """Look around; None where there is no instance to look for."""
    if not cases:
        return None
    unseen: dict[str, str] = {}

    def seen(what: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except (OSError, InstarError, ValueError, KeyError, IndexError) as error:
            unseen[what] = str(error) or type(error).__name__
            return None

    links = seen("links", network_outside.links)
    numbers = {link.number: name for name, link in (links or {}).items()}
    addresses = {case.names.name: case.order.address for case in cases}
    bridge = cases[0].names.of.bridge
    own = seen("addresses", lambda: _addresses(bridge, numbers))
    networks = [one.network for one in own or ()]
    outside = Outside(
        links=links,
        ways=seen("routes", lambda: network_outside.ways_to(addresses, numbers)),
        strays=seen("rules of routing", lambda: policy_routing.strays(addresses, bridge, networks, numbers)),
        addresses=own,
        redirects=seen("rules", redirects.redirects),
        unseen=unseen,
    )
    return replace(outside, of_machine=tuple(_of_machine(cases[0].names.of, outside)))


def differences(case: Case, outside: Outside | None) -> Iterator[Finding]:
    """Yield what is not as it was made; what is the whole machine's is of no instance."""
    if outside is None:
        return
    yield from outside.of_machine
    bridge = case.names.of.bridge
    if outside.links is not None:
        yield from _link(case, outside.links, bridge)
    way = outside.ways.get(case.names.name, bridge) if outside.ways is not None else bridge
    path = f"route to {case.order.address}"
    if way != bridge:
        yield case.finding("network", path, f"over the bridge {bridge}", f"over {way}")
    if (stray := (outside.strays or {}).get(case.names.name)) is not None:
        observed = f"over {stray.way}, for what rule {stray.rule} of 'ip rule' picks out"
        yield case.finding("network", path, f"over the bridge {bridge}, for every packet", observed)
    address = case.order.address
    port, mac = case.order.release.service.port, network.mac(address)
    for rule in outside.redirects or ():
        if (told := rule.effect_on_host(address, port, mac, (case.names.link, bridge))) is not None:
            yield case.finding("network", f"packets to {address}", "go there as they are, and nobody's else", told)


def _addresses(bridge: str, names: Mapping[int, str]) -> list[IPv4Interface]:
    with Netlink() as netlink:
        return [address for number, address in netlink.addresses() if names.get(number) == bridge]


def _link(case: Case, links: Mapping[str, Link], bridge: str) -> Iterator[Finding]:
    name = case.names.link
    link, wanted = links.get(name), links.get(bridge)
    if link is None:
        yield case.finding("network", f"link {name}", f"on the bridge {bridge}", "it is not there")
        return
    if wanted is not None and link.master != wanted.number:
        there = next((other for other, one in links.items() if one.number == link.master), "no bridge")
        yield case.finding("network", f"link {name}", f"on the bridge {bridge}", f"on {there}")
    if not link.up:
        yield case.finding("network", f"link {name}", "up", "down")
    if link.program:
        yield case.finding("network", f"link {name}", "no program sees its packets", "an XDP program does")


def _of_machine(names: Names, outside: Outside) -> Iterator[Finding]:
    for what, cause in outside.unseen.items():
        yield _finding(f"this machine's {what}", "it can be looked at", cause)
    bridge = (outside.links or {}).get(names.bridge)
    if outside.links is not None and (bridge is None or not bridge.up):
        yield _finding(f"bridge {names.bridge}", "up", "down" if bridge else "it is not there")
    for path in (_FORWARDING, Path(network.forwarding_of(names.bridge))):
        if (said := _setting(path)) != "1":
            yield _finding(str(path), "1", said)
    if outside.links is not None and names.bridge in outside.links:
        yield from _bridge(names, outside, outside.links)


def _bridge(names: Names, outside: Outside, links: Mapping[str, Link]) -> Iterator[Finding]:
    """Yield what else than instances is on the bridge, and what else than their gateway it is."""
    bridge, path = links[names.bridge], f"bridge {names.bridge}"
    ports = {name: link for name, link in links.items() if link.master == bridge.number}
    for name in sorted(ports):
        if not name.startswith(names.link_prefix):
            yield _finding(path, "instances alone are on it", f"{name} is on it")
    if ports and bridge.mtu < min(link.mtu for link in ports.values()):
        yield _finding(path, f"mtu {min(link.mtu for link in ports.values())}", f"mtu {bridge.mtu}")
    subnet = Subnet(names).find()
    if subnet is not None and outside.addresses is not None:
        yield from _others(names, subnet, bridge.number, outside.addresses)
    for name in _OFF:
        here, usual = (_setting(_OF_LINKS / link / name) for link in (names.bridge, "default"))
        if here not in (usual, "0"):
            yield _finding(str(_OF_LINKS / names.bridge / name), usual, here)


def _others(names: Names, subnet: IPv4Network, number: int, seen: Sequence[IPv4Interface]) -> Iterator[Finding]:
    """Yield which addresses the bridge has besides the instances' gateway and those of names, and which of these it has
    not. Names come and go while one looks: what is so for a moment is none."""
    found = _compared(names, subnet, seen)

    def settled() -> bool:
        found[:] = _compared(names, subnet, _addresses(names.bridge, {number: names.bridge}))
        return not found

    if found and not until(settled, Deadline.after(_MOMENT_S), every_s=_POLL_S):
        yield from found


def _compared(names: Names, subnet: IPv4Network, seen: Sequence[IPv4Interface]) -> list[Finding]:
    path, gateway = f"bridge {names.bridge}", network.gateway(subnet)
    named = {IPv4Interface((one, 32)): of for one, of in internal_record.addresses_in(names, subnet).items()}
    found = [
        _finding(path, f"its address is {gateway}", f"{address} is one too")
        for address in seen
        if address != gateway and address not in named
    ]
    return found + [
        _finding(path, f"it has {address.ip}, by which instances find {environment}", "it has not")
        for address, environment in named.items()
        if address not in seen
    ]


_OF_LINKS: Final = Path("/proc/sys/net/ipv4/conf")
_OFF: Final = ("accept_local", "proxy_arp", "proxy_arp_pvlan", "route_localnet")


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        return error.strerror or str(error)


def _finding(path: str, expected: str, observed: str) -> Finding:
    return Finding(instance=None, kind="network", path=path, expected=expected, observed=observed)
