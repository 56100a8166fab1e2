"""An authority that misbehaves where it is told: in front of a real one, with its answers changed on the way."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pebble import Pebble


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    delay_s: float = 0.0


Tamper = Callable[[str, Answer], None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is what is tried here."""


@dataclass
class TamperingAuthority:
    """``tamper`` gets the path and the answer of each request, and may change it; by default it leaves all alone."""

    pebble: Pebble
    tamper: Tamper = field(default=lambda path, answer: None)

    def __post_init__(self) -> None:
        self.asked: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pebble.folder / "pebble.pem", self.pebble.folder / "pebble.key")
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.directory = f"https://localhost:{self._server.server_address[1]}/dir"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                outer.asked.append(self.path)
                length = int(self.headers.get("Content-Length", 0))
                answer = outer.forward(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.tamper(self.path, answer)
                time.sleep(answer.delay_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_POST = do_HEAD = _any

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Ask the real one, which calls itself what it is called (``Host``): its addresses lead here too."""
        trust = ssl.create_default_context(cafile=str(self.pebble.ca))
        connection = http.client.HTTPSConnection("localhost", self.pebble.port, timeout=10, context=trust)
        try:
            connection.request(method, path, body or None, headers)
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()
