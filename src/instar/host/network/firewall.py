"""Who may talk to whom: Instar's own two tables of nftables for a state directory.

The table of family ``bridge`` ties each link to one address and one hardware address: whatever else comes out of an
instance is dropped before the bridge learns of it, and nothing goes from one link to another. So all that instances
send passes this machine, where the table of family ``ip`` lets through what their environment may reach. It also
translates what leaves for the world, and lets nothing but answers back in.

    bridge TABLE   links, own, macs, addresses      sets: the links of guests, and what each may call itself
                   crafters                         who can make packets byte by byte: no fragments come from there
                   arriving → guarded, between
    ip TABLE       guests, senders, name_servers    sets: addresses, address → from_PLACE, (guest, server)
                   members_PLACE, doors_PLACE       the guests of an environment; where its router listens
                   named                            from the port of a name to where its router listens
                   postrouting, forward, arriving → from_PLACE → others → refused

Rules are of environments and are made by ``nft``, all at once; a **guest** (an instance) is a few elements of sets
(``guests.py``). What is no guest was made by an Instar that had none: it goes on as before, but passes neither for this
machine nor for a guest, and reaches no guest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from instar import process
from instar.errors import CommandFailed, HostError
from instar.frozen import dataclass
from instar.host.network import nftables, rules
from instar.host.network.guests import entries
from instar.host.network.nftables import Family
from instar.host.network.rules import chain_of
from instar.model.codec import ADDED
from instar.model.environment import MACHINE, Allow, Network

METADATA: Final = IPv4Network("169.254.0.0/16")
_TABLE_SIZE = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_SHARE, _PER_SECOND, _BURST = 16, 16, 2  # of this machine's table; of an instance's connections
_LEAST = 16
_TIMEOUT_S = 20
_CAUSE = re.compile(r"Error: (?:Could not process rule: )?(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What the instances of an environment may reach. ``doors``: where its own router listens, for others that may
    reach it. ``internal``: where instances find that router by name, "10.210.0.9:6379", each; it listens at the port
    ``BEHIND`` of that address, so that no other program's port is in its way."""

    network: Network = Network()
    doors: tuple[str, ...] = ()
    internal: tuple[str, ...] = field(default=(), metadata=ADDED)

    @property
    def all_doors(self) -> tuple[str, ...]:
        return (*self.doors, *self.internal)


def environments(chains: Iterable[str]) -> tuple[str, ...]:
    """Return the environments that have a chain among ``chains``."""
    begin = f"ip {chain_of('')}"
    return tuple(sorted(name.removeprefix(begin) for name in chains if name.startswith(begin)))


def exists(table: str) -> bool:
    """Tell whether both tables are there. Raises HostError."""
    try:
        return nftables.has("bridge", table, "arriving") and nftables.has("ip", table, "arriving")
    except OSError as error:
        raise nftables.failed("look at", error) from error


def apply(
    table: str, network: IPv4Network, bridge: str, links: str, gateway: str, environments: Mapping[str, Reach]
) -> None:
    """Make both tables as they shall be for ``environments``, in one step; guests stay, chains of somebody else's
    don't.

    ``links`` is what the names of all links on the bridge begin with; ``gateway`` the bridge's hardware address. Raises
    HostError, ComponentMissing.
    """
    named = sorted(
        {environment for reach in environments.values() for environment in _named(reach)} | environments.keys()
    )
    own = [*_CHAINS, *(f"ip {chain_of(environment)}" for environment in named)]
    lines = [
        *(rules.BRIDGE_HOOKS, rules.IP_HOOKS),
        *(f"add chain ip T {chain_of(environment)}" for environment in named),
        *(line for environment in named for line in _sets(environment)),
        *(f"flush chain {_in(chain)}" for chain in own),
        *(f"flush set ip T doors_{environment}" for environment in named),
        *_without_others(table, own),
        *(rules.BRIDGE_RULES, rules.IP_RULES),
        *(line for environment in named for line in _rules_of(environment, environments.get(environment, Reach()))),
        *(_named_rule(*where) for reach in environments.values() for where in _where(reach.internal)),
    ]
    words = {"T": table, "NETWORK": str(network), "BRIDGE": bridge, "LINKS": links, "MAC": gateway}
    words |= {"GATEWAY": str(network.network_address + 1), "METADATA": str(METADATA)}
    nft(re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[0]], "\n".join([*lines, ""])))


def forget(table: str, environment: str) -> None:
    """Remove an environment's chain and sets, unless a guest or another's rule needs them still; its doors are shut
    even then."""
    doors = ["ip", table, f"doors_{environment}"]
    process.run(["nft", "flush", "set", *doors], timeout_s=_TIMEOUT_S, check=False)
    names = (
        f"chain ip {table} {chain_of(environment)}",
        *(f"set ip {table} {kind}_{environment}" for kind in _KINDS),
    )
    for name in names:
        process.run(["nft", "delete", *name.split()], timeout_s=_TIMEOUT_S, check=False)


def remove(table: str) -> None:
    """Remove both tables; where there are none, that is fine. Raises HostError."""
    try:
        families = [family for family in _FAMILIES if nftables.has(family, table)]
    except OSError as error:
        raise nftables.failed("remove", error) from error
    if families:
        nft("".join(f"delete table {family} {table}\n" for family in families))


def has_doors(table: str, environment: str, reach: Reach) -> bool:
    """Tell whether the listeners of an environment's router are those of ``reach``, and no others. Raises HostError."""
    wanted = {
        tuple(nftables.key(address.packed, port.to_bytes(2, "big")) for address in (where[0], where[-1]))
        for where, port in _doors(reach)
    }
    try:
        return nftables.ranges("ip", table, f"doors_{environment}") == wanted
    except FileNotFoundError:
        return not wanted
    except OSError as error:
        raise nftables.failed("look at", error) from error


