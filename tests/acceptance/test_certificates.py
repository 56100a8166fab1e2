"""Names of https, from their first certificate on: of this machine's own authority, of files, and by ACME."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from project import Project, wait_for

from free_ports import free_port
from instar.certificates.own_authority import OwnAuthority
from pebble import Pebble, running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are root's")


@dataclass
class Visitor:
    """Who asks the edge of a project by https, and trusts ``roots``."""

    port: int
    roots: str = ""
    failed: list[str] = field(default_factory=list)
    answered: int = 0

    def get(self, name: str = "shop.test") -> tuple[str, dict[str, Any]]:
        """Return what is answered, and the certificate that was shown and trusted."""
        context = ssl.create_default_context(cadata=self.roots)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection = http.client.HTTPConnection(name, timeout=10)
        connection.sock = context.wrap_socket(plain, server_hostname=name)
        shown = connection.sock.getpeercert()
        connection.request("GET", "/cgi-bin/hello")
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer, dict(shown or {})

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask again and again meanwhile; count what was not answered."""
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    assert self.get()[0] == "hello from version 1\n"
                    self.answered += 1
                except Exception as error:
                    self.failed.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def edge(project: Project) -> tuple[int, int]:
    """Give the project's machine an edge; return its ports of http and of https."""
    http_port, https_port = free_port(), free_port()
    configure(project, (http_port, https_port))
    return http_port, https_port


def configure(project: Project, ports: tuple[int, int], more: str = "") -> None:
    text = f"edge: {{http: '127.0.0.1:{ports[0]}', https: '127.0.0.1:{ports[1]}'}}\n{more}"
    (project.home / "config.yaml").write_text(text)
    (project.home / "config.yaml").chmod(0o600)


def name_it(project: Project, tls: str | None, names: str = "shop.test") -> None:
    lines = f"listen: {{https: {names}}}" + (f"\n    tls: {tls}" if tls else "")
    project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", lines)


def fingerprints(project: Project) -> list[str]:
    return [one["fingerprint"] for one in project.json("certificates")]


def test_of_this_machines_own_authority_it_is_there_with_the_first_deploy(
    project: Project, edge: tuple[int, int]
) -> None:
    name_it(project, "internal", "[shop.test, www.shop.test]")
    project.instar("deploy", "dev")
    visitor = Visitor(edge[1], roots=project.instar("certificates", "--ca").out)
    answer, shown = visitor.get()
    assert answer == "hello from version 1\n"
    assert ("DNS", "shop.test") in shown["subjectAltName"]
    assert visitor.get("www.shop.test")[0] == answer
    listed = project.json("certificates")
    assert [one["names"] for one in listed] == [["shop.test"], ["www.shop.test"]]
    assert all(one["served"] and one["error"] is None and one["days_left"] > 0 for one in listed)
    assert "shop.test" in project.instar("certificates", "list", "dev").out

    before = fingerprints(project)
    with visitor.asking():
        for _ in range(3):
            project.instar("certificates", "renew", "dev", "--force")
    assert (visitor.failed, visitor.answered > 10) == ([], True)
    renewed = fingerprints(project)
    assert not set(before) & set(renewed)
    project.edit("GREETING: hello", "GREETING: hi")
    project.instar("deploy", "dev")
    project.instar("rollback", "dev")
    assert fingerprints(project) == renewed, "no rollback brings an older one back"
    events = [event["detail"] for event in project.json("history", "dev") if event["kind"] == "certificate"]
    assert {event["fingerprint"] for event in events} >= {*before, *renewed}
    assert not any("PRIVATE" in path.read_text(errors="replace") for path in (project.home / "ledger").glob("*"))
    assert project.json("drift", "dev")["clean"]


def test_gc_removes_what_no_name_needs_any_more_and_nothing_that_is_shown(
    project: Project, edge: tuple[int, int]
) -> None:
    name_it(project, "internal", "[shop.test, www.shop.test]")
    project.instar("deploy", "dev")
    visitor = Visitor(edge[1], roots=project.instar("certificates", "--ca").out)
    project.edit("[shop.test, www.shop.test]", "shop.test")
    project.instar("deploy", "dev")
    own = project.home / "certificates/internal"
    copies = project.home / "edge/certificates"
    assert {path.name for path in own.iterdir()} == {"shop.test", "www.shop.test"}
    assert "would remove the certificate internal/www.shop.test, and its key" in project.instar("gc", "--dry-run").out
    assert {path.name for path in own.iterdir()} == {"shop.test", "www.shop.test"} and len(list(copies.iterdir())) == 2

    with visitor.asking():
        assert project.json("gc")["certificates"] == ["internal/www.shop.test"]
    assert (visitor.failed, visitor.answered > 0) == ([], True)
    assert [path.name for path in own.iterdir()] == ["shop.test"] and len(list(copies.iterdir())) == 1
    with pytest.raises(ssl.SSLError):
        visitor.get("www.shop.test")
    project.instar("gc", "--all")
    assert visitor.get()[0] == "hello from version 1\n"
    assert project.json("drift", "dev")["clean"]
    project.instar("destroy", "dev", "--yes")
    assert "removed the certificate internal/shop.test, and its key" in project.instar("gc").out
    assert list(own.iterdir()) == [] and not copies.exists()
    assert project.instar("certificates", "--ca").out == visitor.roots, "whom clients trust stays"


