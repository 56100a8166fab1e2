"""Takes orders: POST / keeps one, GET / says how many were carried out. At its second port it says how many wait."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import queue_folder


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        told = f"release {os.environ['INSTAR_RELEASE']}: {queue_folder.done()} orders are carried out\n"
        self._answer("well\n" if self.path == "/healthz" else told)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        self._answer(f"order {queue_folder.put(text)}\n")

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """The router knows of each request."""


class Admin(Handler):
    def do_GET(self) -> None:
        self._answer(f"{queue_folder.waiting()} orders wait\n")

    def do_POST(self) -> None:
        self.send_error(405)


admin = ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT_ADMIN"])), Admin)  # noqa: S104  its own network
threading.Thread(target=admin.serve_forever, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()  # noqa: S104  its own network