def chains(table: str) -> Mapping[str, tuple[str, ...]]:
    """Return what the chains of both tables are, by "FAMILY CHAIN". Raises HostError."""
    try:
        found = {family: nftables.chains(family, table) for family in _FAMILIES}
    except OSError as error:
        raise nftables.failed("look at", error) from error
    return {f"{family} {name}": lines for family, own in found.items() for name, lines in own.items()}


def _in(chain: str) -> str:
    """Return how ``nft`` is told "FAMILY CHAIN" of the table."""
    family, _, name = chain.partition(" ")
    return f"{family} T {name}"


def _without_others(table: str, own: Sequence[str]) -> Iterator[str]:
    """Yield what takes away chains that are not Instar's ``own``, and that no guest is led to."""
    try:
        there = chains(table).keys() - set(own) - {f"ip {element.goto}" for element in entries(table)}
    except OSError as error:
        raise nftables.failed("look at", error) from error
    foreign = [chain for chain in sorted(there) if _NAME.fullmatch(chain.partition(" ")[2])]  # ``nft`` is told in words
    yield from (f"flush chain {_in(chain)}" for chain in foreign)  # all of them first: one may lead to another
    yield from (f"delete chain {_in(chain)}" for chain in foreign)


def _named(reach: Reach) -> Iterator[str]:
    """Yield the environments that an environment may reach."""
    yield from (one.to for one in reach.network.allow if one.names_environment)


def _sets(environment: str) -> tuple[str, ...]:
    return (
        f"add set ip T members_{environment} {{ type ipv4_addr; }}",
        f"add set ip T doors_{environment} {{ type ipv4_addr . inet_service; flags interval; }}",
        f"add set ip T open_{environment} {{ type ipv4_addr; flags dynamic; size 65535; }}",
        f"add set ip T opened_{environment} {{ type ipv4_addr; flags dynamic; size 65535; }}",
    )


def _rules_of(environment: str, reach: Reach) -> Iterator[str]:
    """Yield the rules for what the instances of an environment send; the packets of a connection that was begun by
    somebody else need none."""
    chain, most = f"add rule ip T {chain_of(environment)}", reach.network.connections or _share()
    often = max(most // _PER_SECOND, 1)
    yield f"{chain} ct direction reply ct state established,related accept"
    yield f"{chain} ct state new add @open_{environment} {{ ip saddr ct count over {most} }} drop"
    rate = f"limit rate over {often}/second burst {max(most // _BURST, 1)} packets"
    yield f"{chain} ct state new update @opened_{environment} {{ ip saddr {rate} }} drop"
    for one in reach.network.allow:
        for target in _targets(one):
            yield from (f"{chain} {target}{ports} accept" for ports in _ports(one.ports, target))
    yield f"{chain} goto others"
    for where, port in _doors(reach):
        yield f"add element ip T doors_{environment} {{ {where} . {port} }}"


def _named_rule(address: IPv4Network, port: int) -> str:
    """Return the rule that leads from the port of a name to where the router listens."""
    at = address.network_address
    return f'add rule ip T named iifname "BRIDGE" ip daddr {at} tcp dport {port} dnat to {at}:{BEHIND}'


def _doors(reach: Reach) -> Iterator[tuple[IPv4Network, int]]:
    """Yield the addresses and the port of each listener."""
    yield from _where(reach.all_doors)


def _where(doors: Iterable[str]) -> Iterator[tuple[IPv4Network, int]]:
    """Yield the addresses and the port of each; instances have no IPv6."""
    for door in doors:
        host, _, port = door.rpartition(":")
        if not host.startswith("["):
            yield IPv4Network((host, 0 if host == "0.0.0.0" else 32)), int(port)  # noqa: S104 - not listened on


def _targets(one: Allow) -> tuple[str, ...]:
    if one.to == MACHINE:
        return ("fib daddr type local",)
    if one.names_environment:
        return (f"ip daddr @members_{one.to}", f"fib daddr type local ip daddr . tcp dport @doors_{one.to}")
    return (f"ip daddr {one.to}",)


def _ports(ports: Sequence[str], target: str) -> Iterator[str]:
    """Yield what is asked of a packet's ports, protocol by protocol; nothing where any port is meant."""
    if not ports:
        yield ""
    for protocol in ("tcp", "udp"):
        numbers = [port.partition("/")[0] for port in ports if port.endswith(f"/{protocol}")]
        if numbers and not (protocol == "udp" and "tcp dport" in target):
            yield f" {protocol} dport {{ {', '.join(numbers)} }}"


def _share() -> int:
    """Return how many connections are an instance's share of what this machine can remember."""
    try:
        return max(int(_TABLE_SIZE.read_text()) // _SHARE, _LEAST)
    except (OSError, ValueError):
        return 1 << 14


def nft(rules: str) -> None:
    """Have ``nft`` do what ``rules`` say, all or nothing. Raises HostError, ComponentMissing."""
    try:
        process.run(["nft", "-f", "-"], input=rules.encode(), timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        said = error.output.strip().splitlines()
        cause = next((found[1] for line in said if (found := _CAUSE.search(line))), said[0] if said else "no word")
        raise HostError(f"cannot set up the instances' firewall: nft: {cause}", hint=nftables.HINT) from error


BEHIND: Final = 1  # the port where routers listen at the addresses of their names
VERSION: Final = "3"  # of the rules: those of another one are made anew
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_FAMILIES: Final[tuple[Family, ...]] = ("bridge", "ip")
_CHAINS = (
    *("bridge arriving", "bridge guarded", "bridge between"),
    *("ip postrouting", "ip forward", "ip arriving", "ip named", "ip others", "ip refused"),
)
_KINDS = ("members", "doors", "open", "opened")
