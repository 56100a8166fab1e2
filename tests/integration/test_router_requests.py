"""What an application is told of a request, and what it is spared: a real WSGI server behind the real router."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from router_world import ENV, World

from instar.errors import RouterError
from instar.model.definition import Headers
from instar.providers.local import router as local_router
from instar.providers.router_state import Target
from instar.router import listener

pytestmark = pytest.mark.root


SPEAKS_HTTP_2 = """
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend service
  bind "fd@${LISTEN}" proto h2
  http-request return status 200 content-type text/plain string "HTTP/2 spoken"
"""


class Asked(NamedTuple):
    status: int
    seen: Mapping[str, str]
    text: str


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def many_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of Python's library takes only a hundred."""
    monkeypatch.setattr(http.client, "_MAXHEADERS", 10_000)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        return


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with what the request said, as an application sees it; /head with a head of so many bytes or lines."""
    seen = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    path, _, number = environ["PATH_INFO"].rpartition("/")
    headers = [("Content-Type", "application/json")]
    if path == "/bytes":
        headers.append(("X-Big", "b" * int(number)))
    if path == "/lines":
        headers += [(f"X-{index}", "v") for index in range(int(number))]
    start_response("200 OK", headers)
    return [json.dumps(seen).encode()]


@contextlib.contextmanager
def wsgi(here: World, **changes: object) -> Iterator[None]:
    """Serve the application behind the router; another one each time."""
    name = f"app-{next(_numbers)}"
    with make_server("127.0.0.1", 0, application, WSGIServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            here.router.ensure(here.plan(**changes))
            here.router.attach(ENV, [Target(name=name, address="127.0.0.1", port=server.server_port)])
            here.router.route(ENV, {name: 100})
            yield
        finally:
            server.shutdown()
            thread.join()


def ask(
    address: tuple[str, int], lines: bytes = b"", *, target: str = "/", version: str = "1.1", who: str = ""
) -> Asked:
    """Send a request as it is, from ``who`` by the PROXY protocol; return its status, what the application saw (which
    is {} where it saw nothing) and the answer's text."""
    head = f"PROXY TCP4 {who} 192.0.2.1 40000 80\r\n" if who else ""
    head += f"GET {target} HTTP/{version}\r\nHost: shop.example\r\nConnection: close\r\n"
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(head.encode() + lines + b"\r\n")
        answer = b""
        while part := client.recv(65_536):
            answer += part
    status, body = int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
    return Asked(status, json.loads(body) if status == 200 else {}, body.decode())


