"""All that is set up in a network namespace, as lines that can be compared and read: links, addresses, routes, rules,
tables of nftables, and the sockets that wait for somebody.

Asked by netlink from inside the namespace, so that nothing of it can hide: routes of every table, not the main one's.
Source: rtnetlink(7), sock_diag(7), linux/fib_rules.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from instar.frozen import dataclass
from instar.host.network.netlink import Link, Netlink, attributes

_ADDRESS, _RULE = struct.Struct("=BBBBi"), struct.Struct("=BBBBBBBBI")
_GET_ADDRESS, _GET_RULE = 22, 34
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_FRA_DESTINATION, _FRA_SOURCE, _FRA_PRIORITY, _FRA_TABLE = 1, 2, 6, 15
_ROUTE_TYPES = {1: "", 2: "local ", 3: "broadcast ", 4: "anycast ", 5: "multicast ", 6: "blackhole ", 7: "unreachable "}

_NETFILTER, _SOCK_DIAG = 12, 4
_GET_TABLE = 10 << 8 | 1  # the subsystem nf_tables, its message NFT_MSG_GETTABLE
_TABLE_NAME = 1
_GET_SOCKETS = 20
_SOCKET_ASKED = struct.Struct("=BBBxI48x")
_SOCKET_STATES = struct.Struct("=BBBB")
_CONNECTED = 1 << 1 | 1 << 2  # established, and SYN sent
_MAPPED = bytes(10) + b"\xff\xff"  # an address of IPv4 in a socket of IPv6
_TCP_LISTENS, _UDP_UNCONNECTED = 1 << 10, 1 << 7


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkView:
    """Everything but what changes by itself; sorted."""

    links: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()  # those that were set for good; an older Instar wrote none down


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A socket that waits for connections (tcp), or for packets from anybody (udp)."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {shown}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A socket that is connected, or just connects, to ``port`` of ``address``."""

    protocol: str
    own_port: int
    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.address}:{self.port}"


def view() -> NetworkView:
    """Return what is set up in the network namespace of this thread. Raises OSError."""
    with Netlink() as netlink:
        names, links = _links(netlink)
        return NetworkView(
            links=links,
            addresses=tuple(sorted(_addresses(netlink, names))),
            routes=tuple(sorted(_routes(netlink, names))),
            rules=tuple(sorted(_rules(netlink))),
            tables=tuple(sorted({*tables(), *_old_tables()})),
            neighbours=tuple(sorted(_neighbours(netlink, names))),
        )


def listeners() -> tuple[Listener, ...]:
    """Return the sockets of this thread's network namespace that wait for somebody. Raises OSError."""
    found = {
        listener
        for family in (socket.AF_INET, socket.AF_INET6)
        for protocol, states in ((socket.IPPROTO_TCP, _TCP_LISTENS), (socket.IPPROTO_UDP, _UDP_UNCONNECTED))
        for listener in _sockets(family, protocol, states)
    }
    return tuple(sorted(found, key=str))


