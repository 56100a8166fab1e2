"""The agent as a process: what ends is replaced, what was left goes on, and nothing that runs depends on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import load
import pytest
from project import Project, answers, end, free_port, wait_for

pytestmark = pytest.mark.root


@contextlib.contextmanager
def agent(project: Project, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run an agent inside, which looks every half second; it must end well when it is asked to."""
    process = project.start("agent", "--check", "0.5", *words)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.communicate(timeout=40)


def running(project: Project, environment: str = "dev") -> dict[str, int]:
    """Return the pids of the active release's healthy instances."""
    status = project.json("status", environment)
    healthy = {
        one["id"]
        for release in status["releases"]
        for one in release["instances"]
        if release["number"] == status["active"] and one["healthy"]
    }
    found = {}
    for name in sorted(healthy):
        with contextlib.suppress(FileNotFoundError):  # it was removed since
            found[name] = project.pid(name)
    return found


def kinds(project: Project) -> list[str]:
    return [event["kind"] for event in project.json("history", "dev")]


@pytest.fixture
def two(project: Project) -> Project:
    """Dev with two instances."""
    project.edit("config: {GREETING: hello}", "instances: 2\n    config: {GREETING: hello}")
    project.instar("deploy", "dev")
    return project


def test_an_instance_that_dies_is_replaced_at_once(two: Project) -> None:
    before = running(two)
    name, pid = next(iter(before.items()))
    with agent(two), load.running(two.url(), "--rate", "50", "--connections", "4", "--closing", "4") as traffic:
        wait_for(lambda: two.json("status", "dev")["agent"] is not None, "no agent")
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: name not in running(two) and len(running(two)) == 2, "it was not replaced", timeout_s=20)
        assert time.monotonic() - began < 8
        time.sleep(1)
        report = traffic.stop()
    assert report["served"] > 50, "those in flight with the dead one may be lost, and no others"
    assert report["failed"] <= 4, report
    assert set(before) - set(running(two)) == {name}


def test_one_that_no_longer_answers_is_replaced_the_new_one_first(two: Project) -> None:
    name, pid = next(iter(running(two).items()))
    with agent(two):
        os.kill(_served_by(pid), signal.SIGSTOP)
        wait_for(lambda: name not in running(two) and len(running(two)) == 2, "it was not replaced", timeout_s=30)
        wait_for(lambda: name not in two.instance_ids(), "the old one stays", timeout_s=30)
    events = [(event["kind"], event["detail"]) for event in two.json("history", "dev")]
    launched = next(i for i, (kind, detail) in enumerate(events) if kind == "launch" and detail.get("replacing"))
    gone = next(i for i, (kind, detail) in enumerate(events) if kind == "destroyed" and detail["instance"] == name)
    assert events[launched][1]["replacing"] == "unwell" and launched < gone


def _served_by(pid: int) -> int:
    """Return the service's own process, below the init of its instance."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_a_rollout_whose_command_is_gone_goes_on(two: Project) -> None:
    two.edit("instances: 2", "rollout: {strategy: canary, steps: [50], pause: 2s}\n    instances: 2")
    two.set_version("2")
    deploy = two.start("deploy", "dev")
    wait_for(lambda: "step" in kinds(two), "the canary never began", timeout_s=20)
    end(deploy, signal.SIGKILL)
    with agent(two):
        wait_for(lambda: "rollout-done" in kinds(two)[-3:], "nobody went on", timeout_s=20)
        assert two.get() == "hello from version 2\n"
        two.set_version("3")
        left = two.json("deploy", "dev", "--detach")
        assert left["outcome"] == "begun" and left["release"] == 3
        wait_for(lambda: two.json("status", "dev")["active"] == 3, "the agent did not carry it on", timeout_s=20)
    nobody = two.try_instar("deploy", "dev", "--detach")
    assert nobody.status == 1 and "none runs here" in nobody.err


@pytest.mark.thorough
def test_a_release_that_keeps_dying_raises_an_alarm_and_is_left_alone(two: Project) -> None:
    two.edit("instances: 2", "replace: {budget: 2, within: 10m}\n    instances: 1")
    serve = (two.folder / "app/serve").read_text()
    (two.folder / "app/serve").write_text(serve.replace("exec busybox httpd -f", "timeout 1 busybox httpd -f"))
    two.instar("deploy", "dev")
    with agent(two):
        wait_for(lambda: two.json("status", "dev")["alarm"] is not None, "no alarm", timeout_s=40)
        launches = kinds(two).count("launch")
        wait_for(lambda: kinds(two).count("alarm") == 1, "one alarm")
        assert "2 replacements of release 2" in two.json("status", "dev")["alarm"]
        assert kinds(two).count("launch") == launches, "nothing is replaced any more"
        assert two.json("rollback", "dev")["active"] == 1
        assert two.json("status", "dev")["alarm"] is None
        assert answers(two)


@pytest.mark.thorough
def test_what_is_too_old_is_replaced_without_a_failed_request(two: Project) -> None:
    two.edit("deadline: 4s", "deadline: 2s")
    two.edit("instances: 2", "replace: {max_age: 1m}\n    instances: 2")
    two.instar("deploy", "dev")
    old = set(running(two))
    _age(two, seconds=3600)
    with agent(two), load.running(two.url(), "--rate", "50", "--connections", "4") as traffic:
        wait_for(lambda: not old & set(running(two)) and len(running(two)) == 2, "they stay", timeout_s=40)
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert two.json("status", "dev")["alarm"] is None


def _age(project: Project, *, seconds: int) -> None:
    """Write into the ledger that every instance began so long ago."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(project.home / "ledger/instar.db")) as ledger, ledger:
        (guard,) = ledger.execute("SELECT sql FROM sqlite_master WHERE name = 'instances_started'").fetchone()
        ledger.execute("DROP TRIGGER instances_started")  # which forbids just this
        older = "strftime('%Y-%m-%dT%H:%M:%f000Z', started_at, ?)"
        ledger.execute(f"UPDATE instances SET started_at = {older}", (f"-{seconds} seconds",))
        ledger.execute(guard)


