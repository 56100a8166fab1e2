"""Services of other kinds than HTTP with shared data: workers, TCP, data that only one release may have."""

from __future__ import annotations

import socket
import threading

import pytest
from project import Project, wait_for

pytestmark = pytest.mark.root


def test_a_worker_has_no_port_and_no_traffic(project: Project) -> None:
    project.edit("  port: 8080\n", "")
    project.edit("health: {path: /cgi-bin/health, ", "health: {command: [sh, -c, test -d /srv], ")
    project.edit(f"    listen: 127.0.0.1:{project.ports['dev']}\n", "")
    project.edit(f"    listen: 127.0.0.1:{project.ports['production']}\n", "")
    project.edit("command: [/srv/serve]", "command: [sh, -c, 'echo working; exec sleep 1000']")
    assert project.json("deploy", "dev")["outcome"] == "done"
    assert "working" in project.instar("logs", "dev").out
    project.edit("echo working", "echo working more")
    assert project.json("deploy", "dev")["release"] == 2
    assert project.json("rollback", "dev")["release"] == 1


def test_a_service_over_tcp(project: Project) -> None:
    project.edit("  port: 8080\n", "  port: 7000\n  protocol: tcp\n")
    project.edit("{path: /cgi-bin/health, ", "{tcp: true, ")
    project.edit("command: [/srv/serve]", "command: [busybox, nc, -ll, -p, '7000', -e, cat, /srv/version]")

    def greeting() -> bytes:
        with socket.create_connection(("127.0.0.1", project.ports["dev"]), timeout=10) as connection:
            return connection.recv(100)

    project.instar("deploy", "dev")
    assert greeting() == b"1\n"
    project.set_version("2")
    project.instar("deploy", "dev")
    assert greeting() == b"2\n"
    project.instar("rollback", "dev")
    assert greeting() == b"1\n"


def test_an_exclusive_volume_is_never_had_by_two_releases(project: Project) -> None:
    """Each start writes its lock and fails if there is one: two at once would be seen."""
    project.edit("\nenvironments:", "  volumes: [{name: data, path: /var/lib/hello}]\n\nenvironments:")
    project.edit("instances: 2", "instances: 1")
    serve = (project.folder / "app/serve").read_text()
    lock = 'mkdir /var/lib/hello/lock || exit 9\ntrap "rmdir /var/lib/hello/lock; exit" TERM\n'
    serve = serve.replace("case", lock + "case", 1).replace("exec busybox httpd -f -p 8080 -h /srv/www", "")
    (project.folder / "app/serve").write_text(serve + "busybox httpd -f -p 8080 -h /srv/www &\nwait\n")
    project.instar("deploy", "dev")
    for version in "23":
        project.set_version(version)
        deployed = project.json("deploy", "dev")
        assert deployed["outcome"] == "done"
        assert deployed["gap_ms"] > 0, "the gap is measured and told"
        assert project.get() == f"hello from version {version}\n"
    assert project.json("rollback", "dev")["outcome"] == "done"
    assert project.get() == "hello from version 2\n"


def test_data_on_a_volume_outlives_releases(project: Project) -> None:
    volume = "  volumes: [{name: data, path: /var/lib/hello, access: shared}]\n\nenvironments:"
    project.edit("\nenvironments:", volume)
    project.edit("command: [/srv/serve]", "command: [sh, -c, 'date >>/var/lib/hello/starts; exec /srv/serve']")
    project.instar("deploy", "dev")
    project.set_version("2")
    project.instar("deploy", "dev")
    starts = project.home / "volumes/hello/dev/data/starts"
    assert len(starts.read_text().splitlines()) == 2


def test_data_of_a_volume_is_kept_copied_and_brought_back(project: Project) -> None:
    volume = "  volumes: [{name: data, path: /var/lib/hello, access: shared}]\n\nenvironments:"
    project.edit("\nenvironments:", volume)
    project.edit("command: [/srv/serve]", "command: [sh, -c, 'date >>/var/lib/hello/starts; exec /srv/serve']")
    project.instar("deploy", "dev")
    starts = project.home / "volumes/hello/dev/data/starts"
    assert "snapshot 1 of 'data' of hello/dev" in project.instar("volumes", "snapshot", "hello/dev", "data").out
    project.instar("volumes", "copy", "hello/dev", "data", "hello/staging")
    project.set_version("2")
    project.instar("deploy", "dev")
    assert len(starts.read_text().splitlines()) == 2
    refused = project.try_instar("volumes", "restore", "hello/dev", "data", "1")
    assert refused.status == 64 and "stops hello-dev-1-" in refused.err and "nothing was changed" in refused.err
    project.instar("destroy", "dev", "--yes")
    assert "what it held before is snapshot 2" in project.instar("volumes", "restore", "hello/dev", "data", "1").out
    assert len(starts.read_text().splitlines()) == 1
    project.instar("deploy", "dev")
    assert len(starts.read_text().splitlines()) == 2
    assert project.get() == "hello from version 2\n"
    assert len((project.home / "volumes/hello/staging/data/starts").read_text().splitlines()) == 1
    kept = project.json("volumes", "snapshots")
    assert [(one["number"], one["running"]) for one in kept] == [(1, True), (2, False)]
    kinds = [one["kind"] for one in project.json("history", "hello/dev")]
    assert kinds.count("snapshot") == 2 and "volume-restored" in kinds
    for number in ("1", "2"):
        project.instar("volumes", "remove", "hello/dev", "data", "--snapshot", number, "--yes")
    assert project.json("volumes", "snapshots") == []
    project.instar("volumes", "remove", "hello/staging", "data", "--yes")


def test_requests_in_flight_are_finished_before_an_instance_goes(project: Project) -> None:
    project.edit("dev:\n", "dev:\n    keep: {hot: 0, releases: 5}\n")
    project.instar("deploy", "dev")
    answers: list[str] = []
    slow = threading.Thread(target=lambda: answers.append(project.get(path="/cgi-bin/hello?sleep=2")))
    slow.start()
    project.set_version("2")
    deployed = project.json("deploy", "dev")
    slow.join()
    assert answers == ["hello from version 1\n"]
    assert deployed["cut"] == 0
    wait_for(lambda: len(project.instance_ids()) == 1, "the old instance stayed though nothing is kept hot")


def test_several_instances_share_the_traffic(project: Project) -> None:
    project.edit("dev:\n", "dev:\n    instances: 3\n")
    project.edit("command: [/srv/serve]", "command: [sh, -c, 'GREETING=$INSTAR_INSTANCE exec /srv/serve']")
    project.instar("deploy", "dev")
    status = project.json("status", "dev")
    assert [instance["healthy"] for instance in status["releases"][0]["instances"]] == [True] * 3
    answered = {project.get().split()[0] for _ in range(12)}
    assert answered == {"hello-dev-1-1", "hello-dev-1-2", "hello-dev-1-3"}
