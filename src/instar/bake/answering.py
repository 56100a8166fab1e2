"""What is behind the one door of a sandbox: requests of the sandbox by path, answered by whoever opened the sandbox.

Only GET and HEAD are answered, by bytes or a file of the cache. Nothing of a request but its path is looked at.
"""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from instar.ecosystems.protocol import Answers
from instar.threads import begin

_PATIENCE_S: Final = 300


@contextlib.contextmanager
def answering(door: socket.socket, answers: Answers) -> Iterator[None]:
    """Answer what comes to ``door`` until the block ends."""
    server = _Server(door, answers)
    thread = begin(lambda: server.serve_forever(poll_interval=0.1), "sandbox")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, door: socket.socket, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = door.dup()
        self.server_address = self.socket.getsockname()
        self.answers = answers
        self.guard = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: what code of others does with its end of a connection is no news on this terminal."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        try:
            path = unquote(urlsplit(self.path).path, errors="strict")
        except ValueError:
            path = ""
        status, found = self.server.answers(path)
        size_bytes = found.stat().st_size if isinstance(found, Path) else len(found)
        self.send_response(status)
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(found, Path):
            with found.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)
        else:
            self.wfile.write(found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass
