"""Checks over HTTP against real sockets, and what holds them up."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from instar.model.environment import Check
from instar.providers.base import Probe
from instar.providers.local import checks

OK = b"HTTP/1.1 200 OK\r\n\r\n"
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve, address: str = "127.0.0.1") -> Iterator[int]:
    """Let ``serve`` have one connection; yield the port."""
    with socket.create_server((address, 0)) as server:
        server.settimeout(5)

        def answer() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.settimeout(5)
                serve(connection)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def saying(answer: bytes, seen: list[bytes] | None = None) -> Serve:
    def serve(connection: socket.socket) -> None:
        asked = connection.recv(4096)
        if seen is not None:
            seen.append(asked)
        connection.sendall(answer)

    return serve


def dripping(head: bytes) -> Serve:
    """Say ``head``, then a byte at a time for as long as somebody listens."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(head)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            connection.sendall(b"x")
            time.sleep(0.02)

    return serve


def http(**fields: object) -> Check:
    return Check(kind="http", path="/x", timeout_ms=500, **fields)  # type: ignore[arg-type]


def url(address: str, **fields: object) -> Check:
    return Check(**({"kind": "url", "url": address, "timeout_ms": 500} | fields))  # type: ignore[arg-type]


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize(
    ("answer", "check", "cause"),
    [
        (OK, http(), ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", http(), ""),
        (b"HTTP/1.1 500 Oh\r\n\r\n", http(), "GET /x answered 500"),
        (b"HTTP/1.1 404 Oh\r\n\r\n", http(status=404), ""),
        (b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n" + OK + b"yes", http(contains="yes"), ""),
        (b"HTTP/1.1 102 Wait\r\n\r\n" * 3 + b"HTTP/1.1 500 Oh\r\n\r\n", http(), "GET /x answered 500"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" + b"SSH-2.0\r\n", http(), "GET /x was answered with something that is not HTTP"),
        (OK, http(status=404), "GET /x answered 200, not 404"),
        (OK + b"all is well", http(contains="is well"), ""),
        (OK + b"all is well", http(contains="ell"), ""),
        (OK + b"all is well", http(contains="bad"), "GET /x does not contain 'bad'"),
        (OK + "schön".encode(), http(contains="schön"), ""),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=latin-1\r\n\r\nsch\xf6n", http(contains="schön"), ""),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=none\r\n\r\nyes", http(contains="yes"), ""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nye\r\n1\r\ns\r\n0\r\n\r\n",
            http(contains="yes"),
            "",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", http(contains="yes"), ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", http(contains="yes"), "GET /x does not contain 'yes'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno", http(contains="yes"), "GET /x does not contain 'yes'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", http(contains="yes"), "GET /x does not contain 'yes'"),
        (b"HTTP/1.1 204 None\r\n\r\n", http(contains="yes"), "GET /x does not contain 'yes'"),
        (b"HTTP/1.1 204 None\r\n\r\n", http(), ""),
        (b"HTTP/1.1 500 Oh\r\n\r\nyes", http(contains="yes"), "GET /x answered 500"),
        (OK + b"x" * (1 << 20) + b"late", http(contains="late"), "GET /x does not contain 'late'"),
        (OK + b"x" * ((1 << 20) - 4) + b"last", http(contains="last"), ""),
        (b"SSH-2.0-OpenSSH\r\n", http(), "GET /x was answered with something that is not HTTP"),
        (b"HTTP/1.1 \x1b[2J OK\r\n\r\n", http(), "GET /x was answered with something that is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nye",
            http(contains="yes"),
            "GET /x broke off in the middle of its answer",
        ),
    ],
)
def test_an_answer_is_judged(answer: bytes, check: Check, cause: str) -> None:
    seen: list[bytes] = []
    patient = replace(check, timeout_ms=5_000)
    with serving(saying(answer, seen)) as port:
        assert checks.ask_http("127.0.0.1", port, patient, "localhost") == Probe(healthy=not cause, cause=cause)
    assert seen[0].startswith(b"GET /x HTTP/1.1\r\n") and b"\r\nHost: localhost\r\n" in seen[0]


@pytest.mark.parametrize(("check", "host"), [(http(), "shop.example"), (http(host="other.example"), "other.example")])
def test_a_request_names_the_host_that_the_health_check_does_or_one_of_its_own(check: Check, host: str) -> None:
    seen: list[bytes] = []
    with serving(saying(OK, seen)) as port:
        assert checks.ask_http("127.0.0.1", port, check, "shop.example").healthy
    assert f"\r\nHost: {host}\r\n".encode() in seen[0]


def test_an_answer_that_never_comes_is_waited_for_no_longer_than_it_may_take() -> None:
    with no_longer_than(2), serving(lambda connection: connection.recv(1) and time.sleep(0.7)) as port:
        assert checks.ask_http("127.0.0.1", port, http(), "localhost").cause == "GET /x did not answer within 0.5 s"


@pytest.mark.parametrize(
    ("head", "check", "cause"),
    [
        (b"", http(), "GET /x did not answer within 0.5 s"),
        (b"HTTP/1.1 200 OK\r\nX: ", http(), "GET /x did not answer within 0.5 s"),
        (OK, http(contains="y"), "GET /x did not end its answer within 0.5 s"),
        (OK, http(contains="xxx"), ""),
        (OK, http(), ""),
        (b"HTTP/1.1 503 Oh\r\n\r\n", http(contains="y"), "GET /x answered 503"),
    ],
)
def test_an_answer_without_end_holds_nobody_up(head: bytes, check: Check, cause: str) -> None:
    with no_longer_than(2), serving(dripping(head)) as port:
        assert checks.ask_http("127.0.0.1", port, check, "localhost") == Probe(healthy=not cause, cause=cause)


def test_no_answer_is_said() -> None:
    with serving(lambda connection: None) as port:
        cause = f"the connection to port {port} was closed without an answer"
        assert checks.ask_http("127.0.0.1", port, http(), "localhost").cause == cause
    with socket.socket() as closed:  # it has the port, so that nobody else listens there meanwhile
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert checks.ask_http("127.0.0.1", port, http(), "localhost").cause == f"connection refused on port {port}"
        address = f"http://127.0.0.1:{port}/x"
        assert checks.ask_url(url(address)).cause == f"GET {address}: connection refused on port {port}"


def test_what_is_asked_for_is_sent_as_http_has_it() -> None:
    seen: list[bytes] = []
    with serving(saying(OK, seen)) as port:
        assert checks.ask_http("127.0.0.1", port, Check(kind="http", path="/ü b?q=%20&r=\n"), "localhost").healthy
    assert seen[0].startswith(b"GET /%C3%BC%20b?q=%20&r=%0A HTTP/1.1\r\n")


def test_a_url_is_asked_by_its_own_name() -> None:
    seen: list[bytes] = []
    with serving(saying(OK + b"yes", seen)) as port:
        assert checks.ask_url(url(f"http://LocalHost:{port}?a=b#c", contains="yes")).healthy
    assert seen[0].startswith(b"GET /?a=b HTTP/1.1\r\n") and f"\r\nHost: localhost:{port}\r\n".encode() in seen[0]


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://[::1", "GET http://[::1: that is no address to ask (Invalid IPv6 URL)"),
        ("http://a:99999/", "GET http://a:99999/: that is no address to ask (Port out of range 0-65535)"),
        ("ftp://a/", "GET ftp://a/: that is no address to ask (it begins with http:// or https:// and a name)"),
        (
            "http://me:secret@a/",
            "GET http://a/: that is no address to ask (a name and a password in it would not be sent)",
        ),
    ],
)
def test_what_is_no_address_is_said(address: str, cause: str) -> None:
    assert checks.ask_url(url(address)) == Probe(healthy=False, cause=cause)


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **fields: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert checks.ask_url(url("https://nobody.example/x")).cause == (
        "GET https://nobody.example/x: the name 'nobody.example' is not known (Name or service not known)"
    )


