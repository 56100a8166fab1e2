"""A door to a real cluster's API that answers as a bad one does: refuses, never answers, cuts its answer short, or does
what was asked and loses the answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2

from instar.providers.kubernetes.api import Api

_OWN = (
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "host",
    "accept-encoding",
)
REFUSALS = {
    401: "Unauthorized",
    403: "Forbidden",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class BadDoor:
    """Listens on loopback without TLS, and asks the cluster by the credentials of ``api``.

    ``fault`` says of each call, by its method, path and how often that was asked before, what becomes of it: None, one
    of ``REFUSALS``, "refused" (the connection ends), "silent" (nothing comes, and the connection stays), "cut" (the
    answer ends in its middle) or "lost" (it is done, and the connection ends). The method of a watch is "WATCH": it
    passes on what happens as it comes, and cut, lost or silent has only its head.
    """

    def __init__(self, api: Api, fault: Callable[[str, str, int], int | str | None]) -> None:
        self.fault = fault
        self.hit: list[tuple[str, str, int | str]] = []
        self.changes: list[tuple[str, str, int]] = []  # what was asked that changes something, and the cluster's status
        self._times: dict[tuple[str, str], int] = {}
        self._guard = threading.Lock()
        self.closed = threading.Event()
        self._api = api
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def kubeconfig(self, folder: Path) -> Path:
        file = folder / "bad.kubeconfig"
        cluster = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}}
        context = {"name": "a", "context": {"cluster": "a"}}
        file.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "a"}))
        return file

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def chosen(self, method: str, path: str) -> int | str | None:
        with self._guard:
            before = self._times.get((method, path), 0)
            self._times[method, path] = before + 1
            fault = self.fault(method, path, before)
            if fault is not None:
                self.hit.append((method, path, fault))
            return fault

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> httpx2.Response:
        kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        answer = self._api._connection.client().request(method, path, content=body, headers=kept)
        if method != "GET" and "authorization.k8s.io" not in path:
            with self._guard:
                self.changes.append((method, path.partition("?")[0], answer.status_code))
        return answer

    @contextlib.contextmanager
    def watch(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        with self._api._connection.client().stream("GET", path, headers=kept, timeout=60) as answer:
            yield answer


def _handler(door: BadDoor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # what is written after the head would wait for 40 ms

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            watches = parse_qs(parts.query).get("watch") == ["true"]
            fault = door.chosen("WATCH" if watches else self.command, parts.path)
            if isinstance(fault, int):
                _refuse(self, fault)
            elif fault == "refused":
                self.close_connection = True
            elif watches:
                self.close_connection = True
                with contextlib.suppress(OSError):  # who watches may have seen enough
                    _stream(self, door, fault)
            elif fault == "silent":
                self.close_connection = True
                _wait_for_end(self, door)
            else:
                answer = door.ask(self.command, self.path, dict(self.headers.items()), body)
                if fault == "lost":
                    self.close_connection = True
                else:
                    _answer(self, answer, cut=fault == "cut")

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler


def _stream(handler: BaseHTTPRequestHandler, door: BadDoor, fault: str | None) -> None:
    """Pass on what a watch tells as it comes: without a length, until the connection ends."""
    with door.watch(handler.path, dict(handler.headers.items())) as answer:
        handler.send_response(answer.status_code)
        handler.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        handler.send_header("Connection", "close")
        handler.end_headers()
        if fault == "silent":
            _wait_for_end(handler, door)
        for data in answer.iter_bytes() if fault is None else ():
            handler.wfile.write(data)


def _wait_for_end(handler: BaseHTTPRequestHandler, door: BadDoor) -> None:
    """Say nothing until whoever asked has gone away, or the door is closed."""
    handler.connection.settimeout(0.1)
    while not door.closed.is_set():
        with contextlib.suppress(TimeoutError):
            try:
                if not handler.connection.recv(1):
                    return
            except ConnectionError:
                return


def _refuse(handler: BaseHTTPRequestHandler, status: int) -> None:
    told = {"kind": "Status", "reason": REFUSALS[status], "message": "by the bad door", "code": status}
    data = json.dumps(told).encode()
    handler.send_response(status)
    if status == 429:
        handler.send_header("Retry-After", "1")
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _answer(handler: BaseHTTPRequestHandler, answer: httpx2.Response, *, cut: bool) -> None:
    data = answer.content
    handler.send_response(answer.status_code)
    handler.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):  # who asked may have waited for long enough
        handler.wfile.write(data[: len(data) // 2] if cut else data)
    handler.close_connection = handler.close_connection or cut
