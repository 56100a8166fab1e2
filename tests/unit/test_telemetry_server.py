"""The metrics' server: what it answers, and what it does not let be done to it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator

import pytest

from instar.errors import HostError
from instar.telemetry import server as room
from instar.telemetry.server import MetricsServer, listen_at


@contextlib.contextmanager
def serving(text: object = b"instar_environments 1\n", **options: float) -> Iterator[MetricsServer]:
    def page() -> bytes:
        if isinstance(text, Exception):
            raise text
        assert isinstance(text, bytes)
        return text

    made = MetricsServer(listen_at("127.0.0.1", 0), page, **options)
    try:
        yield made
    finally:
        made.close()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Content-Type")
    finally:
        connection.close()


def test_metrics_are_served_as_prometheus_expects_them() -> None:
    with serving() as server:
        status, body, kind = get(server.port, "/metrics?x=1")
    assert (status, body) == (200, b"instar_environments 1\n")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


def test_health_is_that_a_pass_was_made_lately() -> None:
    with serving(alive_within_s=60) as server:
        assert get(server.port, "/healthz")[:2] == (200, b"ok\n")
    with serving(alive_within_s=-1) as server:
        status, body, _ = get(server.port, "/healthz")
        assert status == 503 and body.startswith(b"no pass for 0 s")


def test_a_beat_makes_it_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(room.time, "monotonic", lambda: now)
    with serving(alive_within_s=60) as server:
        now = 161.0
        assert server._page("/healthz") == (503, b"no pass for 61 s\n")
        server.beat()
        assert server._page("/healthz") == (200, b"ok\n")


def test_nothing_else_is_there_and_nothing_can_be_done() -> None:
    with serving() as server:
        assert get(server.port, "/")[0] == 404
        assert get(server.port, "/metrics", "POST")[0] == 501


def test_what_fails_says_so_and_the_next_is_answered() -> None:
    with serving(ValueError("of the house")) as server:
        assert get(server.port, "/metrics")[:2] == (500, b"ValueError\n")
        assert get(server.port, "/healthz")[0] == 200


def test_a_request_that_is_too_large_gets_no_metrics_and_holds_up_nobody() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
        with contextlib.suppress(OSError):
            one.sendall(b"GET /" + b"x" * 100_000)
        with contextlib.suppress(ConnectionResetError):
            assert b" 200 " not in one.recv(1000)
        assert get(server.port, "/metrics")[0] == 200


def test_clients_that_drip_are_cut_in_all_not_by_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_TIMEOUT_S", 0.5)
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as one:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                one.sendall(b"G")
                with contextlib.suppress(TimeoutError):
                    if not one.recv(1000):
                        break
        assert time.monotonic() - began < 5
        assert get(server.port, "/metrics")[0] == 200


def test_only_a_handful_is_served_at_once_and_places_come_free() -> None:
    with serving() as server:
        with contextlib.ExitStack() as held:
            idle = [
                held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
                for _ in range(room._AT_ONCE)
            ]
            beyond = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            assert beyond.recv(1) == b"", "it is turned away at once"
            idle[0].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert idle[0].recv(12) == b"HTTP/1.0 200"
        _until_answered(server.port)


def _until_answered(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            assert get(port, "/metrics")[0] == 200
            return
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < deadline, "the environments were not given back"


def test_no_resolver_is_asked_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> str:
        raise AssertionError("it may wait for ever")

    monkeypatch.setattr(socket, "getfqdn", hang)
    with serving() as server:
        assert get(server.port, "/metrics")[0] == 200


def test_a_taken_port_says_how_to_find_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=rf"cannot serve metrics on '127\.0\.0\.1:{port}'") as caught:
            listen_at("127.0.0.1", port)
    assert caught.value.hint == (
        f"'ss -ltnp sport = :{port}' shows which process has the port; end it, or choose another address with --metrics"
    )


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(HostError, match=r"cannot serve metrics on '192\.0\.2\.1:9464'"):
        listen_at("192.0.2.1", 9464)
