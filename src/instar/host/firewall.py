"""Packets between instances and the world: address translation, and what else on this machine drops them.

One table of nftables for a state directory translates what leaves its network, and lets nothing but answers into it.
A packet must be accepted by every chain that sees it, so nothing here can undo another's drop (a running Docker's): it
is found and said.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from instar import process
from instar.errors import CommandFailed, HostError

_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_NFT_TIMEOUT_S = 20
_NETFILTER, _REQUEST = 12, 1
_GET_TABLE, _TABLE_NAME = 0xA01, 1
_GET_CHAIN, _CHAIN_TABLE, _CHAIN_NAME = 0xA04, 1, 3
_LAST_CHAIN = "forward"  # a table of an earlier Instar, without it, is made anew


@dataclass(frozen=True, kw_only=True, slots=True)
class Barrier:
    """A chain that drops forwarded packets unless a rule of its own accepts them. ``allow`` are commands."""

    what: str
    allow: tuple[str, ...]


def ensure_translation(table: str, network: IPv4Network, bridge: str) -> None:
    """Make the table that lets instances behind ``bridge`` speak to the world with this machine's address.

    A neighbour that takes this machine for the way to ``network`` gets no further: only answers are let through to
    them. Nothing happens where the table is there. Raises HostError, ComponentMissing.
    """
    if _has(_GET_CHAIN, {_CHAIN_TABLE: table, _CHAIN_NAME: _LAST_CHAIN}):
        return
    _nft(
        f"table ip {table}\n"
        f"delete table ip {table}\n"  # the line above lets it be there
        f"table ip {table} {{\n"
        f"  chain postrouting {{\n"
        f"    type nat hook postrouting priority 100; policy accept;\n"
        f"    ip saddr {network} ip daddr != {network} masquerade\n"
        f"  }}\n"
        f"  chain {_LAST_CHAIN} {{\n"
        f"    type filter hook forward priority 0; policy accept;\n"
        f'    oifname "{bridge}" iifname != "{bridge}" ct state established,related accept\n'
        f'    oifname "{bridge}" iifname != "{bridge}" drop\n'
        f"  }}\n"
        f"}}\n"
    )


def remove_translation(table: str) -> None:
    """Remove the table; one that isn't there is fine. Raises HostError."""
    if _has(_GET_TABLE, {_TABLE_NAME: table}):
        _nft(f"delete table ip {table}\n")


def barriers(bridge: str) -> tuple[Barrier, ...]:
    """Return the chains that drop what instances behind ``bridge`` send out. Raises HostError, ComponentMissing."""
    found = list(_nftables_barriers(bridge))
    found.extend(_legacy_barriers(bridge))
    return tuple(found)


def _nftables_barriers(bridge: str) -> Iterator[Barrier]:
    listing = process.run(["nft", "--json", "list", "chains"], timeout_s=_NFT_TIMEOUT_S, check=False)
    if listing.returncode != 0:
        return
    chains = [item["chain"] for item in json.loads(listing.stdout)["nftables"] if "chain" in item]
    for chain in chains:
        forwards = chain.get("hook") == "forward" and chain.get("family") in ("ip", "inet")
        if forwards and chain.get("policy") == "drop" and not _accepts(chain, bridge):
            yield _barrier(chain, _has_docker(chain, chains), bridge)


def _has_docker(chain: Mapping[str, Any], chains: list[dict[str, Any]]) -> bool:
    place = (chain["family"], chain["table"], "DOCKER-USER")
    return any((other["family"], other["table"], other["name"]) == place for other in chains)


def _accepts(chain: Mapping[str, Any], bridge: str) -> bool:
    listing = process.run(["nft", "list", "table", chain["family"], chain["table"]], check=False)
    lines = listing.stdout.decode(errors="replace").splitlines()
    return any(f'iifname "{bridge}"' in line and line.endswith("accept") for line in lines)


def _barrier(chain: Mapping[str, Any], docker: bool, bridge: str) -> Barrier:
    if chain["family"] == "ip" and chain["table"] == "filter" and process.find_program("iptables"):
        name = "DOCKER-USER" if docker else chain["name"]
        return Barrier(what="Docker" if docker else "a firewall", allow=_iptables("iptables", name, bridge))
    place = f"{chain['family']} {chain['table']} {chain['name']}"
    outbound = f"nft insert rule {place} iifname {bridge} accept"
    replies = f"nft insert rule {place} oifname {bridge} ct state established,related accept"
    return Barrier(what="a firewall", allow=(outbound, replies))


def _legacy_barriers(bridge: str) -> Iterator[Barrier]:
    program = "iptables-legacy"
    if not _uses_legacy() or process.find_program(program) is None:
        return
    rules = process.run([program, "-S"], check=False).stdout.decode(errors="replace").splitlines()
    accepted = any(f"-i {bridge} " in rule and rule.endswith("-j ACCEPT") for rule in rules)
    if "-P FORWARD DROP" in rules and not accepted:
        docker = "-N DOCKER-USER" in rules
        chain = "DOCKER-USER" if docker else "FORWARD"
        yield Barrier(what="Docker" if docker else "a firewall", allow=_iptables(program, chain, bridge))


def _uses_legacy() -> bool:
    try:
        return "filter" in _LEGACY_TABLES.read_text().split()
    except OSError:
        return False


def _iptables(program: str, chain: str, bridge: str) -> tuple[str, ...]:
    return (
        f"{program} -I {chain} -i {bridge} -j ACCEPT",
        f"{program} -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )


def _has(message: int, names: Mapping[int, str]) -> bool:
    """Ask the kernel itself: ``nft`` takes 20 ms. Source: linux/netfilter/nf_tables.h, nfnetlink.h"""
    body = struct.pack("=BBH", socket.AF_INET, 0, 0)
    for attribute, name in names.items():
        value = name.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(value), attribute) + value + bytes(-len(value) % 4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as kernel:
        kernel.send(struct.pack("=LHHLL", 16 + len(body), message, _REQUEST, 1, 0) + body)
        kind: int = struct.unpack_from("=LH", kernel.recv(4096))[1]
    return kind == message - 1  # what there is comes as if it were new


def _nft(rules: str) -> None:
    try:
        process.run(["nft", "-f", "-"], input=rules.encode(), timeout_s=_NFT_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(
            f"cannot set up address translation: nft: {error.output.strip().splitlines()[0]}",
            hint="instances need the kernel's nf_tables with masquerading; instar doctor shows what is missing",
        ) from error
