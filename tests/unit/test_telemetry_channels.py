"""Channels, with real programs and real servers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.errors import UsageError
from instar.telemetry.channels import Command, Undelivered, Webhook

BODY = b'{"kind": "alarm"}'


@contextlib.contextmanager
def server(answer: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """Take one connection after the other; ``answer`` gets each with what was sent on it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    answer(connection, _request(connection))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _request(connection: socket.socket) -> bytes:
    got = b""
    while not got.endswith(BODY):
        more = connection.recv(65536)
        if not more:
            break
        got += more
    return got


def reply(status: str, got: list[bytes] | None = None, header: str = "") -> Callable[[socket.socket, bytes], None]:
    def answer(connection: socket.socket, request: bytes) -> None:
        if got is not None:
            got.append(request)
        connection.sendall(f"HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\n\r\n".encode())

    return answer


def test_a_webhook_gets_the_body_as_json() -> None:
    got: list[bytes] = []
    with server(reply("204 No Content", got)) as port:
        Webhook(f"http://127.0.0.1:{port}/hook?key=%20x").send(BODY)
    head, _, body = got[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?key=%20x HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert body == BODY


@pytest.mark.parametrize("status", ["500 No", "404 Not Found", "304 Not Modified"])
def test_another_answer_than_2xx_is_not_delivered(status: str) -> None:
    with server(reply(status)) as port, pytest.raises(Undelivered, match=rf"127.0.0.1 answered {status[:3]}"):
        Webhook(f"http://127.0.0.1:{port}/").send(BODY)


def test_no_redirect_is_followed() -> None:
    got: list[bytes] = []
    with server(reply("200 OK", got)) as other:
        header = f"Location: http://127.0.0.1:{other}/\r\n"
        with server(reply("307 Go", header=header)) as port, pytest.raises(Undelivered, match="answered 307"):
            Webhook(f"http://127.0.0.1:{port}/").send(BODY)
    assert got == []


def test_nobody_there_and_a_connection_that_is_cut_are_not_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Undelivered, match=r"127\.0\.0\.1: .*refused"):
        Webhook(f"http://127.0.0.1:{port}/").send(BODY)
    with server(lambda connection, request: None) as port, pytest.raises(Undelivered):
        Webhook(f"http://127.0.0.1:{port}/").send(BODY)


def test_an_answer_that_never_ends_is_cut_in_all_not_by_the_byte() -> None:
    def drip(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        closed = threading.Event()
        while not closed.wait(0.02):
            connection.sendall(b"x")

    with server(drip) as port:
        began = time.monotonic()
        with pytest.raises(Undelivered, match=r"did not end within 0\.5 s"):
            Webhook(f"http://127.0.0.1:{port}/", timeout_s=0.5).send(BODY)
        assert time.monotonic() - began < 5


def test_the_cause_names_the_host_and_no_more_of_the_address() -> None:
    with server(reply("403 No")) as port, pytest.raises(Undelivered) as caught:
        Webhook(f"http://127.0.0.1:{port}/services/T0/secret?token=hunter2").send(BODY)
    assert str(caught.value) == "127.0.0.1 answered 403"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://somewhere/",
        "somewhere",
        "http://",
        "http:///path",
        "http://[::1",
        "http://host:port/",
        "http://host:99999/",
        "http://me:word@host/",
        "http://host/ü",
        "http://host/a b",
        "http://host/\x7f",
        f"http://{'a' * 64}.example/",
    ],
)
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="cannot notify"):
        Webhook(url)


def test_a_word_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        Webhook("https://me:hunter2@host/")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "notify"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return os.fspath(path)


def test_a_command_gets_the_body_and_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    Command([script(tmp_path, f'cat > "{tmp_path}/$1"; echo "$SECRET" > "{tmp_path}/env"'), "body"]).send(BODY)
    assert (tmp_path / "body").read_bytes() == BODY
    assert (tmp_path / "env").read_text() == "\n"


def test_a_command_runs_in_no_folder_of_the_caller_s_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        Command([script(tmp_path, f'{{ pwd; umask; }} > "{tmp_path}/where"')]).send(BODY)
    finally:
        os.umask(before)
    assert (tmp_path / "where").read_text().split() == ["/", "0022"]


def test_a_command_that_reads_nothing_is_fine(tmp_path: Path) -> None:
    Command([script(tmp_path, "exit 0")]).send(b"x" * 1_000_000)


def test_a_command_that_fails_or_is_not_there_is_not_delivered(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="exit status 3: no network"):
        Command([script(tmp_path, "echo no network >&2; exit 3")]).send(BODY)
    with pytest.raises(Undelivered, match="cannot run"):
        Command([f"{tmp_path}/nothing"]).send(BODY)
    unfit = tmp_path / "unfit"
    unfit.write_text("no program")
    with pytest.raises(Undelivered):
        Command([os.fspath(unfit)]).send(BODY)


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match=r"no end after 0\.2 s"):
        Command([script(tmp_path, "exec sleep 60")], timeout_s=0.2).send(BODY)
