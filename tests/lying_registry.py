"""A registry of the tests' own, that answers as it should, unless it is told to lie about something."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Lie = Callable[["Handler"], bool]


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class LyingRegistry:
    """On a loopback address (``host``), with the repository of ``blobs`` and ``manifests`` by their digests.

    ``lie`` is asked first: it answers a request itself and returns true, or leaves it. ``asked`` are all requests.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.asked: list[Asked] = []
        self.lie: Lie = lambda handler: False
        self.released = threading.Event()  # what is held back waits for it
        self.server = _Server((address, 0), Handler)
        self.server.registry = self
        self.host = f"{address}:{self.server.server_address[1]}"
        self.lists_referrers = False
        self.sent_bytes = 0
        self.numbers = itertools.count()

    def take(self, store: Path, manifest: str) -> None:
        """Have an image of a store at ``store``."""
        blobs = store / "blobs/sha256"
        data = (blobs / manifest.removeprefix("sha256:")).read_bytes()
        self.manifests[manifest] = data
        for one in (json.loads(data)["config"], *json.loads(data)["layers"]):
            self.blobs[one["digest"]] = (blobs / one["digest"].removeprefix("sha256:")).read_bytes()

    def methods(self, method: str) -> list[str]:
        return [one.path for one in self.asked if one.method == method]


@contextlib.contextmanager
def serving(registry: LyingRegistry) -> Iterator[LyingRegistry]:
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.released.set()
        registry.server.shutdown()
        registry.server.server_close()
        thread.join()


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    registry: LyingRegistry

    def server_bind(self) -> None:  # HTTPServer's own asks for this machine's name, which may take long
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:
        """Who is cut off is not told of here."""


@dataclass
class Span:
    start: int = 0
    partial: bool = field(default=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what is written after the head would wait for 40 ms

    @property
    def registry(self) -> LyingRegistry:
        return self.server.registry  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        """Tell nobody."""

    def reply(self, status: int, body: bytes = b"", **headers: str | int) -> None:
        """Answer; a header is named with ``_`` for ``-``, and one that is "" is left out."""
        self.send_response(status)
        named = {"Content_Length": len(body), **headers}
        for name, value in named.items():
            if value != "":
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.registry.sent_bytes += len(body)

    def cut(self) -> None:
        """Go away without another word."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def span(self) -> Span:
        told = self.headers.get("Range")
        return Span(int(told.removeprefix("bytes=").rstrip("-")), True) if told else Span()

    def begin_blob(self, data: bytes) -> bytes:
        """Send the head of the answer to a GET of a blob, and return what is to follow."""
        span = self.span()
        rest = data[span.start :]
        self.send_response(206 if span.partial else 200)
        self.send_header("Content-Length", str(len(rest)))
        if span.partial:
            self.send_header("Content-Range", f"bytes {span.start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        return rest

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._begin_upload)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, honestly: Callable[[], None]) -> None:
        self.registry.asked.append(Asked(self.command, self.path, dict(self.headers.items())))
        try:
            if not self.registry.lie(self):
                honestly()
        except OSError:
            self.close_connection = True

    def _get(self) -> None:
        kind, _, name = urlsplit(self.path).path.rpartition("/")
        if kind.endswith("/manifests") and name in self.registry.manifests:
            data = self.registry.manifests[name]
            self.reply(200, data, Content_Type=json.loads(data)["mediaType"], Docker_Content_Digest=digest_of(data))
        elif kind.endswith("/blobs") and name in self.registry.blobs:
            data = self.registry.blobs[name]
            if self.command == "HEAD":
                self.reply(200, b"", Content_Length=len(data), Docker_Content_Digest=name)
                return
            rest = self.begin_blob(data)
            self.wfile.write(rest)
            self.registry.sent_bytes += len(rest)
        elif kind.endswith("/uploads") and name in self.registry.uploads:
            came = len(self.registry.uploads[name])
            self.reply(204, Range=f"0-{max(came - 1, 0)}", Location=self.path, Content_Length="")
        elif kind.endswith("/referrers") and self.registry.lists_referrers:
            self._refer(name)
        elif kind.endswith("/tags") and name == "list":
            self._list()
        else:
            self.reply(404, b'{"errors": [{"code": "BLOB_UNKNOWN", "message": "secret-words"}]}')

    def _list(self) -> None:
        """In pages of two, as a registry may that is asked for more."""
        last = parse_qs(urlsplit(self.path).query).get("last", [""])[0]
        tags = sorted(name for name in self.registry.manifests if ":" not in name and name > last)
        path = urlsplit(self.path).path
        more = {"Link": f'<{path}?n=2&last={tags[1]}>; rel="next"'} if len(tags) > 2 else {}
        self.reply(200, json.dumps({"name": "x", "tags": tags[:2]}).encode(), **more)

    def _refer(self, subject: str) -> None:
        found = []
        for digest, data in self.registry.manifests.items():
            if ":" in digest and json.loads(data).get("subject", {}).get("digest") == subject:
                kind = json.loads(data)["mediaType"]
                found.append({"mediaType": kind, "digest": digest, "size": len(data), "artifactType": "x/y"})
        kind = "application/vnd.oci.image.index.v1+json"
        body = {"schemaVersion": 2, "mediaType": kind, "manifests": found}
        self.reply(200, json.dumps(body).encode(), Content_Type=kind)

    def _delete(self) -> None:
        name = self.path.rpartition("/")[2]
        there = self.registry.manifests.pop(name, None)
        self.reply(202 if there is not None else 404)

    def _begin_upload(self) -> None:
        name = f"upload-{next(self.registry.numbers)}"
        self.registry.uploads[name] = bytearray()
        self.reply(202, Location=f"{self.path}{name}?state=x", Range="0-0")

    def _patch(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.registry.uploads[name] += self.body()
        self.reply(202, Location=self.path, Range=f"0-{len(self.registry.uploads[name]) - 1}")

    def _put(self) -> None:
        parts = urlsplit(self.path)
        kind, _, name = parts.path.rpartition("/")
        if kind.endswith("/manifests"):
            data = self.body()
            self.registry.manifests[digest_of(data)] = self.registry.manifests[name] = data
            about = json.loads(data).get("subject", {}).get("digest", "") if self.registry.lists_referrers else ""
            self.reply(201, Docker_Content_Digest=digest_of(data), OCI_Subject=about)
            return
        data = bytes(self.registry.uploads.pop(name)) + self.body()
        wanted = parse_qs(parts.query)["digest"][0]
        if digest_of(data) != wanted:
            self.reply(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        self.registry.blobs[wanted] = data
        self.reply(201, Location=f"/v2/x/blobs/{wanted}")
