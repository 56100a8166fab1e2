"""``GET /metrics`` and ``GET /healthz`` over HTTP, for whoever watches the agent. What is asked can't hold it up: each
connection has five seconds and a few kilobytes in all, and only a handful are there at once."""

from __future__ import annotations

import errno
import io
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from instar.errors import HostError
from instar.threads import begin

Page = Callable[[str], tuple[int, bytes]]
_TIMEOUT_S = 5.0
_REQUEST_BYTES = 8192
_AT_ONCE = 8
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def listen_at(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises HostError when the address cannot be listened on."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_Server.request_queue_size)
    except OSError as error:
        listening.close()
        raise _refused(host, port, error) from error
    return listening


class MetricsServer:
    """Serves what comes to ``listening``, which it closes at its end, in a thread of its own.

    ``alive_within_s``: after so long without :meth:`beat`, /healthz says 503.
    """

    def __init__(self, listening: socket.socket, text: Callable[[], bytes], *, alive_within_s: float = 60.0) -> None:
        self._text, self._within_s, self._last = text, alive_within_s, time.monotonic()
        self._server = _Server(listening, self._page)
        self.host, self.port = listening.getsockname()[:2]
        begin(self._server.serve_forever, "metrics")

    def listening_still(self) -> socket.socket:
        """Return its socket for whoever goes on after :meth:`close`: who connects meanwhile is not turned away."""
        return self._server.socket.dup()

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


def _refused(host: str, port: int, error: OSError) -> HostError:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    hint = "choose another address with --metrics"
    if error.errno == errno.EADDRINUSE:
        hint = f"'ss -ltnp sport = :{port}' shows which process has the port; end it, or {hint}"
    return HostError(f"cannot serve metrics on '{where}': {error.strerror}", hint=hint)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "instar", ""

    def setup(self) -> None:
        """Read the head of the request first: line by line, each byte would have its own time-out."""
        super().setup()
        self.rfile = io.BytesIO(_head(self.request))
        self.request.settimeout(_TIMEOUT_S)  # for the answer as a whole

    def do_GET(self) -> None:
        try:
            status, body = self.server.page(self.path.partition("?")[0])
        except Exception as error:  # whatever it was: who asks shall see it, and the next is answered
            status, body = 500, f"{type(error).__name__}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", _TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: who scrapes is no news."""


def _head(connection: socket.socket) -> bytes:
    """Return a request up to its empty line, as much as came of it in time and size."""
    deadline, head = time.monotonic() + _TIMEOUT_S, b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < _REQUEST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            return b""
        connection.settimeout(left)
        more = connection.recv(_REQUEST_BYTES - len(head))
        if not more:
            return b""
        head += more
    return head


class _Server(ThreadingHTTPServer):
    """A handful of requests at once; whoever comes beyond them is turned away."""

    def __init__(self, listening: socket.socket, page: Page) -> None:
        self.page = page
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        where = listening.getsockname()
        super().__init__(where, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = where[:2]  # its own way to know asks a resolver, and may wait for ever

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread for it: its place is free again
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no error of ours."""
