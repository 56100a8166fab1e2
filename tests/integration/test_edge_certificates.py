"""The edge ends TLS: certificates come and go as it runs, and it answers who asks whether names lead here."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld, certificate
from router_world import until

from instar.errors import RouterError
from instar.model.definition import Headers
from instar.model.host_names import HostNames
from instar.providers.edge import EdgeCertificate
from instar.router.edge.certificates import first_certificate

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path)
    yield made
    made.end()


def test_a_certificate_is_shown_without_a_reload_and_renewed(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test", "b.test")))
    record = world.edge.files.record()
    with pytest.raises(ssl.SSLError):
        world.get_secure("a.test")
    first = certificate(tmp_path, "a.test", "b.test")
    world.edge.serve(first)
    for name in first.names:
        answer, shown = world.get_secure(name)
        assert answer.body == b"shop"
        assert shown == first_certificate(first.chain)
    fingerprint = hashlib.sha256(first_certificate(first.chain)).hexdigest()
    assert world.edge.served() == {"a.test": fingerprint, "b.test": fingerprint}
    second = certificate(tmp_path, "a.test")
    world.edge.serve(second)
    world.edge.serve(second)
    assert world.get_secure("a.test")[1] == first_certificate(second.chain)
    assert world.get_secure("b.test")[1] == first_certificate(first.chain)
    world.edge.withdraw(["b.test"])
    with pytest.raises(ssl.SSLError):
        world.get_secure("b.test")
    assert set(world.edge.served()) == {"a.test"}
    assert world.edge.files.record() == record
    os.kill(world.edge.files.record().haproxy.pid, signal.SIGKILL)  # type: ignore[union-attr]
    until(lambda: world.edge.files.record() != record)
    assert world.get_secure("a.test")[1] == first_certificate(second.chain)
    mode = {path.stat().st_mode & 0o777 for path in (world.edge.files.directory / "certificates").iterdir()}
    assert mode == {0o600}


def test_a_certificate_that_was_there_before_the_edge_is_shown_from_its_beginning(
    world: EdgeWorld, tmp_path: Path
) -> None:
    made = certificate(tmp_path, "*.a.test")
    world.edge.serve(made)
    assert world.edge.served() == {}
    world.open(SHOP, HostNames(https=("*.a.test",)))
    assert world.get_secure("x.a.test")[0].body == b"shop"
    assert set(world.edge.served()) == {"*.a.test"}
    with pytest.raises(ssl.SSLError):
        world.get_secure("a.test")


def test_what_is_no_certificate_changes_nothing(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test",)))
    first, other = certificate(tmp_path, "a.test"), certificate(tmp_path, "b.test")
    world.edge.serve(first)
    strange = EdgeCertificate(names=("a.test",), chain=first.chain, key=other.key)
    with pytest.raises(RouterError, match=r"cannot show the certificate of a\.test: its key is another's"):
        world.edge.serve(strange)
    for chain in ("", "nonsense\n\nshow info", first.chain.replace("A", "\n\n", 1) + "\nquit"):
        with pytest.raises(RouterError, match="cannot show"):
            world.edge.serve(EdgeCertificate(names=("a.test",), chain=chain, key=first.key))
    with pytest.raises(RouterError, match="it is no name"):
        world.edge.serve(EdgeCertificate(names=("../x",), chain=first.chain, key=first.key))
    assert world.get_secure("a.test")[1] == first_certificate(first.chain)


def test_a_change_that_was_given_up_half_way_is_no_obstacle(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test", "b.test")))
    first, second = certificate(tmp_path, "a.test"), certificate(tmp_path, "b.test")
    pem = first.chain + first.key
    world.edge.haproxy.ask("new ssl cert certificates/a.test.pem", f"set ssl cert certificates/a.test.pem <<\n{pem}")
    world.edge.serve(second)
    world.edge.serve(first)
    assert world.get_secure("a.test")[0].body == b"shop"
    assert world.get_secure("b.test")[0].body == b"shop"


def test_who_asks_by_http_is_sent_to_https(world: EdgeWorld, tmp_path: Path) -> None:
    names = HostNames(https=("a.test",), http=("c.test",), redirect={"www.a.test": "a.test", "d.test": "c.test"})
    world.open(
        SHOP, HostNames(**{name: getattr(names, name) for name in ("https", "http", "redirect")}, hsts_ms=86_400_000)
    )
    world.edge.serve(certificate(tmp_path, "a.test", "www.a.test", "c.test"))
    for name in ("a.test", "www.a.test"):
        answer = world.get(name, "/p/a?q=1&r=/x")
        assert answer.status == 308
        assert answer.headers["location"] == f"https://a.test:{world.https}/p/a?q=1&r=/x"
        assert "strict-transport-security" not in answer.headers
    answer, _ = world.get_secure("www.a.test", "/p?q")
    assert (answer.status, answer.headers["location"]) == (308, f"https://a.test:{world.https}/p?q")
    assert world.get("d.test", "/p").headers["location"] == f"http://c.test:{world.http}/p"
    answer, _ = world.get_secure("a.test")
    assert answer.headers["strict-transport-security"] == "max-age=86400"
    assert "strict-transport-security" not in world.get("c.test").headers
    assert world.get_secure("c.test")[0].status == 421  # nobody asked for it by https


def test_a_host_that_is_not_the_one_of_the_handshake_is_misdirected(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test",)))
    world.open(BLOG, HostNames(https=("b.test",)))
    world.edge.serve(certificate(tmp_path, "a.test", "b.test"))
    assert world.get_secure("a.test", host="b.test")[0].status == 421
    assert world.get_secure("a.test", host=f"A.Test:{world.https}")[0].body == b"shop"
    assert world.get_secure("A.test", host="a.test.")[0].body == b"shop"
    seen = world.get_secure("b.test", "/echo")[0].body.decode().lower()
    assert "x-forwarded-proto: https\r\n" in seen
    assert f"x-forwarded-port: {world.https}\r\n" in seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_old_version_of_tls_and_http_2_by_alpn(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test",)))
    world.edge.serve(certificate(tmp_path, "a.test"))

    def agreed(highest: ssl.TLSVersion) -> tuple[str | None, str | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, highest
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(("127.0.0.1", world.https), timeout=5)
        with plain, context.wrap_socket(plain, server_hostname="a.test") as one:
            return one.version(), one.selected_alpn_protocol()

    assert agreed(ssl.TLSVersion.TLSv1_3) == ("TLSv1.3", "h2")
    assert agreed(ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", "h2")
    with pytest.raises(ssl.SSLError):
        agreed(ssl.TLSVersion.TLSv1_1)
    argv = ["curl", "-sk", "--http2", "--noproxy", "*", "--resolve", f"a.test:{world.https}:127.0.0.1"]
    argv += ["-w", "%{http_version}", f"https://a.test:{world.https}/"]
    assert subprocess.run(argv, capture_output=True, timeout=10, check=True).stdout == b"shop2"


def test_challenges_and_nonces_are_answered_where_they_are_asked_for(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(https=("a.test",), http=("b.test",), redirect={"w.test": "a.test"}))
    path, thumbprint = "/.well-known/acme-challenge/tok_en-1", "thumb_print-of-the-key"
    assert world.get("a.test", path).status == 404
    world.edge.answer_challenges(thumbprint)
    for name in ("a.test", "w.test"):
        assert world.get(name, path).body == f"tok_en-1.{thumbprint}".encode()
    for strange in ("/x", "%0d%0ab", "<b>", ""):
        assert world.get("a.test", path + strange).body in (b"no challenge\n", f"tok_en-1.{thumbprint}".encode())
    world.open(BLOG, HostNames(http=("a.test/.well-known", "c.test"), https=("c.test/x",)))
    for name in ("a.test", "c.test"):  # whoever answers here can have certificates of the name
        assert world.get(name, path).body == f"tok_en-1.{thumbprint}".encode()
    assert world.get("a.test", "/.well-known/x").body == b"blog"
    assert world.get("b.test", path).body == b"shop"  # a service may have its own
    assert world.get("unknown.test", path).status == 404
    world.edge.answer_nonce("nonce-1234")
    for name in ("a.test", "b.test", "unknown.test"):
        assert world.get(name, "/.well-known/instar/nonce-1234").body == b"nonce-1234"
        assert world.get(name, "/.well-known/instar/nonce-1235").status == 404
    world.edge.answer_nonce(None)
    world.edge.answer_challenges(None)
    assert world.get("a.test", "/.well-known/instar/nonce-1234").status == 404
    assert world.get("a.test", path).status == 404
    with pytest.raises(RouterError, match="cannot answer with"):
        world.edge.answer_nonce("a b\nshow info")


def test_a_large_certificate_comes_through_whatever_heads_the_service_takes(world: EdgeWorld, tmp_path: Path) -> None:
    world.open(SHOP, HostNames(https=("a.test",)), headers=Headers(size_bytes=1_024, count=10))
    names = [f"{number}.{'long-' * 8}name.test" for number in range(350)]
    made = certificate(tmp_path, "a.test", *names)
    assert 24_000 < len(made.chain) < 32_000
    world.edge.serve(EdgeCertificate(names=("a.test",), chain=made.chain, key=made.key))
    assert world.get_secure("a.test")[0].body == b"shop"
    with pytest.raises(RouterError, match="has more than 32 kB"):
        world.edge.serve(EdgeCertificate(names=("a.test",), chain=made.chain + made.chain, key=made.key))


@pytest.mark.long
def test_who_never_begins_to_speak_is_not_waited_for(world: EdgeWorld, tmp_path: Path) -> None:
    """Connections whose handshake does not come would take all that the edge can have, for as long as it waits."""
    world.open(SHOP, HostNames(https=("a.test",)))
    world.edge.serve(certificate(tmp_path, "a.test"))
    hello = bytes.fromhex("16030100c8010000c4")  # the beginning of one
    silent = [socket.create_connection(("127.0.0.1", world.https), timeout=240) for _ in range(2)]
    silent[1].sendall(hello)
    for one in silent:
        with one:
            assert one.recv(1) == b""
