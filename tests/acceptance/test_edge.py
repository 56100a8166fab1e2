"""A user's services, reached by name through the machine's edge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from project import Project, wait_for

from free_ports import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="instances are root's")


@pytest.fixture
def port(project: Project) -> int:
    """Return the port of http of the project's machine."""
    http, https = free_port(), free_port()
    text = f"edge: {{http: '127.0.0.1:{http}', https: '127.0.0.1:{https}'}}\n"
    (project.home / "config.yaml").write_text(text)
    (project.home / "config.yaml").chmod(0o600)
    return http


def get(port: int, name: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/cgi-bin/hello", headers={"Host": name})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def edge_processes(project: Project) -> tuple[int, int]:
    """Return the pids of the edge's HAProxy and of its holder."""
    record = json.loads((project.home / "edge/holder.json").read_text())
    return record["haproxy"]["pid"], record["process"]["pid"]


def test_a_service_by_name_from_its_first_release_to_its_end(project: Project, port: int) -> None:
    project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", "listen: {http: [a.test, b.test/x]}")
    project.instar("deploy", "dev")
    assert get(port, "a.test") == "hello from version 1\n"
    status = project.json("status", "dev")
    assert status["listen"] == []
    assert status["names"] == [f"http://a.test:{port}", f"http://b.test:{port}/x"]
    assert f"listens on http://a.test:{port}, http://b.test:{port}/x" in project.instar("status", "dev").out
    assert project.json("drift", "dev")["clean"]

    project.edit("GREETING: hello", "GREETING: hi")
    project.instar("deploy", "dev")
    assert get(port, "a.test") == "hi from version 1\n"
    project.instar("rollback", "dev")
    assert get(port, "a.test") == "hello from version 1\n"

    haproxy, _ = edge_processes(project)
    os.kill(haproxy, signal.SIGKILL)
    wait_for(lambda: edge_processes(project)[0] != haproxy, "the holder starts no other HAProxy")
    assert get(port, "a.test") == "hello from version 1\n"
    _, holder = edge_processes(project)
    os.kill(holder, signal.SIGKILL)
    assert get(port, "a.test") == "hello from version 1\n"
    project.instar("agent", "--once")
    assert edge_processes(project)[1] != holder
    assert get(port, "a.test") == "hello from version 1\n"

    project.instar("destroy", "dev", "--yes")
    assert not (project.home / "edge").exists()
    with pytest.raises(urllib.error.URLError):
        get(port, "a.test")
    assert project.traces() == []


@pytest.mark.thorough
def test_a_port_that_another_program_has_is_named_and_nothing_is_changed(project: Project, port: int) -> None:
    import socket

    with socket.create_server(("127.0.0.1", port)):
        project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", "listen: {http: a.test}")
        refused = project.try_instar("deploy", "dev")
    assert refused.status == 1
    assert f"cannot listen on '127.0.0.1:{port}': process {os.getpid()} (" in refused.err
    assert not Path(project.home, "edge").exists()


def test_a_name_belongs_to_one_environment_and_moves_without_losing_a_request(project: Project, port: int) -> None:
    project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", "listen: {http: [a.test, dev.test]}")
    project.instar("deploy", "dev")
    project.edit("listen: {http: [a.test, dev.test]}", "listen: {http: dev.test}")
    project.edit(f"listen: 127.0.0.1:{project.ports['production']}", "listen: {http: a.test}")
    refused = project.try_instar("promote", "dev", "production")
    assert refused.status == 1
    assert "cannot reach 'hello/production' by 'a.test': 'hello/dev' has that name" in refused.err
    assert "--take-names" in refused.err

    failures: list[object] = []
    seen: set[str] = set()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                seen.add(get(port, "a.test"))
            except OSError as error:
                failures.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        project.instar("promote", "dev", "production", "--take-names")
        wait_for(lambda: "good day from version 1\n" in seen, "the name did not move")
    finally:
        ended.set()
        client.join()
    assert failures == []
    assert seen == {"hello from version 1\n", "good day from version 1\n"}
    project.instar("agent", "--once")
    assert get(port, "a.test") == "good day from version 1\n"
    assert project.json("status", "dev")["names"] == [f"http://dev.test:{port}"]
    assert project.json("status", "production")["names"] == [f"http://a.test:{port}"]
    project.instar("history", "--verify")


@pytest.mark.thorough
def test_who_lost_all_names_takes_them_back_with_a_release_that_does_not_fail(project: Project, port: int) -> None:
    named, dev = "listen: {http: a.test}", f"listen: 127.0.0.1:{project.ports['dev']}"
    production = f"listen: 127.0.0.1:{project.ports['production']}"
    project.edit(dev, named)
    project.instar("deploy", "dev")
    project.edit(named, dev)
    project.edit(production, named)
    project.instar("promote", "dev", "production", "--take-names")
    assert get(port, "a.test") == "good day from version 1\n"

    project.edit(named, production)
    project.edit(dev, named)
    project.edit("path: /cgi-bin/health", "path: /none")
    failed = project.try_instar("deploy", "dev", "--take-names")
    assert failed.status == 1 and "GET /none answered 404" in failed.err
    assert get(port, "a.test") == "good day from version 1\n"
    assert project.instar("drift", "dev").status == 0
    project.edit("path: /none", "path: /cgi-bin/hello")
    project.instar("deploy", "dev", "--take-names")
    assert get(port, "a.test") == "hello from version 1\n"


@pytest.mark.thorough
def test_a_name_of_https_with_the_machines_own_authority(project: Project, port: int) -> None:
    secure = int((project.home / "config.yaml").read_text().rpartition(":")[2].rstrip("'}\n"))
    listen = "listen: {https: [a.test, b.test/x], redirect: {w.test: a.test}}\n    tls: internal"
    project.edit(f"listen: 127.0.0.1:{project.ports['dev']}", listen)
    project.instar("deploy", "dev")
    authority = project.folder / "ca.pem"
    authority.write_text(project.instar("certificates", "--ca").out)

    def ask(name: str) -> str:
        """Return what is answered in the end to who asks for a name by http."""
        argv = ["curl", "-sSL", "--noproxy", "*", "--cacert", str(authority)]
        for host, number in ((name, port), (name, secure), ("a.test", secure)):
            argv += ["--resolve", f"{host}:{number}:127.0.0.1"]
        argv.append(f"http://{name}:{port}/cgi-bin/hello")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout or done.stderr

    assert ask("a.test") == "hello from version 1\n"
    assert ask("w.test") == "hello from version 1\n"
    assert project.json("drift", "dev")["clean"]
    project.instar("agent", "--once")
    assert ask("a.test") == "hello from version 1\n"
