"""Which sockets may be made in an instance or a sandbox: rules of a filter that refuses what no rule allows.

A family is on the list when it stays within the network namespace and services have a use for it. What is compared is
what the kernel reads, the lower half of the register: a number with something above it is another for a filter that
compares all of it. Source: linux/socket.h, linux/netlink.h, linux/if_packet.h; seccomp(2).

The rings of AF_PACKET are memory of the kernel's, as much as a process asks for, and counted to nobody: who may make
such sockets does without.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

FAMILIES: Final = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK})
FAMILIES_OF: Final[Mapping[str, int]] = {"CAP_NET_RAW": socket.AF_PACKET}

# ROUTE: every look at one's own addresses; SOCK_DIAG: ss; KOBJECT_UEVENT: libudev. All of one's own namespace.
NETLINK: Final = frozenset({0, 4, 15})
NETLINK_OF: Final[Mapping[str, frozenset[int]]] = {
    "CAP_NET_ADMIN": frozenset({6, 12, 16}),  # XFRM, NETFILTER, GENERIC (WireGuard)
    "CAP_AUDIT_WRITE": frozenset({9}),
}

_EAFNOSUPPORT, _EPROTONOSUPPORT, _ENOPROTOOPT = 97, 93, 92
_FAMILY, _PROTOCOL = 0, 2  # arguments of socket()
_LEVEL, _OPTION = 1, 2  # of setsockopt()
_SOL_PACKET, _RINGS, _LAST_OPTION = 263, frozenset({5, 13}), 24  # PACKET_RX_RING, PACKET_TX_RING
_LOWER_HALF = 0xFFFF_FFFF


def calls(machine: str, capabilities: Collection[str] = ()) -> frozenset[str]:
    """Return the system calls that only :func:`rules` decides about.

    ``socketcall`` hides its arguments from every filter, and only s390x has a C library that needs it.
    """
    hidden = frozenset() if machine == "s390x" else frozenset({"socketcall"})
    return frozenset({"socket", "socketpair"}) | hidden | ({"setsockopt"} if _has_packets(capabilities) else set())


def rules(capabilities: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield what processes with ``capabilities`` (CAP_…) may make; others fail as on a kernel that lacks them."""
    families = FAMILIES | {family for name, family in FAMILIES_OF.items() if name in capabilities}
    for family in sorted(families - {socket.AF_NETLINK}):
        yield _allow("socket", _is(_FAMILY, family))
    yield from _refuse_others("socket", families, _FAMILY, _EAFNOSUPPORT)

    netlink = NETLINK.union(*(numbers for name, numbers in NETLINK_OF.items() if name in capabilities))
    for number in sorted(netlink):
        yield _allow("socket", _is(_FAMILY, socket.AF_NETLINK), _is(_PROTOCOL, number))
    yield from _refuse_others("socket", netlink, _PROTOCOL, _EPROTONOSUPPORT, _is(_FAMILY, socket.AF_NETLINK))

    yield _allow("socketpair", _is(_FAMILY, socket.AF_UNIX))
    yield from _refuse_others("socketpair", {socket.AF_UNIX}, _FAMILY, _EAFNOSUPPORT)
    if _has_packets(capabilities):
        yield from _options_without_rings()


def _has_packets(capabilities: Collection[str]) -> bool:
    return "CAP_NET_RAW" in capabilities


def _options_without_rings() -> Iterator[dict[str, Any]]:
    """Yield what setsockopt() may set. No two of a filter's rules may fit one call and say different things, so all
    other levels are allowed bit by bit: those whose first bit is another one than AF_PACKET's, whose second, …"""
    for bit in range(32):
        other = {"index": _LEVEL, "value": 1 << bit, "valueTwo": ~_SOL_PACKET & 1 << bit, "op": "SCMP_CMP_MASKED_EQ"}
        yield _allow("setsockopt", other)
    for option in range(1, _LAST_OPTION + 1):
        both = (_is(_LEVEL, _SOL_PACKET), _is(_OPTION, option))
        yield (
            _rule("SCMP_ACT_ERRNO", "setsockopt", both, errnoRet=_ENOPROTOOPT)
            if option in _RINGS
            else _allow("setsockopt", *both)
        )


def _refuse_others(
    call: str, allowed: Collection[int], argument: int, errno: int, *where: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield rules that only say why: without them, too, nothing would be allowed."""
    most = max(allowed)
    for number in sorted(set(range(most)) - set(allowed)):
        yield _rule("SCMP_ACT_ERRNO", call, (*where, _is(argument, number)), errnoRet=errno)
    above = {"index": argument, "value": most, "valueTwo": 0, "op": "SCMP_CMP_GT"}
    yield _rule("SCMP_ACT_ERRNO", call, (*where, above), errnoRet=errno)


def _allow(call: str, *args: Mapping[str, Any]) -> dict[str, Any]:
    return _rule("SCMP_ACT_ALLOW", call, args)


def _rule(action: str, call: str, args: Collection[Mapping[str, Any]], **more: int) -> dict[str, Any]:
    return {"names": [call], "action": action, "args": list(args), **more}


def _is(argument: int, value: int) -> dict[str, Any]:
    return {"index": argument, "value": _LOWER_HALF, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
