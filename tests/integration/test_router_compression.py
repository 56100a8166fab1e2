"""Answers are compressed for who takes that, say whether they stay fresh, and are otherwise what they were."""

from __future__ import annotations

import gzip
import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_world import ENV, World, world

from instar.model.requests import Compression, Requests
from instar.providers.router_state import Target

pytestmark = pytest.mark.root

TEXT = b"hello " * 2_000
KINDS = {
    "/charset": {"Content-Type": "text/html; charset=utf-8"},
    "/json": {"Content-Type": "application/json"},
    "/strong": {"ETag": '"a"'},
    "/weak": {"ETag": 'W/"a"'},
    "/encoded": {"Content-Encoding": "br"},
    "/image": {"Content-Type": "image/png"},
    "/kept": {"Cache-Control": "no-transform"},
    "/old": {"Last-Modified": "Tue, 19 Sep 2017 01:30:14 GMT"},
    "/old/for-a-minute": {"Last-Modified": "Tue, 19 Sep 2017 01:30:14 GMT", "Cache-Control": "max-age=60"},
    "/old/until": {"Last-Modified": "Tue, 19 Sep 2017 01:30:14 GMT", "Expires": "Wed, 01 Jan 2098 00:00:00 GMT"},
}


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what is written after the head would wait for 40 ms

    def do_GET(self) -> None:
        part = self.path == "/part" and self.headers.get("Range")
        self.send_response(206 if part else 404 if self.path == "/none" else 200)
        for name, value in {"Content-Type": "text/plain", **KINDS.get(self.path, {})}.items():
            self.send_header(name, value)
        if part:
            self.send_header("Content-Range", f"bytes 0-99/{len(TEXT)}")
        body = TEXT[:100] if part else b"" if self.path == "/healthz" else TEXT
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with world(tmp_path) as made:
        made.router.ensure(made.plan(compression=Compression()))
        made.router.attach(ENV, [Target(name="text", address="127.0.0.1", port=server.server_port)])
        made.router.route(ENV, {"text": 100})
        yield made
    server.shutdown()
    server.server_close()


def ask(here: World, path: str, method: str = "GET", **heads: str) -> tuple[dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*here.address, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in heads.items()})
    found = connection.getresponse()
    heads = {name.lower(): value for name, value in found.getheaders()}
    body = found.read()
    connection.close()
    return heads, body


@pytest.mark.parametrize("path", ["/", "/charset", "/json", "/strong", "/weak"])
def test_what_is_text_is_compressed_for_who_takes_it(here: World, path: str) -> None:
    heads, body = ask(here, path, Accept_Encoding="gzip, br")
    assert (heads["content-encoding"], heads["vary"]) == ("gzip", "Accept-Encoding") and "content-length" not in heads
    assert gzip.decompress(body) == TEXT and len(body) < len(TEXT) / 10
    assert heads.get("etag") in (None, 'W/"a"'), "it is not the same to the last byte"
    for takes in ({}, {"Accept_Encoding": "identity"}, {"Accept_Encoding": "gzip;q=0"}):
        heads, body = ask(here, path, **takes)
        assert ("content-encoding" not in heads, body) == (True, TEXT)
        assert heads.get("etag") == KINDS.get(path, {}).get("ETag")


@pytest.mark.parametrize("path", ["/encoded", "/image", "/kept", "/none", "/part"])
def test_all_else_stays_what_it_is(here: World, path: str) -> None:
    heads, body = ask(here, path, Accept_Encoding="gzip", Range="bytes=0-99")
    assert body == (TEXT[:100] if path == "/part" else TEXT)
    assert heads.get("content-encoding") == KINDS.get(path, {}).get("Content-Encoding")


def test_nobody_guesses_from_the_time_of_a_file_how_long_an_answer_stays_fresh(here: World) -> None:
    for preview in (None, "header"):
        here.router.ensure(here.plan(preview=preview))
        assert ask(here, "/old")[0]["cache-control"] == "no-cache"
        assert ask(here, "/old", "HEAD")[0]["cache-control"] == "no-cache"
        assert ask(here, "/old/for-a-minute")[0]["cache-control"] == "max-age=60"
        for path in ("/old/until", "/strong", "/none"):
            assert "cache-control" not in ask(here, path)[0]


def test_it_goes_with_limits_and_another_list_of_types(here: World) -> None:
    limits = Requests(largest_body_bytes=1 << 20, body_within_ms=10_000)
    here.router.ensure(here.plan(compression=Compression(types=("application/json",)), requests=limits))
    heads, body = ask(here, "/json", Accept_Encoding="gzip")
    assert heads["content-encoding"] == "gzip" and gzip.decompress(body) == TEXT
    assert ask(here, "/", Accept_Encoding="gzip")[1] == TEXT
    assert ask(here, "/json", "HEAD", Accept_Encoding="gzip")[1] == b""
    assert here.router.inspect(ENV) == () and here.router.counters(ENV).failed == 0
    here.router.ensure(here.plan())
    assert ask(here, "/json", Accept_Encoding="gzip")[1] == TEXT
