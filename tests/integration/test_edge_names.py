"""The edge passes requests by name to each environment's own router."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld
from router_world import until

from instar.host.processes import processes
from instar.model.environment import HostNames

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path)
    yield made
    made.end()


def test_requests_go_by_name_and_by_the_longest_path(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test", "www.a.test")))
    world.open(BLOG, HostNames(http=("b.test", "a.test/blog")))
    assert world.get("a.test").body == b"shop"
    assert world.get("A.Test:80").body == b"shop"
    assert world.get("a.test.").body == b"shop"
    assert world.get("www.a.test", "/blog").body == b"shop"
    assert world.get("b.test").body == b"blog"
    for path in ("/blog", "/blog/", "/blog?x=1", "/blog/a/b"):
        assert world.get("a.test", path).body == b"blog", path
    for path in ("/", "/blogs", "/x/blog", "/BLOG"):
        assert world.get("a.test", path).body == b"shop", path


def test_who_asks_for_an_unknown_name_learns_nothing(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test/shop",)))
    for host, path in (("b.test", "/"), ("a.test", "/"), ("x.a.test", "/shop"), ("127.0.0.1", "/")):
        answer = world.get(host, path)
        assert (answer.status, answer.body) == (404, b"nothing here by that name\n")
    assert world.raw("GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert world.raw("GET http://a.test/shop HTTP/1.1\r\nHost: b.test\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    found = world.raw("GET http://a.test/shop HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
    assert found.endswith(b"shop")
    tunnel = "CONNECT a.test:80 HTTP/1.1\r\nConnection: close\r\nHost: a.test:80\r\n\r\n"
    assert world.raw(tunnel).startswith(b"HTTP/1.1 405 ")


def test_nobody_can_say_where_he_comes_from(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    said = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X_Forwarded_For": "6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "Client-Cert": ":AAAA:",
        "Proxy": "6.6.6.6",
        "Connection": "X-Forwarded-For, X-Forwarded-Proto",
    }
    seen = world.get("a.test", "/echo", headers=said).body.decode().lower()
    assert "6.6.6.6" not in seen
    assert "client-cert" not in seen
    assert "x-forwarded-for: 127.0.0.1\r\n" in seen
    assert "x-forwarded-proto: http\r\n" in seen
    assert "x-forwarded-host: a.test\r\n" in seen
    assert f"x-forwarded-port: {world.http}\r\n" in seen


def test_a_name_moves_without_losing_a_request(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test", "shop.test")))
    world.open(BLOG, HostNames(http=("b.test",)), expected=("a.test",))
    assert world.get("a.test").body == b"shop"
    world.expose(SHOP, HostNames(http=("shop.test",)))  # it stays where it is, as the other can't serve it yet
    assert world.get("a.test").body == b"shop"
    world.expose(BLOG, HostNames(http=("b.test", "a.test")))
    assert world.get("a.test").body == b"blog"
    passed = world.edge.passed(SHOP)
    assert passed is not None
    assert passed.names.sites == ("shop.test",)
    assert passed.leaving.sites == ()


def test_the_edge_and_its_holder_survive_being_killed(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    record = world.edge.files.record()
    assert record is not None
    os.kill(record.haproxy.pid, signal.SIGKILL)
    until(lambda: (now := world.edge.files.record()) is not None and now.haproxy != record.haproxy)
    assert world.get("a.test").body == b"shop"
    os.kill(record.process.pid, signal.SIGKILL)
    until(lambda: world.edge.files.record() is None)
    assert world.get("a.test").body == b"shop"
    assert world.edge.passed(SHOP) is None  # so that the next visit brings a holder back
    world.expose(SHOP, HostNames(http=("a.test",)))
    after = world.edge.files.record()
    assert after is not None
    assert world.get("a.test").body == b"shop"


def test_killing_a_router_refuses_nobody(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    [haproxy] = world.router._proxy(SHOP).haproxies()
    os.kill(haproxy.pid, signal.SIGKILL)
    assert world.get("a.test").body == b"shop"


def test_the_edge_goes_with_the_last_environment(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    world.open(BLOG, HostNames(http=("b.test",)))
    record = world.edge.files.record()
    assert record is not None
    world.provider.close(SHOP)
    assert world.get("a.test").status == 404
    assert world.get("b.test").body == b"blog"
    assert world.edge.files.record() == record
    world.provider.close(BLOG)
    assert not processes.lives(record.haproxy)
    assert not processes.lives(record.process)
    assert not world.edge.files.directory.exists()
    assert not (world.state.run / "edge").exists()


def test_nobody_else_comes_to_the_routers_sockets(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    door = world.router._proxy(SHOP).door
    assert (door / "door.sock").stat().st_mode & 0o777 == 0o600
    assert door.stat().st_mode & 0o777 == 0o710
    assert world.edge.files.root.stat().st_mode & 0o007 == 0
