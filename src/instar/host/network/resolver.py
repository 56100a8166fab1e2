"""Which name servers an instance can ask.

A server at a loopback address (systemd-resolved's 127.0.0.53, a local dnsmasq) is another one inside an instance: the
servers behind it are taken. Source: resolv.conf(5), systemd-resolved.service(8).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from instar.frozen import dataclass

CONFIGURATION = Path("/etc/resolv.conf")
BEHIND_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")
_PORT = 53
_MAX_SERVERS = 3  # more are not looked at. Source: resolv.conf(5)
_KEPT = ("search", "domain", "options")
_ANSWERED = (0, 2, 3, 5)  # NOERROR, SERVFAIL, NXDOMAIN, REFUSED: it is there. Source: RFC 1035 4.1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolver:
    """``servers`` can be asked from inside; ``other`` are the file's further lines that hold inside as well."""

    servers: tuple[IPv4Address, ...]
    other: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the resolv.conf of an instance."""
        lines = [*(f"nameserver {server}" for server in self.servers), *self.other]
        return "".join(f"{line}\n" for line in lines)


def of_machine(configuration: Path = CONFIGURATION, behind: Path = BEHIND_SYSTEMD) -> Resolver:
    """Return the servers that this machine asks in the end. There may be none that an instance could ask."""
    found = read(configuration)
    return found if found.servers or not behind.exists() else read(behind)


def read(path: Path) -> Resolver:
    """Read a resolv.conf; loopback and IPv6 servers are left out: instances have IPv4 alone."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return Resolver(servers=())
    words = [line.split("#")[0].split(";")[0].split() for line in lines]
    servers = [address for line in words if line[:1] == ["nameserver"] and (address := _usable(line[1:]))]
    other = tuple(" ".join(line) for line in words if len(line) > 1 and line[0] in _KEPT)
    return Resolver(servers=tuple(dict.fromkeys(servers))[:_MAX_SERVERS], other=other)


def answers(servers: Sequence[IPv4Address], timeout_s: float) -> bool:
    """Ask every one of ``servers`` for the root's name servers; return True as soon as one answers anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        asker.setblocking(False)
        number = int.from_bytes(os.urandom(2), "big")
        question = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 2, 1)
        for server in servers:
            _send(asker, question, server)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([asker], [], [], left)[0] and _is_answer(asker, number):
                return True
    return False


def _send(asker: socket.socket, question: bytes, server: IPv4Address) -> None:
    try:
        asker.sendto(question, (str(server), _PORT))
    except OSError:
        return  # no route to it: the others may answer


def _is_answer(asker: socket.socket, number: int) -> bool:
    try:
        data = asker.recv(4096)
    except OSError:
        return False
    return len(data) >= 4 and int.from_bytes(data[:2], "big") == number and data[3] & 0xF in _ANSWERED


def _usable(words: Sequence[str]) -> IPv4Address | None:
    try:
        address = IPv4Address(words[0])
    except (IndexError, ValueError):
        return None
    return None if address.is_loopback or address.is_unspecified else address