def connections() -> tuple[Connection, ...]:
    """Return the sockets of this thread's network namespace that are connected to an address of IPv4. Raises OSError,
    also where the kernel does not tell of sockets."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            with Netlink(_SOCK_DIAG) as netlink:
                for message in netlink.dump(_GET_SOCKETS, _SOCKET_ASKED.pack(family, protocol, 0, _CONNECTED)):
                    found |= {one for one in (_connection(family, protocol, message),) if one is not None}
    return tuple(sorted(found, key=str))


def _connection(family: int, protocol: int, message: bytes) -> Connection | None:
    remote = message[24:28] if family == socket.AF_INET else message[24:40]
    if family == socket.AF_INET6 and remote[:12] != _MAPPED:
        return None
    return Connection(
        protocol="tcp" if protocol == socket.IPPROTO_TCP else "udp",
        own_port=int.from_bytes(message[4:6], "big"),
        address=IPv4Address(remote[-4:]),
        port=int.from_bytes(message[6:8], "big"),
    )


def _links(netlink: Netlink) -> tuple[dict[int, str], tuple[str, ...]]:
    found = netlink.links()
    return {link.number: link.name for link in found}, tuple(sorted(map(_shown, found)))


def _shown(link: Link) -> str:
    state, program = "up" if link.up else "down", " xdp" if link.program else ""
    return f"{link.name} {link.mac.hex(':')} mtu {link.mtu} {state}{program}"


def _addresses(netlink: Netlink, names: dict[int, str]) -> Iterator[str]:
    for message in netlink.dump(_GET_ADDRESS, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, prefix, _, _, number = _ADDRESS.unpack_from(message)
        found = dict(attributes(message[_ADDRESS.size :]))
        address = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
        yield f"{socket.inet_ntop(family, address)}/{prefix} on {names.get(number, number)}"


def _routes(netlink: Netlink, names: dict[int, str]) -> Iterator[str]:
    for one in netlink.routes(socket.AF_UNSPEC):
        if one.cached or one.family not in (socket.AF_INET, socket.AF_INET6):
            continue
        via = f" via {socket.inet_ntop(one.family, one.gateway)}" if one.gateway else ""
        on = f" on {names.get(one.link, one.link)}" if one.link else ""
        target = _prefix(one.family, one.destination, one.prefix)
        yield f"{_ROUTE_TYPES.get(one.kind, f'type {one.kind} ')}{target}{via}{on} table {one.table}"


def _rules(netlink: Netlink) -> Iterator[str]:
    for message in netlink.dump(_GET_RULE, _RULE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, to, source, _, table, _, _, action, _ = _RULE.unpack_from(message)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        found = dict(attributes(message[_RULE.size :]))
        priority = int.from_bytes(found.get(_FRA_PRIORITY, b""), "little")
        table = int.from_bytes(found.get(_FRA_TABLE, bytes([table])), "little")
        origin = _prefix(family, found.get(_FRA_SOURCE), source)
        target = _prefix(family, found.get(_FRA_DESTINATION), to)
        yield f"{priority}: from {origin} to {target} action {action} table {table}"


def _neighbours(netlink: Netlink, names: Mapping[int, str]) -> Iterator[str]:
    for one in netlink.neighbours():
        if one.fixed:
            yield f"{one.address} at {one.mac.hex(':')} on {names.get(one.link, one.link)}"


def _prefix(family: int, address: bytes | None, length: int) -> str:
    version = "" if family == socket.AF_INET else "IPv6 "
    return f"{version}default" if address is None else f"{socket.inet_ntop(family, address)}/{length}"


def tables() -> Iterator[str]:
    """Yield the tables of nftables in this thread's network namespace; none where the kernel has no such thing."""
    try:
        with Netlink(_NETFILTER) as netlink:
            for message in netlink.dump(_GET_TABLE, b"\0\0\0\0"):
                name = dict(attributes(message[4:])).get(_TABLE_NAME, b"").rstrip(b"\0")
                yield f"nftables {name.decode(errors='replace')}"
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
            raise


def _old_tables() -> Iterator[str]:
    """Yield the tables of the packet filter before nftables that are in use."""
    for name in ("ip_tables_names", "ip6_tables_names", "arp_tables_names"):
        try:
            text = Path(f"/proc/thread-self/net/{name}").read_text()
        except OSError:
            continue
        yield from (f"{name.partition('_')[0]}tables {table}" for table in text.split())


def _sockets(family: int, protocol: int, states: int) -> Iterator[Listener]:
    try:
        with Netlink(_SOCK_DIAG) as netlink:
            for message in netlink.dump(_GET_SOCKETS, _SOCKET_ASKED.pack(family, protocol, 0, states)):
                yield _listener(family, protocol, message)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL):  # a module that is not there
            raise
        yield from _sockets_by_file(family, protocol)


def _listener(family: int, protocol: int, message: bytes) -> Listener:
    port = int.from_bytes(message[4:6], "big")
    size = 4 if family == socket.AF_INET else 16
    return Listener(
        protocol="tcp" if protocol == socket.IPPROTO_TCP else "udp",
        address=socket.inet_ntop(family, message[8 : 8 + size]),
        port=port,
    )


def _sockets_by_file(family: int, protocol: int) -> Iterator[Listener]:
    """Do without sock_diag: where there are many connections, this takes long. Source: proc(5), net/tcp."""
    name = "tcp" if protocol == socket.IPPROTO_TCP else "udp"
    wanted = "0A" if name == "tcp" else "07"
    path = Path(f"/proc/thread-self/net/{name}{'6' if family == socket.AF_INET6 else ''}")
    if not path.exists():
        return
    for line in path.read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == wanted:
            address, port = local.split(":")
            order = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            yield Listener(protocol=name, address=socket.inet_ntop(family, order), port=int(port, 16))


def first_ephemeral_port() -> int:
    """Return the lowest port that this thread's network namespace gives to sockets that ask for any."""
    text = os.fsdecode(Path("/proc/sys/net/ipv4/ip_local_port_range").read_bytes())
    return int(text.split()[0])
