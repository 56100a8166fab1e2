"""Where rules of policy routing (``ip rule``) could lead packets of which the kernel, asked for a route, says nothing.

Such a question is about a packet without a mark, of nobody's, to no port. A rule that asks for one of these picks out
some packets; what it does with them is worked out here, as the kernel would, rule by rule. So a rule that picks out
packets for a table without a route to the address, or one behind a rule that finds a route for all of them, as those of
VPNs are, leads nothing astray. Source: linux/fib_rules.h, linux/net/ipv4/fib_rules.c; rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final, NamedTuple

from instar.frozen import dataclass
from instar.host.network import network_outside
from instar.host.network.netlink import Netlink, attributes

_RULE = struct.Struct("=BBBBBBBBI")  # fib_rule_hdr
_GET_RULE = 34
_DESTINATION, _SOURCE, _INTERFACE, _GOTO, _PRIORITY = 1, 2, 3, 4, 6
_SUPPRESSED_LENGTH, _TABLE, _OUT, _OF_VRF = 14, 15, 17, 19
_PICKS: Final[tuple[int, ...]] = (
    3,
    10,
    12,
    16,
    20,
    22,
    23,
    24,
    25,
)  # interface, mark, tunnel, mask, users, protocol, ports, DSCP
_INVERTED, _TO_TABLE, _TO_RULE, _NOTHING = 2, 1, 2, 3
_THROW = 9
_MOST_GOTOS: Final = 16
_ANYWHERE: Final = IPv4Network((0, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stray:
    """``rule``: the priority of the one that leads some packets to an address over ``way``."""

    rule: int
    way: str


class _Rule(NamedTuple):
    """``picks``: what it asks for besides addresses, () when it takes all packets to ``to``."""

    priority: int
    to: IPv4Network
    but: bool  # it is for all that is not to there
    picks: tuple[tuple[int, bytes], ...]
    action: int
    table: int
    goto: int
    suppressed: int  # routes with so short a prefix don't count


class _Route(NamedTuple):
    to: IPv4Network
    service: int  # the type of service that it is for, 0: any
    kind: int
    way: str


def strays(
    addresses: Mapping[str, IPv4Address], bridge: str, sources: Collection[IPv4Network], names: Mapping[int, str]
) -> Mapping[str, Stray]:
    """Return for those of ``addresses`` (by any key) that a rule leads elsewhere than over ``bridge`` the first such.

    ``sources``: the networks of who sends there; ``names``: those of links by number. Raises OSError.
    """
    with Netlink() as netlink:
        rules = tuple(_rules(netlink, bridge, sources))
        picking = any(rule.picks for rule in rules)
        tables = _tables(netlink, names) if picking else {}
    found = {}
    for key, address in addresses.items() if picking else ():
        for stray in _followed(rules, tables, address):
            if stray.way != bridge:
                found[key] = stray
                break
    return found


def _followed(
    rules: Sequence[_Rule],
    tables: Mapping[int, Sequence[_Route]],
    address: IPv4Address,
    picked: frozenset[tuple[tuple[int, bytes], ...]] = frozenset(),
    jumps: int = 0,
) -> Iterator[Stray]:
    """Yield where packets that rules pick out go. ``picked``: whose way is known already from a rule before."""
    for rule in rules:
        if (address in rule.to) == rule.but or rule.picks in picked:
            continue
        if rule.action == _TO_RULE:
            if jumps < _MOST_GOTOS:
                rest = [one for one in rules if one.priority >= rule.goto > rule.priority]
                yield from _followed(rest, tables, address, picked, jumps + 1)
            if rule.picks:
                continue
            return
        way = _way(rule, tables, address)
        if way is None:
            continue
        if not rule.picks:
            return  # which the kernel has told
        yield Stray(rule=rule.priority, way=way)
        picked |= {rule.picks}


def _way(rule: _Rule, tables: Mapping[int, Sequence[_Route]], address: IPv4Address) -> str | None:
    """Return what a rule does with packets to ``address``; None where the next one is asked."""
    if rule.action == _NOTHING:
        return None
    if rule.action != _TO_TABLE:
        return network_outside.nowhere(rule.action)
    fitting = [one for one in tables.get(rule.table, ()) if address in one.to]
    usual = next((one for one in fitting if not one.service), None)
    if usual is None or usual.kind == _THROW or usual.to.prefixlen <= rule.suppressed:
        return None
    return usual.way


def _rules(netlink: Netlink, bridge: str, sources: Collection[IPv4Network]) -> Iterator[_Rule]:
    """Yield the rules that packets to instances can meet, in the order in which the kernel asks them."""
    for message in netlink.dump(_GET_RULE, _RULE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, to, source, service, table, _, _, action, flags = _RULE.unpack_from(message)
        found = dict(attributes(message[_RULE.size :]))
        inverted = bool(flags & _INVERTED)
        picks = [(kind, found[kind]) for kind in _PICKS if kind in found]
        picks += [(-1, bytes([service]))] if service else []
        if source:
            if not inverted and not any(_network(found, _SOURCE, source).overlaps(one) for one in sources):
                continue
            picks.append((_SOURCE, found[_SOURCE] + bytes([source])))
        if not inverted and (_OUT in found or any(found.get(_OF_VRF, b"")) or _elsewhere(found, bridge)):
            continue
        if inverted and picks:
            picks.append((-2, found.get(_DESTINATION, b"") + bytes([to])))
        yield _Rule(
            priority=_number(found.get(_PRIORITY)),
            to=_ANYWHERE if inverted and picks else _network(found, _DESTINATION, to),
            but=inverted and not picks,
            picks=tuple(picks),
            action=action,
            table=_number(found.get(_TABLE)) or table,
            goto=_number(found.get(_GOTO)),
            suppressed=struct.unpack("=i", found.get(_SUPPRESSED_LENGTH, b"\xff" * 4))[0],
        )


def _elsewhere(found: Mapping[int, bytes], bridge: str) -> bool:
    """Tell whether a rule is about packets that come from where none for an instance does."""
    came = found.get(_INTERFACE, b"lo").rstrip(b"\0").decode(errors="replace")
    return came not in ("lo", bridge)  # "lo": what this machine itself sends


def _tables(netlink: Netlink, names: Mapping[int, str]) -> Mapping[int, Sequence[_Route]]:
    """Return the routes of each table, those with the longest prefix first."""
    found: dict[int, list[_Route]] = {}
    for route in netlink.routes():
        if not route.cached:
            to = IPv4Network((route.destination or bytes(4), route.prefix), strict=False)
            way = network_outside.way_of(route, names)
            found.setdefault(route.table, []).append(_Route(to, route.service, route.kind, way))
    return {number: sorted(routes, key=lambda one: -one.to.prefixlen) for number, routes in found.items()}


def _network(fields: Mapping[int, bytes], kind: int, length: int) -> IPv4Network:
    return IPv4Network((fields.get(kind, bytes(4)), length), strict=False)


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "little")
