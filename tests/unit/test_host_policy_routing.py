"""Where rules of routing lead packets that they pick out, in a network namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from instar.host.kernel import namespaces
from instar.host.network import network_outside
from instar.host.network.policy_routing import strays

pytestmark = pytest.mark.root

SPACE = f"instar-test-rules-{os.getpid()}"
SOURCES = [IPv4Network("10.99.0.0/24")]


@pytest.fixture
def space() -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        ip("link add br0 type bridge", "link add vpn0 type bridge", "address add 10.99.0.1/24 dev br0")
        ip("link set lo up", "link set br0 up", "link set vpn0 up", "route add default dev vpn0")
        yield SPACE
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=True)


def ip(*lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", "-n", SPACE, *line.split()], check=True)


def astray(address: str = "10.99.0.3") -> str | None:
    def look() -> str | None:
        names = {link.number: name for name, link in network_outside.links().items()}
        found = strays({"x": IPv4Address(address)}, "br0", SOURCES, names)
        return f"{found['x'].rule}: {found['x'].way}" if found else None

    return namespaces.inside(Path("/run/netns", SPACE), look)


@pytest.mark.parametrize(
    "rule",
    [
        "ipproto tcp dport 8080 to 10.99.0.3",
        "uidrange 100-120",
        "fwmark 7",
        "iif lo",
        "iif br0",
        "from 10.99.0.1",
        "tos 0x10",
        "not fwmark 9",
        "not to 10.1.0.0/16 fwmark 8",
        "not to 10.99.0.3 fwmark 8",
    ],
)
def test_what_picks_out_packets_for_another_way_is_found(space: str, rule: str) -> None:
    ip("route add 10.99.0.3/32 dev vpn0 table 77", f"rule add {rule} lookup 77 pref 500")
    assert astray() == "500: vpn0"
    assert astray("10.99.0.4") is None, "the table has no route there"


@pytest.mark.parametrize("what", ["blackhole", "unreachable", "prohibit"])
def test_what_picks_out_packets_to_drop_is_found(space: str, what: str) -> None:
    ip(f"rule add fwmark 7 {what} pref 500")
    assert astray() == f"500: nowhere ({what})"


def test_a_leap_over_the_rule_for_all_is_followed(space: str) -> None:
    ip("route add 10.99.0.3/32 dev vpn0 table 77", "rule add pref 40000 lookup 77")
    assert astray() is None, "nothing comes so far"
    ip("rule add fwmark 7 pref 500 goto 40000")
    assert astray() is None, "what all take there is told by the kernel"
    ip("rule add fwmark 7 pref 39000 lookup 77", "rule add fwmark 7 pref 501 goto 39000")
    assert astray() == "39000: vpn0"


@pytest.mark.parametrize(
    "rules",
    [
        (),
        # wg-quick
        ("rule add not fwmark 51820 lookup 77 pref 501", "rule add lookup main suppress_prefixlength 0 pref 500"),
        # tailscale, beside a table that leads everything there
        ("rule add fwmark 8 lookup main pref 500", "rule add fwmark 8 unreachable pref 501"),
        # a second provider
        ("rule add from 192.0.2.0/24 lookup 77 pref 500", "rule add iif vpn0 lookup 77 pref 501"),
        ("rule add to 198.51.100.0/24 fwmark 7 lookup 77 pref 500", "rule add oif vpn0 lookup 77 pref 501"),
        ("rule add fwmark 7 lookup 78 pref 500", "route add throw 10.99.0.0/24 table 78"),
        ("rule add not to 10.0.0.0/8 lookup 77 pref 500", "rule add fwmark 7 lookup 77 pref 40000"),
    ],
)
def test_the_usual_rules_of_others_are_fine(space: str, rules: tuple[str, ...]) -> None:
    ip("route add default dev vpn0 table 77", *rules)
    assert astray() is None
