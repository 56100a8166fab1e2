"""The edge passes requests by name to each environment's own router."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld
from router_world import until

from free_ports import free_port
from instar.host.processes import processes
from instar.model.host_names import HostNames
from instar.model.machine import EdgeSettings
from instar.model.release import EnvironmentId
from instar.providers.local.edge import LocalEdge

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


def test_a_host_is_a_name_and_nothing_else(world: EdgeWorld) -> None:
    """A path in it would lead past the paths that an environment has, and what goes before it into a redirect."""
    world.open(SHOP, HostNames(http=("a.test",), https=("*.b.test",)))
    world.open(BLOG, HostNames(http=("a.test/blog",)))
    for host in (
        "a.test/blog",
        "evil/.b.test",
        "evil@x.b.test",
        "a.test,a.test",
        "a%2etest",
        '"a.test"',
        "[::1]/a.test",
    ):
        found = world.raw(f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400 "), (host, found)
        assert b"location" not in found
    both = world.raw("GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nConnection: close\r\n\r\n")
    assert both.startswith(b"HTTP/1.1 400 ")
    assert world.get("my_x.b.test").status == 308


def test_nobody_climbs_out_of_the_path_that_an_environment_has(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test", "s.test/only")))
    world.open(BLOG, HostNames(http=("a.test/blog", "b.test")))
    for path in (
        "/..",
        "/../x",
        "/a/../../x",
        "/%2e%2E/x",
        "/.%2e/x",
        "/..;/x",
        "/..;x=1/x",
        "/..%2fx",
        "/x%2f..",
        "/\\..\\x",
    ):
        assert world.get("a.test", f"/blog{path}").status == 400, path
        assert world.get("s.test", f"/only{path}").status == 400, path
        assert world.get("b.test", f"/blog{path}").body == b"blog"  # all of it is its own
        assert world.get("a.test", f"/x{path}?blog/../").body == b"shop"
    for path in ("/...", "/..x", "/x..", "/x?y=/../", "/.", "/%2e"):
        assert world.get("a.test", f"/blog{path}").body == b"blog", path


def test_the_file_of_names_has_no_line_that_is_too_long_to_be_one(world: EdgeWorld) -> None:
    """HAProxy takes what is beyond its buffer for an entry of its own."""
    many = tuple(f"{number}.{'long-' * 8}name.test" for number in range(900))
    world.open(SHOP, HostNames(http=(*many, "a.test")))
    assert len(world.edge.files.names.read_text()) > 3 * 16_384
    world.open(BLOG, HostNames(http=("b.test",)))
    assert world.get("b.test").body == b"blog"
    assert world.get(many[-1]).body == b"shop"
    record = world.edge.files.record()
    assert record is not None
    os.kill(record.haproxy.pid, signal.SIGKILL)
    until(lambda: (now := world.edge.files.record()) is not None and now.haproxy != record.haproxy)
    world.expose(BLOG, HostNames(http=("b.test", "c.test")))
    assert world.get("c.test").body == b"blog"
    assert world.edge.inspect() == ()


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


def test_the_umask_of_whoever_opens_it_makes_no_difference(world: EdgeWorld) -> None:
    before = os.umask(0o077)
    try:
        world.open(SHOP, HostNames(http=("a.test",)))
    finally:
        os.umask(before)
    assert world.get("a.test").body == b"shop"
    assert world.edge.files.root.stat().st_mode & 0o777 == 0o710


def test_nobody_has_all_connections_for_himself(world: EdgeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.router.edge.config.MOST_OF_ONE", 3)
    world.open(SHOP, HostNames(http=("a.test",)))

    def come(source: str) -> list[socket.socket]:
        """Open five connections that say nothing."""
        for _ in range(5):
            held.append(one := socket.socket())
            one.settimeout(5)
            one.bind((source, 0))
            with contextlib.suppress(ConnectionResetError):
                one.connect(("127.0.0.1", world.http))
        return held[-5:]

    held: list[socket.socket] = []
    try:
        for source in ("127.0.0.1", "127.0.0.2"):
            came = come(source)
            until(lambda came=came: sum(map(_is_open, came)) == 3)
            assert sum(map(_is_open, came)) == 3
    finally:
        for one in held:
            one.close()
    until(lambda: world.edge.haproxy.statistics()["http", "FRONTEND"]["scur"] == "0")
    assert world.get("a.test").body == b"shop"


def _is_open(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_requests_wait_and_go_over_to_another_router(world: EdgeWorld) -> None:
    """Also where the edge is the only way in: a request that a retired router holds goes through its door again."""
    names = HostNames(http=("a.test",))
    world.expose(SHOP, names, wait_ms=20_000)
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(world.get("a.test", "/echo").body))
    client.start()
    try:
        until(lambda: int(world.router._proxy(SHOP).statistics()["door", "FRONTEND"]["scur"]) == 1)
        before = world.router._proxy(SHOP).haproxies()
        world.expose(SHOP, names, wait_ms=20_000, request_timeout_ms=9_000)
        assert len(world.router._proxy(SHOP).haproxies()) == 2  # the old one holds it
        backend = world.backend("shop")
        world.router.attach(SHOP, [backend.target])
        world.router.route(SHOP, {"shop": 100})
    finally:
        client.join()
    assert b"x-forwarded-for: 127.0.0.1\r\n" in answers[0].lower()
    assert before
    until(lambda: len(world.router._proxy(SHOP).haproxies()) == 1)


def test_requests_through_the_edge_are_counted(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)), listen=(f"{world.address[0]}:{world.address[1]}",))
    for _ in range(3):
        assert world.get("a.test").status == 200
    assert world.client().get()[0] == 200
    counters = world.router.counters(SHOP)
    assert (counters.requests, counters.failed) == (4, 0)
    [target] = world.router.observe(SHOP).targets
    assert target.served.requests == 4


def test_a_preview_by_header_comes_through_the_edge(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)), preview="header")
    new = world.backend("new")
    world.router.attach(SHOP, [new.target])
    world.router.preview(SHOP, {7: "new"})
    assert world.get("a.test", headers={"X-Instar-Release": "7"}).body == b"new"
    assert world.get("a.test", headers={"X-Instar-Release": "8"}).status == 404
    assert world.get("a.test").body == b"shop"


def test_more_environments_than_the_edge_had_room_for(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    record = world.edge.files.record()
    others = [EnvironmentId(service=f"s{number}", name="dev") for number in range(64)]
    for other in others[:-1]:
        world.edge.ensure(world.named(other, HostNames(http=(f"{other.service}.test",))))
    assert world.edge.files.record() == record
    world.edge.ensure(world.named(others[-1], HostNames(http=("last.test",))))
    assert world.edge.files.record() != record
    assert world.get("a.test").body == b"shop"
    assert world.get("last.test").status == 503
    for other in others:
        world.edge.remove(other)


def test_other_addresses_of_the_machine_follow_without_losing_a_name(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    before, world.http = world.http, free_port()
    listen = EdgeSettings(http=(f"127.0.0.1:{world.http}",), https=(f"127.0.0.1:{world.https}",))
    world.edge = LocalEdge(world.state, world.id, listen)
    world.provider = replace(world.provider, edge=world.edge)
    assert world.edge.passed(SHOP) is None  # so that the next visit sees to it
    world.expose(SHOP, HostNames(http=("a.test",)))
    assert world.edge.passed(SHOP) is not None
    assert world.get("a.test").body == b"shop"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", before), timeout=5)
