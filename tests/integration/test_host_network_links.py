"""Bridge, links, translation and firewalls, in a network namespace that plays this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from instar.errors import HostError
from instar.host.kernel import namespaces
from instar.host.network import barriers, firewall, network
from instar.host.network.firewall import Reach
from instar.host.network.guests import Guest

pytestmark = pytest.mark.root
INSIDE, WORLD = IPv4Network("10.99.0.0/20"), IPv4Network("198.51.100.0/24")
INSTANCE, SERVER = IPv4Address("10.99.0.9"), IPv4Address("198.51.100.9")
BRIDGE, TABLE, PLACE = "inbridge", "instar_test", "tiny/dev"

# what an Instar had that let all instances talk to one another
EARLIER = f"""
table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {INSIDE} ip daddr != {INSIDE} masquerade
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    oifname "{BRIDGE}" iifname != "{BRIDGE}" ct state established,related accept
    oifname "{BRIDGE}" iifname != "{BRIDGE}" drop
  }}
}}
"""


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    made = (f"instar-test-{os.getpid()}-instance", f"instar-test-{os.getpid()}-world")
    yield made
    for name in made:
        namespaces.drop_network(name)


def apply() -> None:
    gateway = network.mac(network.gateway(INSIDE).ip).hex(":")
    firewall.apply(TABLE, INSIDE, BRIDGE, "iv", gateway, {PLACE: Reach()})


def on_another_machine(action: Callable[[], None]) -> None:
    namespaces.in_new_network(action)


def _connected(instance: str, world: str) -> Callable[[], str | None]:
    """Join an instance and a world to this machine; return what connects them and says who the world saw."""
    for name in (instance, world):
        namespaces.make_network(name)
    network.ensure_bridge(BRIDGE, INSIDE)
    apply()
    guest = Guest(
        link="ivone", mtu=1500, mac=network.mac(INSTANCE).hex(), address=str(INSTANCE), servers=(), environment=PLACE
    )
    network.connect(TABLE, BRIDGE, namespaces.name_path(instance), guest, INSIDE)
    outer = network.gateway(WORLD)
    script = f"""
        ip link add outer type veth peer name eth0 netns {world}
        ip addr add {outer} dev outer && ip link set outer up
        ip -n {world} addr add {SERVER}/24 dev eth0 && ip -n {world} link set eth0 up
        ip -n {world} route add default via {outer.ip}
    """
    subprocess.run(["sh", "-ec", script], check=True)
    server = namespaces.inside(namespaces.name_path(world), lambda: socket.create_server((str(SERVER), 80)))

    def connect() -> str | None:
        with contextlib.suppress(HostError):  # no answer in time
            client = namespaces.inside(
                namespaces.name_path(instance), lambda: socket.create_connection((str(SERVER), 80), timeout=1.5)
            )
            with client:
                connection, (address, _) = server.accept()
                connection.close()
                return str(address)
        return None

    return connect


def test_what_leaves_has_this_machines_address(names: tuple[str, str]) -> None:
    def act() -> None:
        connect = _connected(*names)
        apply()
        assert network.bridge_is_up(BRIDGE, INSIDE)
        assert connect() == str(network.gateway(WORLD).ip)
        firewall.remove(TABLE)
        firewall.remove(TABLE)
        assert connect() == str(INSTANCE)

    on_another_machine(act)


def test_a_neighbour_reaches_no_instance_past_the_router(names: tuple[str, str]) -> None:
    instance, world = map(namespaces.name_path, names)

    def act() -> None:
        connect = _connected(*names)
        server = namespaces.inside(instance, lambda: socket.create_server((str(INSTANCE), 80)))
        ask = lambda: socket.create_connection((str(INSTANCE), 80), timeout=0.5).close()  # noqa: E731
        firewall.remove(TABLE)
        namespaces.inside(world, ask)
        subprocess.run(["nft", "-f", "-"], input=EARLIER.encode(), check=True)
        apply()
        with pytest.raises(HostError, match="timed out"):
            namespaces.inside(world, ask)
        ask()
        assert connect() == str(network.gateway(WORLD).ip)
        server.close()

    on_another_machine(act)


@pytest.mark.parametrize(
    "rules",
    [
        [["iptables", "-P", "FORWARD", "DROP"]],
        [["iptables", "-N", "DOCKER-USER"], ["iptables", "-I", "FORWARD", "-j", "DOCKER-USER"],
         ["iptables", "-P", "FORWARD", "DROP"]],
        [["nft", "add table inet guard"],
         ["nft", "add chain inet guard pass { type filter hook forward priority 0; policy drop; }"]],
    ],
)  # fmt: skip
def test_a_firewall_in_the_way_is_found_and_can_be_passed(names: tuple[str, str], rules: list[list[str]]) -> None:
    def act() -> None:
        connect = _connected(*names)
        assert barriers.barriers(BRIDGE) == ()
        for rule in rules:
            subprocess.run(rule, check=True)
        (barrier,) = barriers.barriers(BRIDGE)
        assert barrier.what == ("Docker" if len(rules) == 3 else "a firewall")
        assert connect() is None
        for command in barrier.allow:
            subprocess.run(command.split(), check=True)
        assert barriers.barriers(BRIDGE) == ()
        assert connect() == str(network.gateway(WORLD).ip)

    on_another_machine(act)


def test_a_subnet_that_is_taken_is_not_chosen() -> None:
    def act() -> None:
        first = network.choose(None, seed=7)
        assert network.choose(None, seed=7) == first
        network.ensure_bridge(BRIDGE, first)
        assert network.choose(None, seed=7) != first
        assert network.overlap(first, BRIDGE) is None
        with pytest.raises(HostError, match=f"cannot use the subnet '{first}': {first} is reached through {BRIDGE}"):
            network.choose(str(first), seed=7)
        second = network.choose(None, seed=8, spared=[])
        assert network.choose(None, seed=8, spared=[second[5]]) != second

    on_another_machine(act)


def test_a_broken_subnet_is_named() -> None:
    for text, cause in (
        ("10.0.0.0/8", "its prefix must be"),
        ("10.0.0.1/20", "has host bits set"),
        ("here", "Expected 4"),
    ):
        with pytest.raises(HostError, match=f"cannot use the subnet '{text}': .*{cause}"):
            network.choose(text, seed=0)


def test_packets_are_as_long_as_the_way_to_the_world_takes_them() -> None:
    def act() -> None:
        assert network.mtu() == 1500, "there is no way"
        for number, (link, mtu, metric) in enumerate((("slow", 1400, 100), ("fast", 9000, 50), ("off", 576, 0)), 1):
            script = f"""
                ip link add {link} mtu {mtu} type veth peer name {link}p && ip addr add 192.0.2.{number}/32 dev {link}
                ip link set {link} up && ip route add default dev {link} metric {metric} {"table 9" * (not metric)}
            """
            subprocess.run(["sh", "-ec", script], check=True)
            assert network.mtu() == {"slow": 1400, "fast": 9000, "off": 9000}[link]

    on_another_machine(act)


def test_the_folder_of_the_names_is_mounted_once() -> None:
    """However often a name is made in it: each time more would double what is mounted in it."""
    for number in range(3):
        namespaces.make_network(f"instar-once-{number}")
    try:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        assert points.count("/run/netns") == 1
        assert points.count("/run/netns/instar-once-1") == 1
    finally:
        for number in range(3):
            namespaces.drop_network(f"instar-once-{number}")
