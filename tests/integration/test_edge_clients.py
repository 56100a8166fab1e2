"""Names that only clients with a certificate reach, and the keys of sessions that are taken up again."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld, certificate
from router_world import until

from instar.model.host_names import HostNames
from instar.providers.local.log_files import LocalLogFiles

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path)
    yield made
    made.end()


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.certificate = folder / f"{name}.pem"
        self._run(
            "req", "-x509", *_KEY, "-days", "9", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate
        )

    def client(self) -> Path:
        """Return a file with a client's certificate and its key."""
        request, made, key = (self._folder / f"{self._name}-client.{end}" for end in ("csr", "crt", "key"))
        self._run("req", *_KEY, "-subj", "/CN=ann", "-keyout", key, "-out", request)
        self._run(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-days", "9", "-out", made
        )
        both = self._folder / f"{self._name}-client.pem"
        both.write_text(made.read_text() + key.read_text())
        return both

    @property
    def _key(self) -> Path:
        return self._folder / f"{self._name}.key"

    def _run(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def test_only_a_client_that_its_authority_knows_reaches_a_name(world: EdgeWorld, tmp_path: Path) -> None:
    known, other = Authority(tmp_path, "known"), Authority(tmp_path, "other")
    world.edge.serve(certificate(tmp_path, "a.test", "b.test"))
    world.open(SHOP, HostNames(https=("a.test",), client_ca=known.certificate.read_text()))
    world.open(BLOG, HostNames(https=("b.test",)))
    assert world.get_secure("b.test")[0].body == b"blog"
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("a.test")
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("a.test", client=other.client())
    answer, _ = world.get_secure("a.test", "/echo", client=known.client())
    assert re.search(rb"\r\nclient-cert: :[A-Za-z0-9+/=]{200,}:\r\n", answer.body.lower())
    world.expose(SHOP, HostNames(https=("a.test",)))
    assert world.get_secure("a.test")[0].body == b"shop"


def test_the_keys_of_sessions_are_changed_when_it_is_time(world: EdgeWorld, tmp_path: Path) -> None:
    world.edge.serve(certificate(tmp_path, "a.test"))
    world.open(SHOP, HostNames(https=("a.test",)))
    file = world.edge.files.tickets
    before = file.read_text().splitlines()
    world.edge.clear_orphans(lambda: [SHOP])
    assert file.read_text().splitlines() == before
    os.utime(file, (0, 0))
    world.edge.clear_orphans(lambda: [SHOP])
    after = file.read_text().splitlines()
    assert after[:2] == before[1:]
    assert after[2] not in before
    shown = world.edge.haproxy.ask("show tls-keys #0")[0]
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("0.")] == after
    assert world.get_secure("a.test")[0].body == b"shop"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_of_another_name_gives_nobody_a_client_certificate(
    world: EdgeWorld, tmp_path: Path, version: str
) -> None:
    """Sessions that are taken up again skip certificates: they must not be those of a name that asks for none."""
    known = Authority(tmp_path, "known")
    world.edge.serve(certificate(tmp_path, "a.test", "b.test"))
    world.open(SHOP, HostNames(https=("a.test",), client_ca=known.certificate.read_text()))
    world.open(BLOG, HostNames(https=("b.test",)))
    session = tmp_path / "session"

    def ask(name: str, *words: str) -> str:
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{world.https}", "-servername", name, version, *words]
        request = f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        done = subprocess.run(
            [*argv, "-quiet", "-ign_eof"], input=request.encode(), capture_output=True, timeout=20, check=False
        )
        return done.stdout.decode(errors="replace")

    assert "blog" in ask("b.test", "-sess_out", str(session))
    again = ("-sess_in", str(session)) if session.exists() else ()  # with TLS 1.2 there is none to be had
    assert again or version == "-tls1_2"
    assert "shop" not in ask("a.test", *again)
    assert "blog" in ask("b.test", *again)