def test_of_files_it_is_checked_before_anything_is_changed(
    project: Project, edge: tuple[int, int], tmp_path: Path
) -> None:
    authority, now = OwnAuthority(tmp_path / "authority", "test"), datetime.now(UTC)
    pair, other = authority.issue(["shop.test"], now), authority.issue(["other.test"], now)
    name_it(project, "{certificate: shop.pem, key: shop.key}")
    cases = {
        b"": (pair.key, "shop.pem", "tls.certificate"),
        pair.chain: (other.key, "shop.key", "tls.key"),
        other.chain: (other.key, "shop.test", "tls.certificate"),
    }
    for chain, (key, said, where) in cases.items():
        (project.folder / "shop.pem").write_bytes(chain)
        (project.folder / "shop.key").write_bytes(key)
        for words in (("validate",), ("deploy", "dev", "--plan"), ("deploy", "dev")):
            refused = project.try_instar(*words)
            assert refused.status == 1
            assert f"environments.dev.{where}: " in refused.err and said in refused.err
            assert "instar.yaml:" in refused.err
        assert project.json("status") == []
    (project.folder / "shop.pem").write_bytes(pair.chain)
    (project.folder / "shop.key").write_bytes(pair.key)
    project.instar("deploy", "dev")
    visitor = Visitor(edge[1], roots=authority.root(now).decode())
    assert visitor.get()[0] == "hello from version 1\n"
    newer = authority.issue(["shop.test"], now)
    (project.folder / "shop.pem").write_bytes(newer.chain)
    (project.folder / "shop.key").write_bytes(newer.key)
    planned = project.try_instar("deploy", "dev", "--plan")
    assert planned.status == 2 and "no new release: its certificate changes" in planned.out
    with visitor.asking():
        deployed = project.instar("deploy", "dev")
    assert f"shop.test: the certificate is {newer.certificate.fingerprint[:12]}" in deployed.err
    assert visitor.failed == []
    assert fingerprints(project) == [newer.certificate.fingerprint]
    assert project.try_instar("deploy", "dev", "--plan").status == 0
    assert project.json("certificates")[0]["served"]


@pytest.fixture
def authority(project: Project, edge: tuple[int, int], tmp_path: Path) -> Iterator[Pebble]:
    made = Pebble(tmp_path, edge[0])
    with running(made):
        configure(project, edge, f"acme: {{directory: '{made.directory}', ca: {made.ca}, check: false}}\n")
        yield made


def test_by_acme_the_agent_orders_it_and_a_killed_one_is_gone_on_with(
    project: Project, edge: tuple[int, int], authority: Pebble
) -> None:
    name_it(project, None)
    done = project.instar("deploy", "dev")
    assert "shop.test: no certificate yet, and no agent runs here" in done.err
    assert "instar certificates renew shop.test" in done.err
    visitor = Visitor(edge[1], roots=authority.root())
    with pytest.raises(ssl.SSLError):
        visitor.get()
    agent = project.start("agent")
    try:
        wait_for(lambda: "order.json" in kept(project), "no order was begun", timeout_s=20)
        agent.send_signal(signal.SIGKILL)
        agent.communicate()
        assert not (project.home / "certificates/acme/shop.test/certificate.pem").exists()
        agent = project.start("agent")
        wait_for(lambda: answers(visitor), "the agent got no certificate", timeout_s=30)
        assert authority.log.count("Added order") == 1, "the order that was under way was gone on with"
        with visitor.asking():
            project.instar("certificates", "renew", "shop.test", "--force")
        assert visitor.failed == []
        assert "order.json" not in kept(project)
    finally:
        agent.send_signal(signal.SIGTERM)
        out, _ = agent.communicate(timeout=20)
    assert "shop.test has a new certificate, until" in out


def kept(project: Project) -> set[str]:
    folder = project.home / "certificates/acme/shop.test"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def answers(visitor: Visitor) -> bool:
    with contextlib.suppress(OSError):
        return bool(visitor.get()[0])
    return False


def test_a_name_that_does_not_lead_here_is_told_and_nothing_is_ordered(
    project: Project, edge: tuple[int, int], authority: Pebble
) -> None:
    configure(project, edge, f"acme: {{directory: '{authority.directory}', ca: {authority.ca}}}\n")
    name_it(project, None, "shop.invalid")
    project.instar("deploy", "dev")
    refused = project.try_instar("certificates", "renew", "dev")
    assert refused.status == 1
    assert "cannot order a certificate of 'shop.invalid': the name has no address" in refused.err
    assert authority.log.count("Added order") == 0
    (listed,) = project.json("certificates")
    assert (listed["failures"], listed["fingerprint"]) == (1, None)
    assert "shop.invalid" in listed["error"]
    assert project.json("history", "dev")[-1]["kind"] == "certificate-failed"