def test_a_dead_router_and_a_dead_holder_come_back(two: Project) -> None:
    with agent(two):
        for word in ("haproxy", "holder.py"):
            for line in two.traces():
                if line.startswith("process") and word in line and str(two.home / "routers") in line:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
        wait_for(lambda: answers(two), "no router", timeout_s=20)


@pytest.mark.thorough
def test_once_makes_one_pass_and_ends(two: Project) -> None:
    name, pid = next(iter(running(two).items()))
    os.kill(pid, signal.SIGKILL)
    two.instar("agent", "--once")
    wait_for(lambda: name not in two.instance_ids(), "one pass did nothing")


def test_a_second_agent_is_refused_and_a_killed_one_leaves_all_as_it_was(two: Project) -> None:
    before = running(two)
    with agent(two) as first:
        wait_for(lambda: two.json("status", "dev")["agent"] == first.pid, "no agent")
        refused = two.try_instar("agent")
        assert refused.status == 1 and f"process {first.pid} is one already" in refused.err
        first.kill()
    assert running(two) == before and answers(two)


@pytest.mark.parametrize("waited_for", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_stopped_agent_that_was_taken_over_makes_no_stale_change(two: Project, waited_for: bool) -> None:
    two.edit("  limits: {memory", "  before: [{command: [sleep, '20']}]\n  limits: {memory")
    with agent(two) as stopped:
        wait_for(lambda: two.json("status", "dev")["agent"] is not None, "no agent")
        two.json("deploy", "dev", "--detach")
        wait_for(lambda: kinds(two)[-1] == "started", "the agent did not begin", timeout_s=20)
        stopped.send_signal(signal.SIGSTOP)  # it waits for the task, and holds the environment meanwhile
        if waited_for:
            refused = two.try_instar("rollback", "dev", timeout_s=120)
            assert refused.status == 75 and f"process {stopped.pid}" in refused.err, refused.err
        two.instar("rollback", "dev", "--take-over")
        after = kinds(two)
        stopped.send_signal(signal.SIGCONT)
        stopped.communicate(timeout=20)
        assert stopped.returncode == -signal.SIGKILL
        assert kinds(two) == after and "taken-over" in after
        assert two.json("status", "dev")["active"] == 1


class Hook(BaseHTTPRequestHandler):
    heard: list[dict[str, Any]]
    deaf: int

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if type(self).deaf > 0:
            type(self).deaf -= 1
            self.send_error(500)
            return
        type(self).heard.append(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None: ...


def test_metrics_are_served_and_notices_sent(two: Project) -> None:
    Hook.heard, Hook.deaf = [], 1
    hook = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    port = free_port()
    url = f"http://127.0.0.1:{hook.server_address[1]}/hook"
    with agent(two, "--metrics", f"127.0.0.1:{port}", "--notify-url", url, "--log-format", "json") as process:
        wait_for((two.home / "notified").exists, "it never began to listen")
        two.set_version("2")
        two.instar("deploy", "dev")
        for _ in range(20):
            two.get()
        wait_for(lambda: any(one["kind"] == "rollout-done" for one in Hook.heard), "no notice", timeout_s=20)

        def metrics() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text: str = answer.read().decode()
                return text

        counted = 'instar_requests_total{environment="dev",release="2",service="hello"} 20.0'
        wait_for(lambda: counted in metrics(), metrics)
        assert 'instar_active_release{environment="dev",service="hello"} 2.0' in metrics()
        one = 'environment="dev",id="hello-dev-2-'
        for name in ("processor_seconds_total", "memory_bytes", "sent_bytes_total", "requests_total"):
            assert f"instar_instance_{name}{{{one}" in metrics()
        process.terminate()
        out, err = process.communicate(timeout=30)
    hook.shutdown()
    assert process.returncode == 0, err
    assert all(json.loads(line)["level"] for line in out.splitlines())
    told = next(one for one in Hook.heard if one["kind"] == "rollout-done")
    assert told["text"] == "hello/dev runs release 2" and told["environment"] == "dev"


@pytest.mark.thorough
def test_an_address_for_metrics_that_is_taken(two: Project) -> None:
    failed = two.try_instar("agent", "--metrics", f"127.0.0.1:{two.ports['dev']}")
    assert failed.status == 1 and "cannot serve metrics on" in failed.err and "--metrics" in failed.err
    failed = two.try_instar("agent", "--notify-url", "ftp://somewhere")
    assert failed.status == 64 and "it is not an http or https address" in failed.err


def test_the_unit_has_this_very_command_with_its_options(project: Project) -> None:
    text = project.instar("agent", "--unit", "--metrics", "127.0.0.1:9464", "--notify-command", 'page "on call" 5%').out
    assert f"Environment=INSTAR_HOME={project.home}\n" in text
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith('/instar agent --metrics 127.0.0.1:9464 --notify-command "page \\"on call\\" 5%%"')
    assert "KillMode=process" in text and "@" not in text.partition("[Unit]")[2]
