"""What else on this machine drops packets of instances: a running Docker, a firewall of somebody's.

A packet must be accepted by every chain that sees it, so nothing in Instar's own tables (``firewall.py``) can undo
another's drop: it is found and said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instar import process
from instar.frozen import dataclass

_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_NFT_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Barrier:
    """A chain that drops forwarded packets unless a rule of its own accepts them. ``allow`` are commands."""

    what: str
    allow: tuple[str, ...]


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
