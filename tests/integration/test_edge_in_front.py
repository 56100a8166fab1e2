"""A load balancer in front of the edge says who asks, and nobody else can: a real HAProxy passes connections on."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from edge_world import SHOP, EdgeWorld, certificate
from router_world import until

from free_ports import free_port
from instar.model.host_names import HostNames
from instar.model.machine import EdgeSettings
from instar.providers.local.edge import LocalEdge

pytestmark = pytest.mark.root

NAMES = HostNames(https=("a.test",), http=("b.test",))
BALANCER, CLIENT = "127.0.0.9", "127.0.0.5"
PASSES_ON = """\
defaults
  mode tcp
  timeout connect 2s
  timeout client 20s
  timeout server 20s
listen http
  bind 127.0.0.1:{http}
  server edge 127.0.0.1:{to_http} source {source} {word}
listen https
  bind 127.0.0.1:{https}
  server edge 127.0.0.1:{to_https} source {source} {word}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path_factory.mktemp("edge"))
    believes(made, BALANCER)
    made.edge.serve(certificate(made.state.root, "a.test"))
    made.open(SHOP, NAMES)
    yield made
    made.end()


def believes(world: EdgeWorld, *networks: str) -> None:
    """Have the machine's file say whom its edge believes."""
    listen = {"http": (f"127.0.0.1:{world.http}",), "https": (f"127.0.0.1:{world.https}",)}
    world.edge = LocalEdge(world.state, world.id, EdgeSettings(**listen, accept_proxy=networks))
    world.provider = replace(world.provider, edge=world.edge)


@contextmanager
def balancer(world: EdgeWorld, word: str, source: str = BALANCER) -> Iterator[tuple[int, int]]:
    """Run a load balancer before the edge; yield its ports of http and https."""
    http, https = free_port(), free_port()
    file = world.state.root / "balancer.cfg"
    to = {"to_http": world.http, "to_https": world.https}
    file.write_text(PASSES_ON.format(http=http, https=https, source=source, word=word, **to))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: reached(http))
        yield http, https
    finally:
        process.terminate()
        process.wait()


def reached(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def ask(name: str, scheme: str, port: int, *words: str, source: str = CLIENT) -> str:
    """Return what the service was sent, in small letters; nothing when it was not reached."""
    argv = ["curl", "-sk", "--noproxy", "*", "--max-time", "10", "--interface", source, *words]
    argv += [
        "--resolve",
        f"{name}:{port}:127.0.0.1",
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        f"{scheme}://{name}:{port}/echo",
    ]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.lower()


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2"])
def test_a_load_balancer_says_who_asks(world: EdgeWorld, word: str) -> None:
    with balancer(world, word) as (http, https):
        seen = ask("b.test", "http", http)
        assert f"x-forwarded-for: {CLIENT}\n" in seen and "6.6.6.6" not in seen
        assert f"x-forwarded-port: {http}\n" in seen, "the port that the client came to"
        for version in ("--http1.1", "--http2"):
            seen = ask("a.test", "https", https, version)
            assert f"x-forwarded-for: {CLIENT}\n" in seen and "x-forwarded-proto: https\n" in seen
    assert ask("b.test", "http", world.http, "--haproxy-protocol", source=BALANCER), "a client that speaks it itself"
    assert world.edge.inspect() == ()


def test_nobody_else_can_say_who_he_is(world: EdgeWorld) -> None:
    assert f"x-forwarded-for: {CLIENT}\n" in ask("b.test", "http", world.http)
    assert ask("a.test", "https", world.https)
    with balancer(world, "send-proxy-v2", source="127.0.0.8") as (http, https):
        assert "x-forwarded" not in ask("b.test", "http", http)
        assert ask("a.test", "https", https) == ""
    assert "x-forwarded" not in ask("b.test", "http", world.http, "--haproxy-protocol")
    for scheme, port, name in (("http", world.http, "b.test"), ("https", world.https, "a.test")):
        assert ask(name, scheme, port, source=BALANCER) == "", "it has to begin with the header"


def test_the_machines_file_says_anew_whom_the_edge_believes(world: EdgeWorld) -> None:
    believes(world)
    assert world.edge.passed(SHOP) is None, "so that the next visit sees to it"
    world.expose(SHOP, NAMES)
    assert world.edge.passed(SHOP) is not None and world.edge.inspect() == ()
    assert ask("b.test", "http", world.http, source=BALANCER)
    believes(world, BALANCER, "127.0.0.5")
    world.expose(SHOP, NAMES)
    assert ask("b.test", "http", world.http) == ""
    assert ask("b.test", "http", world.http, "--haproxy-protocol")
    believes(world, BALANCER)
    world.expose(SHOP, NAMES)
