"""Health checks against real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from instar.host.processes import processes
from instar.model.definition import Health
from instar.providers.base import Probe
from instar.providers.local import health

HTTP = Health(kind="http", path="/healthz", timeout_ms=300)


@contextlib.contextmanager
def serving(answer: bytes | None, address: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """Answer one connection with ``answer``; None: take it and say nothing."""
    seen: list[bytes] = []
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                seen.append(connection.recv(4096))
                if answer is None:
                    connection.recv(1)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], seen
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
        (b"HTTP/1.0 399 Well\r\n\r\n", ""),
        (b"HTTP/1.1 204\r\n\r\n", ""),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "GET /healthz answered 500"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "GET /healthz answered 404"),
        ("HTTP/1.1 \u00b2 OK\r\n\r\n".encode("latin-1"), "GET /healthz was answered with something that is not HTTP"),
        (b"HTTP/1.1 " + b"2" * 5000 + b"\r\n\r\n", "GET /healthz was answered with something that is not HTTP"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 100\r\n\r\nHTTP/1.1 103 X\nA: b\n\nHTTP/1.1 503 No\r\n\r\n", "GET /healthz answered 503"),
        (b"HTTP/1.1 103 X\r\n\r\nSSH-2.0\r\n", "GET /healthz was answered with something that is not HTTP"),
        (b"HTTP/1.1 103 X\r\n\r\n", "GET /healthz was answered with something that is not HTTP"),
        (b"HTTP/1.1 103 X\r\nA: b\r\n", "GET /healthz answered 103"),
        (b"HTTP/1.1 102 X\r\n\r\n" * 9_000 + b"HTTP/1.1 200 OK\r\n\r\n", "GET /healthz answered 102"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "GET /healthz answered 101"),
        (b"SSH-2.0-OpenSSH\r\n", "GET /healthz was answered with something that is not HTTP"),
        (b"", "GET /healthz was answered with something that is not HTTP"),
        (None, "GET /healthz did not answer within 0.3 s"),
    ],
)
def test_http(answer: bytes | None, cause: str) -> None:
    with serving(answer) as (port, seen):
        assert health.ask_http("127.0.0.1", port, HTTP) == Probe(healthy=not cause, cause=cause)
    assert seen[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: instar\r\n")


def test_the_host_of_a_request_is_that_of_the_definition() -> None:
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as (port, seen):
        assert health.ask_http("127.0.0.1", port, replace(HTTP, host="example.org:8443")).healthy
    assert b"\r\nHost: example.org:8443\r\n" in seen[0]


def test_an_interim_answer_may_come_in_pieces_before_the_final_one() -> None:
    text = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(4096)
                for at in range(len(text)):
                    connection.sendall(text[at : at + 1])

        thread = threading.Thread(target=serve)
        thread.start()
        assert health.ask_http("127.0.0.1", server.getsockname()[1], replace(HTTP, timeout_ms=5_000)).healthy
        thread.join(5)


def test_an_answer_without_end_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            with server.accept()[0] as connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not ended.wait(0.01):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        watchdog = threading.Timer(60, ended.set)
        watchdog.start()
        began = time.monotonic()
        assert health.ask_http("127.0.0.1", server.getsockname()[1], HTTP).healthy
        assert time.monotonic() - began < 30
        ended.set()
        watchdog.cancel()
        thread.join()


def test_a_port_that_nobody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cause = f"connection refused on port {port}"
    assert health.ask_http("127.0.0.1", port, HTTP).cause == cause
    assert health.ask_tcp("127.0.0.1", port, Health(kind="tcp")).cause == cause


def test_tcp_needs_only_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert health.ask_tcp("127.0.0.1", server.getsockname()[1], Health(kind="tcp")).healthy


@pytest.mark.parametrize(
    ("family", "address", "shown"),
    [
        (socket.AF_INET, "127.0.0.7", "127.0.0.7"),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0"),
        (socket.AF_INET6, "::", "[::]"),
        (socket.AF_INET6, "::1", "[::1]"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_listeners_are_shown_as_people_write_them(family: socket.AddressFamily, address: str, shown: str) -> None:
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        found = health.listening(os.getpid())
        assert found is not None
        assert (shown, server.getsockname()[1]) in found


def test_the_listeners_of_nobody_are_not_known() -> None:
    assert health.listening(2**22 + 1) is None


def test_a_listener_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Probe(healthy=False, cause="connection refused on port 80")
    process = processes.identify(os.getpid())
    assert process is not None

    def explained(*listeners: tuple[str, int]) -> str:
        monkeypatch.setattr(health, "listening", lambda pid: listeners)
        return health.explain(refused, process, 80).cause

    assert explained() == "connection refused on port 80: nothing listens inside yet"
    assert explained(("127.0.0.1", 80)) == (
        "nothing listens on port 80; the service listens on 127.0.0.1:80, "
        "which cannot be reached from outside: make it 0.0.0.0"
    )
    assert explained(("0.0.0.0", 8000)) == "nothing listens on port 80; the service listens on 0.0.0.0:8000"
    assert explained(("0.0.0.0", 80), ("127.0.0.1", 9)) == refused.cause
