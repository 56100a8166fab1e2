"""What an open connection would be refused for, told without asking the kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from instar.host.network.firewall import Reach
from instar.host.network.network_view import Connection
from instar.model.environment import Allow, Network
from instar.providers.local.cuts import Whereabouts, allowed

WHERE = Whereabouts(
    own=frozenset({IPv4Address("192.0.2.1"), IPv4Address("10.99.0.1")}),
    instances={IPv4Address("10.99.0.7"): "db/dev", IPv4Address("10.99.0.8"): "web/dev"},
    doors={"db/dev": ("0.0.0.0:5432", "192.0.2.1:6432")},
    network=IPv4Network("10.99.0.0/20"),
)
SERVERS = {IPv4Address("192.0.2.1"), IPv4Address("169.254.169.253")}


def permitted(to: str, *allow: Allow) -> bool:
    protocol, _, rest = to.partition(" ")
    address, _, port = rest.partition(":")
    one = Connection(protocol=protocol, own_port=40_000, address=IPv4Address(address), port=int(port))
    return allowed(one, Reach(network=Network(allow=allow)), WHERE, SERVERS)


@pytest.mark.parametrize(
    "to", ["tcp 203.0.113.9:443", "udp 192.0.2.77:9", "udp 192.0.2.1:53", "tcp 169.254.169.253:53"]
)
def test_the_world_and_name_servers_are_open(to: str) -> None:
    assert permitted(to)


@pytest.mark.parametrize(
    "to", ["tcp 192.0.2.1:22", "tcp 10.99.0.1:80", "tcp 10.99.0.7:5432", "tcp 169.254.169.254:80", "udp 10.99.0.1:53"]
)
def test_all_else_is_closed(to: str) -> None:
    assert not permitted(to)


@pytest.mark.parametrize(
    ("to", "entry", "open_"),
    [
        ("tcp 192.0.2.1:22", Allow(to="machine"), True),
        ("tcp 192.0.2.1:22", Allow(to="machine", ports=("22/tcp",)), True),
        ("udp 192.0.2.1:22", Allow(to="machine", ports=("22/tcp",)), False),
        ("tcp 10.99.0.7:5432", Allow(to="machine"), False),
        ("tcp 10.99.0.7:5432", Allow(to="db/dev"), True),
        ("tcp 10.99.0.8:5432", Allow(to="db/dev"), False),
        ("tcp 10.99.0.7:5432", Allow(to="db/dev", ports=("5433/tcp",)), False),
        ("tcp 10.99.0.1:5432", Allow(to="db/dev"), True),
        ("tcp 192.0.2.1:6432", Allow(to="db/dev"), True),
        ("tcp 10.99.0.1:6432", Allow(to="db/dev"), False),
        ("udp 10.99.0.1:5432", Allow(to="db/dev"), False),
        ("tcp 10.99.0.1:5432", Allow(to="web/dev"), False),
        ("tcp 169.254.169.254:80", Allow(to="169.254.169.254/32", ports=("80/tcp",)), True),
        ("tcp 169.254.169.254:81", Allow(to="169.254.169.254/32", ports=("80/tcp",)), False),
    ],
)
def test_an_entry_opens_what_it_names(to: str, entry: Allow, open_: bool) -> None:
    assert permitted(to, entry) is open_
