"""A server and a client that speak HTTP/2 by prior knowledge, and nothing else, as a gRPC service and its stub do.

A call sends messages and is answered with each of them as it comes, and with trailers at the end.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from accepting import Accepting
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import StreamClosedError

ENDED = ("grpc-status", "0")
PREFACE = b"PRI * HTTP/2.0"


class EchoServer(Accepting):
    """Answers calls; what does not begin as HTTP/2 is counted in ``refused``."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.seen: list[dict[str, str]] = []
        self.connections = self.open = self.refused = 0
        super().__init__("echo")

    def answer(self, connection: socket.socket) -> None:
        text = connection.recv(65_536)
        if not text.startswith(PREFACE):
            self.refused += bool(text)
            return
        self.connections, self.open = self.connections + 1, self.open + 1
        try:
            with contextlib.suppress(StreamClosedError):
                self._echo(connection, text)
        finally:
            self.open -= 1

    def _echo(self, connection: socket.socket, text: bytes) -> None:
        speaking = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        speaking.initiate_connection()
        while text:
            for event in speaking.receive_data(text):
                self._react(speaking, event)
            connection.sendall(speaking.data_to_send())
            text = connection.recv(65_536)

    def _react(self, speaking: H2Connection, event: Event) -> None:
        if isinstance(event, RequestReceived):
            said = dict(event.headers)
            self.calls[said[":path"]] += 1
            self.seen.append(said)
            speaking.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        elif isinstance(event, DataReceived):
            speaking.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            speaking.send_data(event.stream_id, event.data)
        elif isinstance(event, StreamEnded):
            speaking.send_headers(event.stream_id, [ENDED], end_stream=True)


@dataclass
class Answer:
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    over: bool = False
    reset: bool = False


class Caller:
    """One connection to a server, over which calls are made."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._speaking = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._speaking.initiate_connection()
        self._send()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, path: str, messages: Sequence[bytes], *more: tuple[str, str], pause_s: float = 0) -> Answer:
        """Send one message after the other, each ``pause_s`` after the one before was answered; return what came."""
        stream, answer = self._speaking.get_next_available_stream_id(), Answer()
        self._speaking.send_headers(
            stream,
            [
                *((":method", "POST"), (":scheme", "http"), (":authority", "shop.example"), (":path", path)),
                *(("te", "trailers"), ("content-type", "application/grpc"), *more),
            ],
        )
        sent = b""
        for message in messages:
            time.sleep(pause_s if sent else 0)
            if answer.over:
                break
            self._speaking.send_data(stream, message)
            sent += message
            self._until(answer, lambda: len(answer.data) >= len(sent))  # noqa: B023  called before the next one
        if not answer.over:
            self._speaking.end_stream(stream)
        self._until(answer, lambda: False)
        return answer

    def _until(self, answer: Answer, enough: object) -> None:
        assert callable(enough)
        self._send()
        while not (answer.over or enough()):
            text = self._socket.recv(65_536)
            if not text:
                raise ConnectionError("the connection ended")
            for event in self._speaking.receive_data(text):
                self._note(answer, event)
            self._send()

    def _note(self, answer: Answer, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            answer.headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            answer.data += event.data
            self._speaking.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, StreamEnded | StreamReset):
            answer.over, answer.reset = True, isinstance(event, StreamReset)

    def _send(self) -> None:
        self._socket.sendall(self._speaking.data_to_send())