def test_a_silent_name_server_holds_nobody_up_and_nothing_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, answered, threads = socket.getaddrinfo, threading.Event(), []

    def silent(*args: object, **fields: object) -> object:
        threads.append(threading.current_thread())
        answered.wait(5)
        return genuine(*args, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://localhost:{server.getsockname()[1]}/x"
        with no_longer_than(2):
            assert checks.ask_url(url(address)).cause == f"GET {address} did not answer within 0.5 s"
        answered.set()
        threads[0].join(5)
        assert not threads[0].is_alive()
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_next_address_is_tried_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(saying(OK)) as port, socket.create_server(("127.0.0.1", 0)) as refusing:
        nobody = refusing.getsockname()[1]
        refusing.close()
        both = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each)) for each in (nobody, port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **fields: both)
        assert checks.ask_url(url(f"http://some.example:{port}/")).healthy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 'localhost', and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *names]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(["openssl", "req", "-x509", *made, *files], check=True, capture_output=True)
    both = folder / "both"
    both.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
    return both


def secured(certificate: Path, serve: Serve) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def with_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            serve(inside)

    return with_tls


def test_tls_with_a_certificate_that_is_known(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    seen: list[bytes] = []
    with serving(secured(certificate, saying(OK + b"yes", seen))) as port:
        assert checks.ask_url(url(f"https://localhost:{port}/x", contains="yes", timeout_ms=3_000)) == Probe(
            healthy=True
        )
    assert f"\r\nHost: localhost:{port}\r\n".encode() in seen[0]


def test_tls_that_cannot_be_trusted_is_said(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(secured(certificate, saying(OK))) as port:
        cause = checks.ask_url(url(f"https://localhost:{port}/", timeout_ms=3_000)).cause
    assert cause == (
        f"GET https://localhost:{port}/: the certificate of 'localhost' is not valid: self-signed certificate"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(secured(certificate, saying(OK))) as port:
        cause = checks.ask_url(url(f"https://127.0.0.1:{port}/", timeout_ms=3_000)).cause
    assert "the certificate of '127.0.0.1' is not valid: IP address mismatch" in cause
    with serving(saying(OK)) as port:
        cause = checks.ask_url(url(f"https://localhost:{port}/", timeout_ms=3_000)).cause
    assert f"port {port} does not speak TLS as it should" in cause


def test_tls_holds_nobody_up(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with no_longer_than(2), serving(lambda connection: time.sleep(0.7)) as port:
        assert "did not answer within 0.5 s" in checks.ask_url(url(f"https://localhost:{port}/")).cause
    with no_longer_than(3), serving(secured(certificate, dripping(b"HTTP/1.1 200 OK\r\nX: "))) as port:
        assert "did not answer within 1 s" in checks.ask_url(url(f"https://localhost:{port}/", timeout_ms=1_000)).cause


def test_no_thread_stays() -> None:
    with serving(dripping(OK)) as port:
        assert not checks.ask_http("127.0.0.1", port, http(contains="y"), "localhost").healthy
    until = time.monotonic() + 5
    while any(thread.name == "http-get" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
