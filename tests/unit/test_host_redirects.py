"""Rules that send packets elsewhere, as nft and iptables write them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from instar.host.kernel import namespaces
from instar.host.network.redirects import Redirect, redirects

TABLE = f"instar-test-{os.getpid()}".replace("-", "_")
RULES = """
  ip daddr 10.99.1.0/24 tcp dport 80 dnat to 10.88.0.9:81
  tcp dport 18443 redirect to :8080
  tcp dport 20000-20010 dnat to 10.88.0.7
  udp dport 18443 redirect to :5353
  iifname "eth9" redirect
  ip daddr 10.99.2.7 accept
"""

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def rules() -> Iterator[list[Redirect]]:
    chains = f"chain pre {{ type nat hook prerouting priority -100;\n{RULES}\n}}\nchain other {{\ndnat to 10.88.0.1\n}}"
    subprocess.run(["nft", "-f", "-"], input=f"table ip {TABLE} {{\n{chains}\n}}\n".encode(), check=True)
    try:
        yield [one for one in redirects() if one.where.startswith(f"nftables ip {TABLE} ")]
    finally:
        subprocess.run(["nft", "delete", "table", "ip", TABLE], check=True)


def doors(rules: list[Redirect], address: str, port: int) -> list[str]:
    return [told for one in rules if (told := one.effect_on_listener(IPv4Address(address), port)) is not None]


def hosts(rules: list[Redirect], address: str) -> list[str]:
    return [told for one in rules if (told := one.effect_on_host(IPv4Address(address))) is not None]


def test_what_is_meant_for_a_listener(rules: list[Redirect]) -> None:
    assert doors(rules, "127.0.0.1", 18_443) == [f"nftables ip {TABLE} pre sends it elsewhere"]
    assert doors(rules, "127.0.0.1", 20_005) == [f"nftables ip {TABLE} pre sends it elsewhere, to 10.88.0.7"]
    assert doors(rules, "0.0.0.0", 20_010) and not doors(rules, "127.0.0.1", 20_011)
    assert doors(rules, "10.99.1.3", 80) and not doors(rules, "10.99.3.3", 80) and not doors(rules, "127.0.0.1", 8080)


def test_what_is_meant_for_an_instance_and_what_is_sent_there(rules: list[Redirect]) -> None:
    assert hosts(rules, "10.99.1.200") == [f"nftables ip {TABLE} pre sends it elsewhere, to 10.88.0.9"]
    assert hosts(rules, "10.88.0.9") == [f"nftables ip {TABLE} pre sends here what was meant for others"]
    assert hosts(rules, "10.99.2.7") == []


def test_a_rule_that_others_lead_to_is_no_rule_for_everything(rules: list[Redirect]) -> None:
    """Such as Kubernetes and Docker have by the hundred."""
    assert not doors(rules, "127.0.0.1", 4711)


MEDDLERS = {
    "ip output ip daddr 10.99.7.7 ip daddr set 10.88.0.1": "writes over where it goes or comes from, to 10.88.0.1",
    "ip output ip daddr 10.99.7.7 tcp dport set 81": "writes over where it goes or comes from",
    "ip prerouting ip saddr 10.99.7.7 ip saddr set 10.88.0.1": "writes over where it goes or comes from",
    "ip output @nh,64,96 set 0": "writes over where it goes or comes from",
    "ip output ip daddr 10.99.7.0/24 dup to 10.88.0.1": "copies it",
    "ip prerouting ip saddr 10.99.7.7 notrack": "keeps its connection out of all account",
    'ip prerouting iifname "ivx7" notrack': "keeps its connection out of all account",
    "ip postrouting ip daddr 10.99.7.7 snat to 10.88.0.1": "gives it another sender",
    'ip postrouting oifname "ivx*" snat to 10.88.0.1': "gives it another sender",
    "ip output meta l4proto tcp dnat to 10.88.0.1": "sends it elsewhere, to 10.88.0.1",
    "ip output tcp dport 8080 dnat to 10.88.0.1": "sends it elsewhere, to 10.88.0.1",
    "bridge postrouting ether daddr 02:69:0a:63:07:07 ether daddr set 02:00:00:00:00:01": (
        "writes over where it goes or comes from"
    ),
    'netdev ingress dup to "lo"': "copies it",
    'netdev ingress ip daddr 10.99.7.7 fwd to "lo"': "sends it elsewhere",
}
HONEST = (
    'ip postrouting ip saddr 10.99.7.0/24 oifname "eth9" snat to 10.88.0.1',
    'ip prerouting iifname "ivx7" tcp dport 80 redirect to :3128',
    "ip prerouting tcp dport 8080 redirect to :18080",
    "ip output ip daddr 10.99.7.7 ip dscp set cs1",
    "ip output ip daddr 10.99.7.7 meta mark set 7",
    "ip output ip daddr 10.99.8.7 dup to 10.88.0.1",
    'ip postrouting oifname "ivy7" snat to 10.88.0.1',
    "ip output tcp dport 8081 dnat to 10.88.0.1",
    "ip output meta skuid 4711 notrack",
    "ip postrouting masquerade",
)
HOOKS = {
    "prerouting": "type filter hook prerouting priority -290",
    "output": "type filter hook output priority -290",
    "nat output": "type nat hook output priority -110",
    "nat prerouting": "type nat hook prerouting priority -110",
    "postrouting": "type nat hook postrouting priority 110",
    "bridge postrouting": "type filter hook postrouting priority 0",
    "ingress": "type filter hook ingress device ivx7 priority 0",
}


@pytest.fixture(scope="module")
def space() -> Iterator[Path]:
    name = f"instar-test-meddlers-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "ivx7", "type", "bridge"], check=True)
        yield Path("/run/netns", name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def told(space: Path, line: str) -> list[str]:
    """Return what is told of the one rule ``line`` for an instance at 10.99.7.7:8080 behind ivx7."""
    family, hook, rule = line.split(" ", 2)
    nat = "nat " if "dnat" in rule or "redirect" in rule else ""
    kind = HOOKS.get(f"{family} {hook}") or HOOKS[nat + hook]
    text = f"flush ruleset\ntable {family} evil {{ chain way {{ {kind};\n {rule}\n }}\n }}\n"
    subprocess.run(["ip", "netns", "exec", space.name, "nft", "-f", "-"], input=text.encode(), check=True)
    mac = bytes.fromhex("02690a630707")
    found = namespaces.inside(space, redirects)
    all_told = [one.effect_on_host(IPv4Address("10.99.7.7"), 8080, mac, ("ivx7", "inx")) for one in found]
    return [one.removeprefix(f"nftables {family} evil way ") for one in all_told if one is not None]


@pytest.mark.parametrize("line", MEDDLERS)
def test_whatever_meddles_with_an_instance_s_packets_is_told(space: Path, line: str) -> None:
    assert told(space, line) == [MEDDLERS[line]]


@pytest.mark.parametrize("line", HONEST)
def test_what_others_do_with_their_own_packets_is_not(space: Path, line: str) -> None:
    assert told(space, line) == []


def test_they_are_read_anew_when_anything_has_changed(rules: list[Redirect]) -> None:
    before = redirects()
    assert redirects() == before
    subprocess.run(["nft", "add", "rule", "ip", TABLE, "pre", "tcp", "dport", "4712", "redirect"], check=True)
    assert doors(list(redirects()), "127.0.0.1", 4712)
