"""Fragments of packets are kept by this machine for everybody, and filled by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from test_local_network import datagram, inside, mac, send, serve, web
from tiny_world import TinyWorld

from instar.host.network import guests, network
from instar.model.release import Instance

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path)
    yield made
    made.close()


def kept_fragments() -> int:
    words = Path("/proc/net/sockstat").read_text().partition("FRAG: inuse ")[2].split()
    return int(words[0])


def test_who_makes_packets_himself_has_no_fragments_kept_for_him(world: TinyWorld) -> None:
    """This machine keeps those of a datagram until it is whole, and has room for some hundreds of them for all."""
    crafter, other = serve(world, "web", 1), serve(world, "web", 2, capabilities=())
    gateway = str(network.gateway(world.runtime.network()).ip)

    def begin(instance: Instance) -> int:
        before, own, to = kept_fragments(), mac(world, instance), network.mac(IPv4Address(gateway))
        for number in range(1, 31):
            first = datagram(to, own, world.address(instance), gateway, 53, number=number, part=0x2000)
            inside(world, instance, lambda first=first: send(first))
        return kept_fragments() - before

    assert begin(crafter) <= 0 < begin(other), "what a kernel divides itself passes"
    for one in (crafter, other):
        world.destroy(one, web(world, "web"))
    assert guests.strangers(f"instar_{world.id}", ()) == ()