def test_a_certificate_that_comes_later_is_shown_and_asks_for_clients(world: EdgeWorld, tmp_path: Path) -> None:
    known = Authority(tmp_path, "known")
    world.open(SHOP, HostNames(https=("a.test",), client_ca=known.certificate.read_text()))
    assert world.get("a.test").status == 503
    world.edge.serve(certificate(tmp_path, "a.test"))
    assert world.get("a.test").status == 308
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("a.test")
    assert world.get_secure("a.test", client=known.client())[0].body == b"shop"
    assert world.edge.inspect() == ()
    record = world.edge.files.record()
    world.edge.serve(certificate(tmp_path, "a.test"))
    assert world.edge.files.record() == record
    world.edge.withdraw(["a.test"])
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("a.test", client=known.client())
    assert world.edge.inspect() == ()


def test_a_wildcard_lets_nobody_in_to_a_name_that_asks_for_certificates(world: EdgeWorld, tmp_path: Path) -> None:
    """As long as the name has no certificate of its own, the wildcard's is shown, and nobody is asked for one."""
    known = Authority(tmp_path, "known")
    world.open(SHOP, HostNames(https=("*.a.test",)))
    world.edge.serve(certificate(tmp_path, "*.a.test"))
    world.open(BLOG, HostNames(https=("x.a.test",), client_ca=known.certificate.read_text()))
    assert world.get_secure("y.a.test")[0].body == b"shop"
    assert world.get_secure("x.a.test")[0].status == 503
    world.edge.serve(certificate(tmp_path, "x.a.test"))
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("x.a.test")
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("x.a.test", client=Authority(tmp_path, "other").client())
    assert world.get_secure("x.a.test", client=known.client())[0].body == b"blog"
    assert world.get_secure("y.a.test", host="x.a.test")[0].status == 421


def test_a_name_that_leaves_asks_for_certificates_until_it_is_gone(world: EdgeWorld, tmp_path: Path) -> None:
    known = Authority(tmp_path, "known")
    world.edge.serve(certificate(tmp_path, "a.test", "b.test"))
    world.open(SHOP, HostNames(https=("a.test", "b.test"), client_ca=known.certificate.read_text()))
    world.expose(BLOG, HostNames(), expected=("a.test",))
    for names in (HostNames(https=("b.test",)), HostNames(), HostNames(http=("c.test",))):
        world.expose(SHOP, names)
        with pytest.raises((ssl.SSLError, OSError)):
            world.get_secure("a.test")
        assert world.get_secure("a.test", client=known.client())[0].body == b"shop"


def test_part_of_a_name_says_nothing_about_the_clients_of_the_rest(world: EdgeWorld, tmp_path: Path) -> None:
    known, other = Authority(tmp_path, "known"), Authority(tmp_path, "other")
    world.edge.serve(certificate(tmp_path, "a.test", "b.test"))
    world.open(SHOP, HostNames(https=("a.test",), client_ca=known.certificate.read_text()))
    world.open(BLOG, HostNames(https=("a.test/x", "b.test"), client_ca=other.certificate.read_text()))
    with pytest.raises((ssl.SSLError, OSError)):
        world.get_secure("a.test", client=other.client())
    assert world.get_secure("a.test", client=known.client())[0].body == b"shop"
    assert world.get_secure("a.test", "/x", client=known.client())[0].status == 503  # clients that BLOG does not know
    assert world.get_secure("b.test", client=other.client())[0].body == b"blog"
    world.expose(SHOP, HostNames(https=("a.test",)))
    assert world.get_secure("a.test")[0].body == b"shop"
    assert world.get_secure("a.test", "/x")[0].status == 503


def test_an_environment_s_access_log_has_the_client_of_the_edge(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)), access_log=True)
    connection = http.client.HTTPConnection(world.host, world.http, timeout=10, source_address=("127.0.0.77", 0))
    connection.request("GET", "/cart?token=sesame", headers={"Host": "a.test", "X-Forwarded-For": "1.2.3.4"})
    assert connection.getresponse().status == 200
    connection.close()
    logs = LocalLogFiles(world.state, world.id)
    until(lambda: logs.has_access_log(SHOP) and list(logs.access_lines(SHOP)))
    (line,) = logs.access_lines(SHOP)
    said = json.loads(line.split(" ", 2)[2])
    assert (said["client"], said["host"], said["path"], said["instance"]) == ("127.0.0.77", "a.test", "/cart", "shop")