SPELT = (
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded", "Forwarded"),
    *("X-Real-IP", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP", "Client-Cert", "Client-Cert-Chain", "Proxy"),
)
AS_THE_SAME = (str.upper, str.lower, *(lambda name, sign=sign: name.replace("-", sign) for sign in "_.!*'~|+$&^`%#"))


def test_no_header_of_a_client_is_read_as_what_the_router_says(here: World) -> None:
    with wsgi(here, accept_proxy=("127.0.0.0/8",)):
        for spell in AS_THE_SAME:
            lines = "".join(f"{spell(name)}: evil\r\n" for name in SPELT)
            asked = ask(here.address, lines.encode() * 2, who="203.0.113.9")
            assert asked.status == 200
            assert asked.seen == {
                "HTTP_HOST": "shop.example",
                "HTTP_X_FORWARDED_FOR": "203.0.113.9",
                "HTTP_X_FORWARDED_HOST": "shop.example",
                "HTTP_X_FORWARDED_PROTO": "http",
                "HTTP_CONNECTION": "close",
            }, spell("X-Real-IP")


def test_a_server_in_front_on_this_machine_is_believed_but_not_with_what_it_lets_through(here: World) -> None:
    with wsgi(here):
        asked = ask(here.address, b"X-Forwarded-For: 198.51.100.1\r\nX_Forwarded_For: evil\r\nX_Remote_User: root\r\n")
    assert asked.seen["HTTP_X_FORWARDED_FOR"] == "198.51.100.1"
    assert "evil" not in asked.text and "root" not in asked.text


@pytest.mark.parametrize("scheme", ["http://", "https://", "HTTPS://user:secret@", "ftp://"])
@pytest.mark.parametrize(("path", "seen"), [("/a//b?c=http://d", "/a//b?c=http://d"), ("", "/"), ("/", "/")])
def test_a_service_gets_the_path_of_a_whole_address(here: World, scheme: str, path: str, seen: str) -> None:
    [backend] = here.start("one")
    target = f"{scheme}shop.example{path}"
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n".encode())
        while client.recv(65_536):
            pass
    assert set(backend.seen) - {"/healthz"} == {seen}


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Forwarded-For : evil\r\n",
        b"X-Forwarded-For\t: evil\r\n",
        b"X-Forwarded-For\0: evil\r\n",
        b"X-Forwarded\r-For: evil\r\n",
        b"Host: other.example\r\n",
    ],
)
def test_what_is_no_header_is_no_request(here: World, lines: bytes) -> None:
    with wsgi(here):
        assert ask(here.address, lines).status == 400


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: X-Forwarded-For, X-Forwarded-Proto\r\n",
        b"Connection: close, x-forwarded-for\r\nKeep-Alive: 1\r\nProxy-Connection: X-Forwarded-For\r\n",
        b"Connection: Upgrade, HTTP2-Settings, X-Forwarded-For\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: websocket\r\n",
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_is_between_client_and_router_goes_no_further(here: World, lines: bytes, version: str) -> None:
    with wsgi(here):
        asked = ask(here.address, lines, version=version)
    assert asked.seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert asked.seen.get("HTTP_CONNECTION") == ("close" if version == "1.1" else None)
    assert not {"HTTP_UPGRADE", "HTTP_HTTP2_SETTINGS", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION"} & asked.seen.keys()


CONNECTS = (b"", b"Connection: upgrade\r\nUpgrade: foo\r\n", b"X-Forwarded-For: 127.0.0.1\r\n")


@pytest.mark.parametrize("preview", [None, "header"])
@pytest.mark.parametrize("lines", CONNECTS)
def test_no_tunnel_to_the_service_can_be_opened(here: World, lines: bytes, preview: str | None) -> None:
    """The application answers to every method, so a tunnel is what a proxy makes of that."""
    with wsgi(here, preview=preview), socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n%s\r\n" % lines)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: evil\r\nConnection: close\r\n\r\n")
        client.settimeout(5)
        answer = b""
        while part := client.recv(65_536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"evil" not in answer
        assert here.router.inspect(ENV) == ()


def test_no_tunnel_can_be_opened_over_http_2_either(here: World) -> None:
    """The words of a CONNECT are two headers. Source: RFC 9113, 8.5; RFC 7541, 6.2.2."""
    headers = b"\x02\x07CONNECT" + b"\x01\x04a:80"
    frames = bytes(3) + b"\4\0" + bytes(4) + len(headers).to_bytes(3) + b"\1\4\0\0\0\1" + headers
    with wsgi(here), socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        answer = b""
        while b"405" not in answer:
            part = client.recv(65_536)
            assert part, answer
            answer += part


def test_a_line_that_goes_on_is_no_other_header(here: World) -> None:
    with wsgi(here):
        asked = ask(here.address, b"X-A: b\r\n X-Forwarded-For: evil\r\n")
    assert asked.seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"


def test_trailers_are_no_headers(here: World) -> None:
    with wsgi(here):
        lines = b"Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n0\r\nX-Forwarded-For: evil\r\n"
        asked = ask(here.address, lines)
    assert asked.seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"


def test_a_head_has_twice_the_usual_room(here: World) -> None:
    with wsgi(here):
        assert ask(here.address, b"X-Big: %s\r\n" % (b"b" * 31_000)).status == 200
        assert ask(here.address, b"".join(b"X-%d: v\r\n" % index for index in range(190))).status == 200
        assert ask(here.address, target="/bytes/31000").status == 200
        assert ask(here.address, target="/lines/190").status == 200
        for lines in (b"X-Big: %s\r\n" % (b"b" * 40_000), b"".join(b"X-%d: v\r\n" % each for each in range(230))):
            assert ask(here.address, lines).status == 400
        for target in ("/bytes/40000", "/lines/230"):
            refused = ask(here.address, target=target)
            assert refused.status == 502
            assert "its headers are longer than 32 kB or 200 lines" in refused.text


def test_a_head_has_the_room_that_is_asked_for(here: World) -> None:
    with wsgi(here, headers=Headers(size_bytes=128 << 10, count=1_000)):
        lines = b"".join(b"X-%d: %s\r\n" % (each, b"v" * 100) for each in range(990))
        assert ask(here.address, lines).status == 200
        assert ask(here.address, target="/bytes/125000").status == 200
        assert ask(here.address, target="/bytes/160000").status == 502
    with wsgi(here, headers=Headers(size_bytes=1 << 10, count=20)):
        assert ask(here.address, b"X-Big: %s\r\n" % (b"b" * 700)).status == 200
        assert ask(here.address, b"X-Big: %s\r\n" % (b"b" * 8_000)).status == 400


def test_who_asks_is_told_by_the_servers_in_front_that_are_named(here: World) -> None:
    with wsgi(here, accept_proxy=("127.0.0.1",)):
        lines = b"X-Forwarded-For: evil\r\nX-Forwarded-Proto: evil\r\n"
        assert ask(here.address, lines, who="203.0.113.9").seen["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"
        with pytest.raises((OSError, IndexError)):  # it has to begin with the protocol's header
            ask(here.address)
    with wsgi(here, accept_proxy=("127.0.0.2", "10.0.0.0/8")):
        assert ask(here.address).seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
        assert ask(here.address, who="203.0.113.9").status == 400


def test_a_server_in_front_says_whether_its_client_came_by_https(here: World) -> None:
    with wsgi(here, accept_proxy=("127.0.0.1",)), socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 443\r\nGET / HTTP/1.0\r\n\r\n")
        answer = client.makefile("rb").read()
    seen = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (seen["HTTP_X_FORWARDED_FOR"], seen["HTTP_X_FORWARDED_PROTO"]) == ("2001:db8::9", "https")


def test_http_2_from_a_client_passes_the_same_door(here: World) -> None:
    said = ["-H", "X_Real_IP: evil", "-H", "X.Forwarded.For: evil", "-H", "x-ok: yes"]
    with wsgi(here):
        version, text = curl(here, *said)
    seen = json.loads(text)
    assert version == "2"
    assert (seen["HTTP_X_OK"], seen["HTTP_X_FORWARDED_FOR"]) == ("yes", "127.0.0.1")
    assert "evil" not in text


def test_http_2_to_the_service_is_passed_through_as_tcp(here: World, tmp_path: Path) -> None:
    """As gRPC needs it: an HAProxy of its own is the service, as it speaks HTTP/2 alone there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        file, port = tmp_path / "service.cfg", listening.getsockname()[1]
        file.write_text(SPEAKS_HTTP_2)
        command = ["haproxy", "-db", "-f", str(file)]
        environment = {**os.environ, "LISTEN": str(listening.fileno())}
        service = subprocess.Popen(command, pass_fds=[listening.fileno()], env=environment)
        try:
            here.router.ensure(here.plan(protocol="tcp", health_path=None))
            here.router.attach(ENV, [Target(name="app", address="127.0.0.1", port=port)])
            here.router.route(ENV, {"app": 100})
            assert curl(here) == ("2", "HTTP/2 spoken")
        finally:
            service.terminate()
            service.wait()


def curl(here: World, *words: str) -> tuple[str, str]:
    """Ask over HTTP/2 from the first byte on; return the version of the answer and its text."""
    url = f"http://127.0.0.1:{here.address[1]}/"
    asked = ["curl", "-s", "--max-time", "10", "--http2-prior-knowledge", "-w", "\n%{http_version}", *words, url]
    text = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    return text.rpartition("\n")[2], text.rpartition("\n")[0]


class Steady(threading.Thread):
    """A service that takes what it is sent steadily and slowly, and then says how much that was; or that answers with
    so much as it can."""

    def __init__(self, listening: socket.socket, *, bytes_a_second: int = 1_000_000) -> None:
        super().__init__(daemon=True)
        self._listening = listening
        self._pace = bytes_a_second

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as file:
            method, path = file.readline().split()[:2]
            head = [line.lower() for line in iter(file.readline, b"\r\n")]
            if method == b"POST":
                sizes = [int(line.partition(b":")[2]) for line in head if line.startswith(b"content-length:")]
                path = b"/%d" % slowly(file.read1, sizes[0], self._pace)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                connection.sendall(bytes(int(path[1:])))


def slowly(take: Callable[[int], bytes], size: int, pace: int) -> int:
    """Take ``size`` bytes at ``pace`` a second; return how many came."""
    began, taken = time.monotonic(), 0
    while taken < size and (part := take(min(16_384, size - taken))):
        taken += len(part)
        time.sleep(max(0.0, taken / pace - (time.monotonic() - began)))
    return taken


@pytest.fixture
def steady(here: World) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Steady(listening).start()
        here.router.ensure(here.plan(health_path=None, request_timeout_ms=1_000))
        target = Target(name="steady", address="127.0.0.1", port=listening.getsockname()[1])
        here.router.attach(ENV, [target])
        here.router.route(ENV, {"steady": 100})
        yield
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("steady")
def test_a_service_that_reads_steadily_is_not_cut(here: World) -> None:
    """Four times as long as it may be silent."""
    size = 4_000_000
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        client.sendall(bytes(size))
        answer = client.makefile("rb").read()
    assert answer.endswith(b"/%d" % size)


@pytest.mark.usefixtures("steady")
def test_a_client_that_reads_seldom_is_not_cut(here: World) -> None:
    """Three times as rarely as the service has to."""
    size = 20_000_000
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        time.sleep(3)
        assert len(client.makefile("rb").read().partition(b"\r\n\r\n")[2]) == size


@pytest.mark.long
@pytest.mark.usefixtures("steady")
def test_a_client_that_reads_steadily_for_minutes_is_not_cut(here: World) -> None:
    size = 12_000_000
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        assert slowly(client.recv, size, 100_000) == size


def test_little_is_sent_ahead_of_what_a_client_takes(here: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener.prepare(listening)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, 25) == 128 * 1024  # TCP_NOTSENT_LOWAT


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        (INTERIM * 3 + b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.0 204 No Content\n\n", ""),
        (b"HTTP/1.1 200 OK\r\nX: %s\r\n\r\n" % (b"h" * 20_000), ""),
        (INTERIM + b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "(answered 500|wrong status)"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "answered 404"),
        (INTERIM, "does not pass"),
        (b"220 mail.example ESMTP\r\n", "does not pass"),
        (b"HTTP/1.1 500\x01x\n> forged: 1\n> \r\n\r\n", "answered 500$"),
        (b"HTTP/1.1 50x\x1b[2J\n> \r\n\r\n", "does not pass: (?!.*forged)"),
        (b"\n> 1\n\n> " * 50, "does not pass"),
    ],
)
def test_the_check_of_the_router_waits_for_the_final_answer(
    here: World, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    monkeypatch.setattr(local_router, "_ATTACH_S", 2.0 if not said else 0.6)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listening.accept()[0] as connection:
                        asked.append(connection.recv(4096))
                        for at in range(0, len(answer), 7_000):
                            connection.sendall(answer[at : at + 7_000])
                            time.sleep(0.01)

        threading.Thread(target=serve, daemon=True).start()
        here.router.ensure(here.plan(health_path="/up?x=1&y=%20z", health_host="shop.example:8443"))
        target = Target(name="app", address="127.0.0.1", port=listening.getsockname()[1])
        with pytest.raises(RouterError, match=said) if said else contextlib.nullcontext() as caught:
            here.router.attach(ENV, [target])
        assert caught is None or all(sign.isprintable() for sign in caught.value.message), "of the answer, only digits"
        listening.shutdown(socket.SHUT_RDWR)
    assert asked[0].startswith(b"GET /up?x=1&y=%20z HTTP/1.1\r\nHost: shop.example:8443\r\nUser-Agent: instar\r\n")
