"""``GET /metrics`` and ``GET /healthz`` over HTTP, for whoever watches the agent. What is asked can't hold it up."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from instar.errors import HostError

Page = Callable[[str], tuple[int, bytes]]
_TIMEOUT_S = 5.0
_AT_ONCE = 8
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Serves in a thread of its own. ``alive_within_s``: after so long without :meth:`beat`, /healthz says 503."""

    def __init__(self, host: str, port: int, text: Callable[[], bytes], *, alive_within_s: float = 60.0) -> None:
        """Raises HostError when the address cannot be listened on."""
        self._text, self._within_s, self._last = text, alive_within_s, time.monotonic()
        try:
            self._server = _Server(host, port, self._page)
        except OSError as error:
            raise HostError(
                f"cannot serve metrics on '{host}:{port}': {error.strerror}", hint="choose another with --metrics"
            ) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def beat(self) -> None:
        """Say that a pass was made."""
        self._last = time.monotonic()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _page(self, path: str) -> tuple[int, bytes]:
        if path == "/metrics":
            return 200, self._text()
        if path == "/healthz":
            age = time.monotonic() - self._last
            return (200, b"ok\n") if age <= self._within_s else (503, f"no pass for {age:.0f} s\n".encode())
        return 404, b"there is /metrics, and /healthz\n"


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        status, body = self.server.page(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", _TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: who scrapes is no news."""


class _Server(ThreadingHTTPServer):
    """A handful of requests at once; whoever comes beyond them is turned away."""

    def __init__(self, host: str, port: int, page: Page) -> None:
        self.page = page
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # its own asks a resolver who we are, and may wait for ever
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no error of ours."""
