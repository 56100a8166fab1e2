"""Files by URL, from a server on loopback that misbehaves on demand."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import served

from instar.errors import FetchError, HashMismatch, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.files import fetch_file
from instar.model.digest import Digest
from instar.model.image_spec import Fetch

DATA = bytes(range(256)) * 4096


class Server(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        getattr(self, f"answer_{self.path[1:]}", self.answer_nothing)()

    def answer_whole(self) -> None:
        self._head(200, len(DATA))
        self.wfile.write(DATA)

    def answer_moved(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/whole")
        self.end_headers()

    def answer_away(self) -> None:
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()

    def answer_short(self) -> None:
        self._head(200, len(DATA))
        self.wfile.write(DATA[:1000])

    def answer_endless(self) -> None:
        self._head(200, None)
        try:
            while True:
                self.wfile.write(DATA)
        except OSError:
            pass

    def answer_odd(self) -> None:
        """A length of which Python says that it is a digit, and which is no number."""
        self.send_response(200)
        self.send_header("Content-Length", "\N{SUPERSCRIPT TWO}")
        self.end_headers()
        self.wfile.write(DATA)

    def answer_long(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9" * 5000)
        self.end_headers()
        self.wfile.write(DATA)

    def answer_nothing(self) -> None:
        self.send_error(404)

    def answer_ill(self) -> None:
        self.send_error(503)

    def _head(self, status: int, size: int | None) -> None:
        self.send_response(status)
        if size is not None:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    Server.asked = []
    with served(tmp_path, Server) as address:
        yield address


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def wanted(url: str, data: bytes = DATA) -> Fetch:
    return Fetch(url=url, sha256=Digest.of(data).hex, to="/opt/tool")


def nothing_is_left_in(cache: Cache) -> bool:
    return not [path for path in cache.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", ["whole", "moved", "odd", "long"])
def test_a_file_comes_whole_through_redirects_and_odd_heads_too(address: str, cache: Cache, path: str) -> None:
    fetch_file(wanted(f"{address}/{path}"), cache)
    assert cache.verify(Digest.of(DATA)).read_bytes() == DATA


def test_other_bytes_are_refused_showing_both_hashes(address: str, cache: Cache) -> None:
    with pytest.raises(HashMismatch) as caught:
        fetch_file(wanted(f"{address}/whole", b"promised"), cache)
    assert Digest.of(DATA).hex in str(caught.value)
    assert Digest.of(b"promised").hex in str(caught.value)
    assert nothing_is_left_in(cache)


@pytest.mark.parametrize(
    ("path", "kind", "cause", "asked"),
    [
        ("short", SourceUnreachable, "it broke off after 1,000 of 1,048,576 bytes", 2),
        ("ill", SourceUnreachable, "it answers 503", 2),
        ("gone", FetchError, "it answers 404", 1),
        ("away", FetchError, "to url 'file:///etc/passwd' is not allowed", 1),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_nothing(
    address: str, cache: Cache, path: str, kind: type[FetchError], cause: str, asked: int
) -> None:
    with pytest.raises(kind, match=cause) as caught:
        fetch_file(wanted(f"{address}/{path}"), cache)
    assert type(caught.value) is kind
    assert len(Server.asked) == asked
    assert nothing_is_left_in(cache)


def test_an_endless_answer_is_cut_off(address: str, cache: Cache) -> None:
    with pytest.raises(FetchError, match="larger than 4,000,000 bytes"):
        fetch_file(wanted(f"{address}/endless"), cache, limit_bytes=4_000_000)
    with pytest.raises(SourceUnreachable, match="too slow"):
        fetch_file(wanted(f"{address}/endless"), cache, timeout_s=0.05)
    assert nothing_is_left_in(cache)


def test_nobody_there_is_told(cache: Cache) -> None:
    with pytest.raises(SourceUnreachable, match=r"cannot fetch 'http://127\.0\.0\.1:9/x': .*refused"):
        fetch_file(wanted("http://127.0.0.1:9/x"), cache)
