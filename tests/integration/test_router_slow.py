"""Who sends slowly is not waited for, and a stream may be silent for longer than a request."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from accepting import Accepting
from body_server import Sender, Sink, chunk
from edge_world import SHOP, EdgeWorld
from h2_peers import ENDED, Caller, EchoServer
from router_world import ENV, World, until

from instar.model.host_names import HostNames
from instar.model.requests import Requests

pytestmark = pytest.mark.root

WITHIN_MS = 1_500
HURRIED = Requests(body_within_ms=WITHIN_MS)
LARGE = 200_000  # more than the router keeps


def trickle(one: Sender, data: bytes, every_s: float = 0.1) -> tuple[int, bytes, float]:
    """Send it again and again until there is an answer, or the other side takes no more; return it, and when."""
    began, ended = time.monotonic(), threading.Event()

    def send() -> None:
        while not ended.wait(every_s) and one.send(data):
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    status, body = one.answer()
    ended.set()
    thread.join()
    return status, body, time.monotonic() - began


@pytest.mark.thorough
def test_a_head_that_does_not_come_gets_408(here: World, sink: Sink) -> None:
    here.serve(sink.target)
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n")
        began, text = time.monotonic(), b""
        client.settimeout(0.3)
        while not text and time.monotonic() - began < 15:
            with suppress(OSError):
                client.sendall(b"X-A: b\r\n")
                text = client.recv(65_536)
    assert text.startswith(b"HTTP/1.1 408 ") and 9 < time.monotonic() - began < 14
    assert sink.asked == 0


@pytest.mark.parametrize("head", ["Content-Length: 20000", "Transfer-Encoding: chunked"])
def test_a_small_body_that_comes_slowly_is_nobodys_but_the_routers(here: World, sink: Sink, head: str) -> None:
    here.serve(sink.target, requests=HURRIED)
    with Sender(here.address, head) as slow:
        part = chunk(b"x") if "chunked" in head else b"x"
        status, _, took_s = trickle(slow, part)
        assert status == 408 and WITHIN_MS / 1000 - 0.1 < took_s < WITHIN_MS / 1000 + 1
    assert sink.asked == 0, "no instance has heard of it"
    with Sender(here.address, "Content-Length: 20000", "Expect: 100-continue") as quick:
        time.sleep(WITHIN_MS / 3000)
        quick.send(b"x" * 20_000)
        assert quick.answer() == (200, b"20000")
    assert here.router.counters(ENV).failed == 0 and here.router.inspect(ENV) == ()


@pytest.mark.parametrize("head", [f"Content-Length: {10 * LARGE}", "Transfer-Encoding: chunked"])
def test_a_large_body_that_comes_slowly_is_ended(here: World, sink: Sink, head: str) -> None:
    here.serve(sink.target, requests=HURRIED)
    with Sender(here.address, head) as slow:
        chunked = "chunked" in head
        slow.send(chunk(b"x" * LARGE) if chunked else b"x" * LARGE)
        until(lambda: sink.asked == 1)
        status, _, took_s = trickle(slow, chunk(b"x") if chunked else b"x")
        assert status == 408 and took_s < WITHIN_MS / 1000 + 1
    until(lambda: sink.cut)
    assert sink.bodies == []
    with Sender(here.address, f"Content-Length: {10 * LARGE}") as quick:
        quick.send(b"x" * 10 * LARGE)
        assert quick.answer() == (200, b"%d" % (10 * LARGE))


def test_a_slow_body_that_comes_by_name_is_ended_too(tmp_path: Path, sink: Sink) -> None:
    here = EdgeWorld(tmp_path)
    try:
        here.expose(SHOP, HostNames(http=("shop.test",)), requests=HURRIED)
        here.send_to(sink.target, SHOP)
        with Sender(("127.0.0.1", here.http), "Content-Length: 20000") as slow:
            status, _, took_s = trickle(slow, b"x")
        assert status == 408 and took_s < WITHIN_MS / 1000 + 1
        assert sink.asked == 0
    finally:
        here.end()


class Events(Accepting):
    """A server of events: one at once, and one after each silence of ``silent_s``."""

    def __init__(self, silent_s: float) -> None:
        self._silent_s = silent_s
        super().__init__("events")

    def answer(self, connection: socket.socket) -> None:
        head = connection.recv(65_536)
        if b"/healthz" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        chunked = b"Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + chunked)
        for number in range(3):
            connection.sendall(chunk(b"data: %d\n\n" % number))
            time.sleep(self._silent_s if number < 2 else 0)
        connection.sendall(chunk(b""))


def events(address: tuple[str, int], *heads: str) -> bytes:
    with socket.create_connection(address, timeout=20) as client:
        lines = "".join(f"{head}\r\n" for head in ("Host: shop.test", "Connection: close", *heads))
        client.sendall(f"GET /events HTTP/1.1\r\n{lines}\r\n".encode())
        text = b""
        while part := client.recv(65_536):
            text += part
    return text


@pytest.mark.thorough
def test_a_stream_of_events_may_be_silent_for_longer_than_a_request(tmp_path: Path) -> None:
    served, here = Events(silent_s=2.5), EdgeWorld(tmp_path)
    times = {"request_timeout_ms": 1_000, "stream_timeout_ms": 5_000}
    asked = "Accept: text/event-stream"
    try:
        here.serve(served.target, request_timeout_ms=1_000)
        assert b"data: 1" not in events(here.address, asked), "as it was"
        here.router.ensure(here.plan(**times))
        assert events(here.address, asked).count(b"data: ") == 3
        assert events(here.address, "Accept: text/html, Text/Event-Stream;q=0.9").count(b"data: ") == 3
        assert b"data: 1" not in events(here.address, "Accept: */*"), "of any other request"
        here.expose(SHOP, HostNames(http=("shop.test",)), **times)
        here.send_to(served.target, SHOP)
        assert events(("127.0.0.1", here.http), asked).count(b"data: ") == 3
        assert here.router.inspect(ENV) == here.router.inspect(SHOP) == ()
    finally:
        here.end()
        served.close()


@pytest.mark.parametrize("requests", [Requests(), Requests(largest_body_bytes=1 << 20, body_within_ms=1_000)])
def test_a_call_may_be_silent_for_longer_than_a_request(here: World, requests: Requests) -> None:
    """Of both sides: the client sends a message, is answered, and says nothing for a while."""
    server = EchoServer()
    times = {"request_timeout_ms": 1_000, "stream_timeout_ms": 5_000}
    try:
        here.serve(server.target, protocol="h2", health_path=None, requests=requests, **times)
        with Caller(here.address) as caller:
            answer = caller.call("/shop.Orders/Watch", [b"a", b"b"], pause_s=2.5)
            assert (answer.data, answer.trailers, answer.reset) == (b"ab", dict([ENDED]), False)
        here.router.ensure(here.plan(protocol="h2", health_path=None, requests=requests, request_timeout_ms=1_000))
        with Caller(here.address) as caller:
            answer = caller.call("/shop.Orders/Watch", [b"a", b"b"], pause_s=2.5)
            assert answer.trailers != dict([ENDED]), "without it, a call is a request like any other"
    finally:
        server.close()
