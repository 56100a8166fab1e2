"""A door for https that keeps what it is told, and really answers over http: the port of the room of certificates."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from instar.certificates.fingerprint import fingerprint_of


class SimulatedDoor:
    """``answers`` False: it is deaf, so that names seem to lead elsewhere."""

    def __init__(self) -> None:
        self.shown: dict[str, tuple[bytes, bytes]] = {}
        self.thumbprint: str | None = None
        self.nonce: str | None = None
        self.nonces = 0
        self.answers = True
        self.requests: list[str] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = door.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, path: str) -> tuple[int, bytes]:
        self.requests.append(path)
        last = path.rpartition("/")[2]
        if self.answers and path.startswith("/.well-known/acme-challenge/") and self.thumbprint:
            return 200, f"{last}.{self.thumbprint}".encode()
        if self.answers and self.nonce is not None and path == f"/.well-known/instar/{self.nonce}":
            return 200, self.nonce.encode()
        return 404, b"elsewhere"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, names: Sequence[str], chain: bytes, key: bytes) -> None:
        self.shown.update(dict.fromkeys(names, (chain, key)))

    def withdraw(self, names: Sequence[str]) -> None:
        for name in names:
            self.shown.pop(name, None)

    def served(self) -> Mapping[str, str]:
        return {name: fingerprint_of(chain) or "" for name, (chain, _) in self.shown.items()}

    def answer_challenges(self, thumbprint: str | None) -> None:
        self.thumbprint = thumbprint

    def answer_nonce(self, nonce: str | None) -> None:
        self.nonce = nonce
        self.nonces += nonce is not None
