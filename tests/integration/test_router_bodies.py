"""A body is as large as it may be at the most, however it is sent, and no part of a larger one is taken for one."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from body_server import Sender, Sink, chunk
from edge_world import SHOP, EdgeWorld
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived
from router_world import ENV, World, until

from instar.model.host_names import HostNames
from instar.model.requests import Requests
from instar.providers.router_state import Target
from instar.router import bodies

pytestmark = pytest.mark.root

LARGEST = 100_000
LIMITED = Requests(largest_body_bytes=LARGEST)


def send(address: tuple[str, int], length: int, *heads: str) -> tuple[int, bytes]:
    with Sender(address, f"Content-Length: {length}", *heads) as one:
        one.send(b"x" * length)
        return one.answer()


def send_chunks(address: tuple[str, int], length: int, size: int, *heads: str) -> tuple[int, bytes]:
    """Send a body without saying its length beforehand."""
    with Sender(address, "Transfer-Encoding: chunked", *heads) as one:
        for start in range(0, length, size):
            if not one.send(chunk(b"x" * min(size, length - start))):
                break
        else:
            one.send(chunk(b""))
        return one.answer()


def send_http_2(address: tuple[str, int], length: int, *heads: tuple[str, str], say: int | None = None) -> str:
    """Send a body over HTTP/2; return the status."""
    speaking, left = H2Connection(H2Configuration(header_encoding="utf-8")), length
    with socket.create_connection(address, timeout=20) as connection:
        speaking.initiate_connection()
        said = [] if say is None else [("content-length", str(say))]
        names = [(":method", "POST"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")]
        speaking.send_headers(1, [*names, *said, *heads])
        while True:
            while room := min(speaking.local_flow_control_window(1), speaking.max_outbound_frame_size, left):
                left -= room
                speaking.send_data(1, b"x" * room, end_stream=not left and say in (None, length))
            connection.sendall(speaking.data_to_send())
            text = connection.recv(65_536)
            assert text, "the connection ended without an answer"
            for event in speaking.receive_data(text):
                if isinstance(event, ResponseReceived):
                    return dict(event.headers)[":status"]


@pytest.mark.parametrize("wait_ms", [0, 5_000])
def test_no_body_is_larger_than_it_may_be(here: World, sink: Sink, wait_ms: int) -> None:
    here.serve(sink.target, requests=LIMITED, wait_ms=wait_ms)
    assert send(here.address, LARGEST) == (200, b"100000")
    assert send_chunks(here.address, LARGEST, 7_000) == send_chunks(here.address, LARGEST, 99_999) == (200, b"100000")
    assert send_http_2(here.address, LARGEST) == "200"
    assert sink.bodies == [LARGEST] * 4

    assert send(here.address, LARGEST + 1) == (413, b"the body is too long\n")
    assert send_http_2(here.address, LARGEST + 1, say=LARGEST + 1) == "413"
    assert sink.asked == 4, "no instance hears of what says that it is too long"
    for size in (1, 7_000, LARGEST + 1):
        status, _ = (
            send_chunks(here.address, LARGEST + 1, size) if size > 1 else send_chunks(here.address, 10**6, 5_000)
        )
        assert status == 413
    assert send_http_2(here.address, LARGEST + 1) == "413"
    until(lambda: len(sink.cut) >= sink.asked - 4)
    assert sink.bodies == [LARGEST] * 4 and max(sink.cut, default=0) <= LARGEST
    assert here.router.counters(ENV).failed == 0, "what a client does wrong is nobody's failure"
    assert send(here.address, 5, "Expect: 100-continue") == (200, b"5")
    assert here.router.inspect(ENV) == ()


def test_what_is_too_long_by_its_own_word_is_read_for_a_while(
    here: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its sender sees the answer: at once, and whatever he sends; but nobody keeps a connection by it."""
    monkeypatch.setattr(bodies, "TEXT", bodies.TEXT.replace("LINGER_MS = 10000", "LINGER_MS = 1000"))
    here.serve(sink.target, requests=LIMITED)
    with Sender(here.address, f"Content-Length: {LARGEST + 1}") as one:
        assert one.answer() == (413, b"the body is too long\n"), "before its body"
        assert one.send(b"x" * (LARGEST + 1))
        one.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert one.answer() == (200, b"0"), "the connection can be used again"
    with Sender(here.address, f"Content-Length: {LARGEST * 1_000}") as one:
        assert one.answer()[0] == 413
        began = time.monotonic()
        while one.send(b"x" * LARGEST):
            assert time.monotonic() - began < 20
            time.sleep(0.01)
    assert sink.asked == 1 and here.router.counters(ENV).failed == 0, "what is thrown away is nobody's"


@pytest.mark.parametrize("length", [2**31 + 1, 2**32 + 1, 2**32 + LARGEST, 10**15])
def test_a_length_of_more_than_32_bits_is_too_long_too(here: World, sink: Sink, length: int) -> None:
    here.serve(sink.target, requests=LIMITED)
    with Sender(here.address, f"Content-Length: {length}") as one:
        one.send(b"x")
        assert one.answer() == (413, b"the body is too long\n")
    assert send_http_2(here.address, 1, say=length) == "413"
    assert sink.asked == 0


def test_what_is_no_body_is_not_counted(here: World) -> None:
    """A WebSocket may carry any amount, and so may an answer."""
    listening = socket.create_server(("127.0.0.1", 0))
    got = []

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            head = connection.recv(65_536)
            if b"websocket" not in head:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.close()
                continue
            accepted = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            connection.sendall(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + accepted + b"\r\n")
            while sum(got) < 5 * LARGEST:
                got.append(len(connection.recv(65_536)))
            connection.sendall(b"y" * 5 * LARGEST)
            connection.close()
            return

    threading.Thread(target=serve, daemon=True).start()
    here.serve(Target(name="socket", address="127.0.0.1", port=listening.getsockname()[1]), requests=LIMITED)
    with socket.create_connection(here.address, timeout=20) as client:
        asked = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n{asked}\r\n".encode())
        assert client.recv(65_536).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"x" * 5 * LARGEST)
        back = 0
        while part := client.recv(65_536):
            back += len(part)
    listening.close()
    assert (sum(got), back) == (5 * LARGEST, 5 * LARGEST)


def test_a_request_whose_body_is_counted_waits_for_an_instance_too(here: World, sink: Sink) -> None:
    here.serve(sink.target, requests=LIMITED, wait_ms=20_000)
    here.router.detach(ENV, ["sink"])
    answers: list[tuple[int, bytes]] = []
    bodies_of = (lambda: send(here.address, 5), lambda: send_chunks(here.address, 5, 5))
    clients = [threading.Thread(target=lambda ask=ask: answers.append(ask())) for ask in 4 * bodies_of]
    for client in clients:
        client.start()
    try:
        until(lambda: int(here.router._proxy(ENV).statistics()["public", "FRONTEND"]["scur"]) == len(clients))
        assert answers == []
        here.send_to(sink.target)
    finally:
        for client in clients:
            client.join()
    assert answers == [(200, b"5")] * len(clients)
    assert send(here.address, LARGEST + 1)[0] == 413


def test_it_comes_goes_and_changes_without_losing_a_request(here: World, sink: Sink) -> None:
    here.start("a")
    with here.load() as load:
        for requests in (LIMITED, Requests(largest_body_bytes=1024), Requests()):
            here.router.ensure(here.plan(requests=requests))
            load.wait(100)
            assert (send(here.address, 2_000)[0] == 413) == (requests.largest_body_bytes == 1024)
    assert load.failures == []


def test_a_changed_script_is_found_and_put_right(here: World, sink: Sink) -> None:
    here.serve(sink.target, requests=LIMITED)
    assert here.router.inspect(ENV) == ()
    script = here.directory / bodies.SCRIPT
    script.write_text(bodies.TEXT.replace("self.seen > self.largest", "false"))
    (found,) = here.router.inspect(ENV)
    assert found.path.startswith("body.lua, line ") and "self.largest" in (found.expected or "")
    script.unlink()
    (found,) = here.router.inspect(ENV)
    assert (found.path, found.observed) == ("body.lua", "it is gone")
    here.router.restore(here.plan(requests=LIMITED), [sink.target])
    assert here.router.inspect(ENV) == () and script.read_text() == bodies.TEXT


def test_requests_that_come_by_name_are_counted_too(tmp_path: Path, sink: Sink) -> None:
    here = EdgeWorld(tmp_path)
    try:
        here.expose(SHOP, HostNames(http=("shop.test",)), requests=LIMITED)
        here.send_to(sink.target, SHOP)
        edge = ("127.0.0.1", here.http)
        until(lambda: send(edge, 5)[0] == 200)
        assert send(edge, LARGEST) == (200, b"100000")
        asked = sink.asked
        for length in (LARGEST + 1, *([20 * LARGEST] * 20)):
            assert send(edge, length) == (413, b"the body is too long\n")
        assert send(edge, LARGEST + 1, "Expect: 100-continue")[0] == 413
        assert sink.asked == asked
        assert send_chunks(edge, LARGEST, 5_000) == (200, b"100000")
        for _ in range(5):  # the router ends the connection while the edge still sends, and it may not hear why
            assert send_chunks(edge, 10 * LARGEST, 5_000)[0] in (413, 0)
        assert max(sink.bodies) == LARGEST and max(sink.cut) <= LARGEST
        assert here.router.inspect(SHOP) == ()
    finally:
        here.end()
