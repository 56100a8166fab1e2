"""A server that reads the bodies of requests and says how long they were, and clients that send them as they like."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from accepting import Accepting


class Sink(Accepting):
    """``bodies``: the lengths of all that came whole; ``cut``: what came of those that did not."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        self.cut: list[int] = []
        self.asked = 0
        super().__init__("sink")

    def answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n")) if stream.peek(1) else b""
            if not head or b"/healthz" in head:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if head else b"")
                return
            self.asked += 1
            length, whole = 0, True
            for expected, got in _parts(head.lower(), stream):  # type: ignore[arg-type]
                length, whole = length + got, whole and got == expected
            (self.bodies if whole else self.cut).append(length)
            if whole:
                said = str(length).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))


def _parts(head: bytes, stream: socket.SocketIO) -> Iterator[tuple[int, int]]:
    """Yield how long each part of a body has to be, and how long it is."""
    if b"transfer-encoding: chunked" not in head:
        lengths = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        yield from ((length, _read(stream, length)) for length in lengths)
        return
    while line := stream.readline():
        expected = int(line, 16)
        yield expected, _read(stream, expected)
        if not stream.readline() or not expected:
            return
    yield 1, 0  # it ended without its end


def _read(stream: socket.SocketIO, length: int) -> int:
    got = 0
    while got < length and (part := stream.read(min(65_536, length - got))):
        got += len(part)
    return got


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Sender:
    """One connection, over which a request is sent bit by bit."""

    def __init__(self, address: tuple[str, int], *heads: str, source: str | None = None) -> None:
        self._socket = socket.create_connection(address, timeout=20, source_address=(source, 0) if source else None)
        self.send("".join(f"{line}\r\n" for line in ("POST / HTTP/1.1", "Host: shop.test", *heads, "")).encode())

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Return whether the other side still took it."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the last answer, when the connection ends or it is whole."""
        text = b""
        with contextlib.suppress(OSError):
            while part := self._socket.recv(65_536):
                text += part
                head, _, body = text.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
                said = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
                if said and len(body) >= int(said[0][16:]):
                    return int(head.split(b" ", 2)[1]), body
        return 0, text
