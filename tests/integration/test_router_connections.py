"""Connections to instances: each its own, or kept as long as the service says; no request lost, none sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping

import closing_server
import pytest
from h2_peers import ENDED, Caller, EchoServer
from router_world import ENV, World, until

from instar.providers.router_state import Target

pytestmark = pytest.mark.root


@contextlib.contextmanager
def started(idle_s: float) -> Iterator[int]:
    """Start a server that closes idle connections; yield its port."""
    program = [sys.executable, closing_server.__file__, str(idle_s)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@contextlib.contextmanager
def closing(here: World, idle_s: float, **changes: object) -> Iterator[int]:
    """Route to such a server."""
    with started(idle_s) as port:
        here.serve(at("closing", port), **changes)
        yield port


def at(name: str, port: int) -> Target:
    return Target(name=name, address="127.0.0.1", port=port)


def ask(here: World, count: int) -> list[str]:
    """Post one after the other; return what was lost."""
    return asyncio.run(closing_server.post(here.address[1], 1, 1, count, 0.0))


def sessions(here: World) -> Mapping[str, int]:
    return {one.target.name: one.sessions for one in here.router.observe(ENV).targets}


def counted(port: int) -> Mapping[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=20) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def posted(
    here: World, idle_s: float, clients: int, waves: int, each: int, **changes: object
) -> tuple[list[str], Mapping[str, int]]:
    with closing(here, idle_s, **changes) as port:
        lost = asyncio.run(closing_server.post(here.address[1], clients, waves, each, idle_s))
        return lost, counted(port)


def test_no_request_is_lost_to_a_server_that_closes_and_none_is_sent_twice(here: World) -> None:
    lost, found = posted(here, 1.0, clients=100, waves=5, each=3, keep_alive_ms=1_000)
    assert lost == []
    assert (found["posts"], found["distinct"]) == (1_500, 1_500)
    assert found["connections"] < 1_000, "they are used again"


@pytest.mark.long
@pytest.mark.parametrize("keep_alive_ms", [0, 1_000])
def test_none_of_a_hundred_thousand_is_lost_or_sent_twice(here: World, keep_alive_ms: int) -> None:
    lost, found = posted(here, 1.0, clients=200, waves=50, each=10, keep_alive_ms=keep_alive_ms)
    assert lost == []
    assert (found["posts"], found["distinct"]) == (100_000, 100_000)
    assert (found["connections"] == 100_000) == (keep_alive_ms == 0)


@pytest.mark.long
def test_a_server_that_closes_sooner_than_it_says_loses_requests(here: World) -> None:
    """So these are the moments in which requests are lost."""
    lost, found = posted(here, 1.0, clients=100, waves=20, each=3, keep_alive_ms=60_000)
    assert len(lost) > 20
    assert found["posts"] == found["distinct"] == 6_000 - len(lost), "none is sent again, as nobody knows"


def test_idle_connections_are_nobodys_requests(here: World) -> None:
    """A server that they were opened to has drained, also while the HAProxy that opened them is retired; and who sits
    in its slot next gets its own."""
    changes = {"keep_alive_ms": 60_000}
    with closing(here, 30.0, **changes) as first, started(30.0) as second, started(30.0) as third:
        assert ask(here, 20) == []
        assert sessions(here) == {"closing": 0}
        here.router.attach(ENV, [at("second", second)])
        here.router.route(ENV, {"second": 100})
        assert ask(here, 20) == []
        assert sessions(here) == {"closing": 0, "second": 0}
        with contextlib.closing(here.client()) as kept:
            assert kept.get("/count")[0] == 200
            here.router.ensure(here.plan(**changes, request_timeout_ms=9_000))
            assert len(here.haproxies()) == 2, "it goes on for who is connected to it"
            until(lambda: sessions(here) == {"closing": 0, "second": 0})  # which closes those that it needs no more
            assert len(here.haproxies()) == 2
        assert here.router.detach(ENV, ["closing"]) == 0
        here.router.attach(ENV, [at("third", third)])
        here.router.route(ENV, {"third": 100})
        assert ask(here, 20) == []
        assert [counted(port)["posts"] for port in (first, second, third)] == [20, 20, 20]
        assert counted(third)["connections"] < 20
        assert here.router.inspect(ENV) == ()


@contextlib.contextmanager
def echoing(here: World, **changes: object) -> Iterator[EchoServer]:
    """Route to a server that speaks HTTP/2 alone."""
    server = EchoServer()
    try:
        here.serve(server.target, protocol="h2", health_path=None, **changes)
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("keep_alive_ms", [0, 20_000])
def test_a_grpc_service_is_spoken_to_in_http_2_with_its_streams_and_trailers(here: World, keep_alive_ms: int) -> None:
    with echoing(here, keep_alive_ms=keep_alive_ms) as server:
        for _ in range(3):
            with Caller(here.address) as caller:
                for _ in range(5):
                    answer = caller.call("/shop.Cart/Watch", [b"one", b"two", b"three" * 2_000])
                    assert (answer.headers[":status"], answer.trailers) == ("200", dict([ENDED]))
                    assert answer.data == b"onetwo" + b"three" * 2_000
        assert server.calls == {"/shop.Cart/Watch": 15}
        assert server.refused == 0
        said = server.seen[-1]
        assert (said["te"], said["x-forwarded-for"], said[":authority"]) == ("trailers", "127.0.0.1", "shop.example")
        if keep_alive_ms:
            assert server.connections < 5
        else:
            assert server.connections == 15
            until(lambda: server.open == 0)
        assert sessions(here) == {"echo": 0}


def test_a_preview_of_a_grpc_service_is_spoken_to_in_http_2_too(here: World) -> None:
    with echoing(here, preview="header", keep_alive_ms=20_000) as server, Caller(here.address) as caller:
        here.router.preview(ENV, {8: "echo"})
        here.router.route(ENV, {})
        assert caller.call("/a/B", [b"x"], ("x-instar-release", "8")).data == b"x"
        assert caller.call("/a/B", [], ("x-instar-release", "7")).headers[":status"] == "404"
        assert server.calls == {"/a/B": 1}
