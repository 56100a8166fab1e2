"""A websocket that is closed is read from by nobody any more: its descriptor's number is another connection's next."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading

from instar.providers.kubernetes.client import Client
from instar.waiting import Deadline, until

_AT_WORK = 5  # two threads of its own, and three that wait for them, one of which reads
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # Source: RFC 6455, 1.3


def _take_and_be_silent(listening: socket.socket, over: threading.Event) -> None:
    connection, _ = listening.accept()
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        lines = dict(line.split(b": ", 1) for line in request.lower().split(b"\r\n") if b": " in line)
        key = request[request.lower().index(b"sec-websocket-key: ") + 19 :].split(b"\r\n")[0]
        accepted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        assert lines[b"upgrade"] == b"websocket"
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        connection.sendall(answer + b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n")
        over.wait(10)


def test_nobody_reads_from_a_websocket_that_is_closed() -> None:
    before, over = set(threading.enumerate()), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=_take_and_be_silent, args=(listening, over))
        server.start()
        with Client() as client, client.websocket(f"ws://127.0.0.1:{listening.getsockname()[1]}/exec"):
            found = until(lambda: len(set(threading.enumerate()) - before - {server}) >= _AT_WORK, Deadline.after(10))
            assert found, "nobody reads"
        assert until(lambda: not set(threading.enumerate()) - before - {server}, Deadline.after(2))
        over.set()
        server.join(10)
