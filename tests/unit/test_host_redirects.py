"""Rules that send packets elsewhere, as nft and iptables write them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from instar.host.redirects import Redirect, redirects

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
    return [told for one in rules if (told := one.told_of_door(IPv4Address(address), port)) is not None]


def hosts(rules: list[Redirect], address: str) -> list[str]:
    return [told for one in rules if (told := one.told_of_host(IPv4Address(address))) is not None]


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


def test_they_are_read_anew_when_anything_has_changed(rules: list[Redirect]) -> None:
    before = redirects()
    assert redirects() == before
    subprocess.run(["nft", "add", "rule", "ip", TABLE, "pre", "tcp", "dport", "4712", "redirect"], check=True)
    assert doors(list(redirects()), "127.0.0.1", 4712)
