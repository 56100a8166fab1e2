"""The rules about instances, made by the real nft in a network of their own."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

pytestmark = pytest.mark.root

BEGIN = """
import subprocess
from ipaddress import IPv4Address, IPv4Network
from instar.host.network import firewall
from instar.host.network.firewall import Reach
from instar.host.network.redirects import redirects
from instar.model.environment import Allow, Network

A = Reach(network=Network(allow=(Allow(to="b/x"),)))
B = Reach(doors=("127.0.0.1:8443",))

def apply(places):
    firewall.apply("t1", IPv4Network("10.99.0.0/24"), "br9", "in-", "02:00:00:00:00:01", places)

def listed():
    return subprocess.run(["nft", "list", "table", "ip", "t1"], capture_output=True, text=True, check=True).stdout
"""


def alone(code: str) -> None:
    command = ["unshare", "-n", sys.executable, "-c", BEGIN + dedent(code)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_doors_of_an_environment_that_is_gone_are_shut_though_another_names_them() -> None:
    alone("""
        apply({"a/x": A, "b/x": B})
        assert "8443" in listed()
        firewall.forget("t1", "b/x")
        assert "@doors_b/x" in listed() and "8443" not in listed(), listed()
    """)


def test_only_environments_that_there_are_have_doors() -> None:
    alone("""
        apply({"a/x": A, "b/x": B})
        apply({"a/x": A})
        assert "@doors_b/x" in listed() and "8443" not in listed(), listed()
    """)


def test_chains_of_others_that_lead_to_each_other_are_taken_away() -> None:
    alone("""
        apply({"a/x": A})
        rules = "add chain ip t1 aaa\\nadd chain ip t1 bbb\\nadd rule ip t1 bbb jump aaa\\n"
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
        apply({"a/x": A})
        assert "aaa" not in listed() and "bbb" not in listed(), listed()
    """)


def test_a_rule_that_every_packet_comes_by_takes_everything() -> None:
    alone("""
        rules = "table ip t1 { chain pre { type nat hook prerouting priority -100; dnat to 10.88.0.1; }; }"
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
        (rule,) = redirects()
        told = "nftables ip t1 pre sends it elsewhere, to 10.88.0.1"
        assert rule.effect_on_listener(IPv4Address("127.0.0.1"), 4711) == told, rule
    """)
