"""What an earlier Instar has started goes on under this one, as if nobody had upgraded.

An environment of every kind is made by the version before, loaded, and from then on handled by this one. No request
fails, no instance is replaced, nothing is found to have drifted, no release is made that nobody asked for; then it is
rolled back, deployed, promoted and replaced like any other. Runs are judged by the form of the records that made them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import pytest
from project import Project, baked_project, copied_project, end, free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.thorough]

# The version that machines run now. When a version is released, its commit comes here.
BEFORE = "17ed1412d6a780334563e5da6b090cec4fefc4f1"

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("hello/dev", "hello/production", "queue/dev")
LAUNCHER = """\
import sys

sys.path.insert(0, {sources!r})
from instar.cli.main import main

sys.exit(main())
"""

# everything that an instance and a router can be made with
SERVICE = """\
  data: {version: 1, reads: [1]}
  tmp: {size: 16M}
  capabilities: [NET_BIND_SERVICE]
  volumes:
    - {name: uploads, path: /srv/uploads, access: shared}
  before: [{command: [sh, -c, "echo migrating"]}]
  smoke: [{path: /cgi-bin/hello, contains: version}]
"""
DEV = """\
    secrets: {TOKEN: {file: token}}
    preview: header
    drift: {check: 1s, action: replace}
"""
PRODUCTION = """\
    rollout: {strategy: canary, steps: [20, 60], pause: 300ms}
    drift: {check: 1s, action: replace}
    keep: {hot: 2}
"""
WORKER = """
name: queue
image:
  base: debian:bookworm
  packages: [busybox-static]
service:
  command: [sh, -c, "while :; do date > /data/now; sleep 1; done"]
  health: {command: [test, -e, /data/now], interval: 100ms}
  stop: {grace: 1s}
  limits: {memory: 64M, pids: 32}
  volumes: [{name: data, path: /data}]
environments:
  dev: {drift: {check: 1s, action: replace}}
"""


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """Return the command of the version before."""
    return command_of(BEFORE, tmp_path_factory.mktemp("before"))


def command_of(commit: str, folder: Path) -> tuple[str | Path, ...]:
    """Return the command of an earlier version: its sources, with the libraries of this one."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    packed = subprocess.run([*git, "archive", commit, "src"], capture_output=True, check=False)
    assert packed.returncode == 0, f"the history has no {commit}, from which to upgrade: {packed.stderr.decode()}"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder)
    launcher = folder / "instar"
    launcher.write_text(LAUNCHER.format(sources=str(folder / "src")))
    return (sys.executable, "-IB", launcher)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Two services of the same state directory, ``old`` as run by the version before, ``new`` by this one."""

    old: Project
    new: Project
    worker: Project

    def facts(self) -> list[dict[str, Any]]:
        """Return of each instance what changes only when it does."""
        return [
            {key: instance[key] for key in ("id", "state", "address", "started_at")}
            for name in PLACES
            for release in self.new.json("status", name)["releases"]
            for instance in release["instances"]
        ]

    def kinds(self) -> list[str]:
        """Return what happened so far, oldest first."""
        return [event["kind"] for name in PLACES for event in self.new.json("history", name)]

    def assert_clean(self) -> None:
        for name in PLACES:
            result = self.new.try_instar("drift", name, "--deep", "--json")
            assert (result.status, result.json["findings"]) == (0, []), f"{name}: {result.out}{result.err}"


@pytest.fixture(scope="session")
def baked_before(before: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that the version before has locked and baked."""
    with baked_project(tmp_path_factory.mktemp("baked-before"), before) as made:
        yield made


@pytest.fixture
def project(baked_before: Project, tmp_path: Path) -> Iterator[Project]:
    with copied_project(baked_before, tmp_path) as made:
        yield made


@pytest.fixture
def machine(project: Project, before: tuple[str | Path, ...]) -> Iterator[Machine]:
    """A machine on which the version before has done all that it can."""
    project.edit("environments:\n", f"{SERVICE}\nenvironments:\n")
    project.edit("    config: {GREETING: hello}\n", f"    config: {{GREETING: hello}}\n{DEV}")
    project.edit("    config: {GREETING: good day}", f"    config: {{GREETING: good day}}\n{PRODUCTION}")
    (project.folder / "token").write_text("a secret\n")
    (project.folder / "app/uploads").mkdir()
    old = dataclasses.replace(project, command=before)
    worker = dataclasses.replace(old, folder=project.folder.with_name("queue"))
    worker.folder.mkdir()
    (worker.folder / "instar.yaml").write_text(WORKER)
    shutil.copy(project.folder / "instar.lock", worker.folder)
    old.instar("deploy", "dev")
    old.instar("promote", "dev", "production")
    old.set_version("2")
    old.instar("deploy", "dev")
    old.instar("promote", "dev", "production")
    worker.instar("deploy", "dev")
    made = Machine(old=old, new=project, worker=dataclasses.replace(worker, command=project.command))
    yield made
    made.worker.instar("destroy", "dev", "--yes", "--volumes")


@contextlib.contextmanager
def loaded(*urls: str) -> Iterator[None]:
    """Ask all that inside; not one request may fail."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(load.running(url, "--connections", "4", "--rate", "60")) for url in urls]
        yield
        for one in running:
            report = one.stop()
            assert report["served"] and not report["failed"], report


@contextlib.contextmanager
def agent(project: Project) -> Iterator[str]:
    """Run the agent inside, give where its metrics are, and end it as systemd would."""
    address = f"127.0.0.1:{free_port()}"
    process = project.start("agent", "--check", "0.5", "--metrics", address)
    try:
        yield f"http://{address}/metrics"
    finally:
        result = end(process, signal.SIGTERM)
    assert result.status == 0, result.err


def await_checks(metrics: str, number: int) -> None:
    """Return when each environment was looked at for drift ``number`` times since."""
    seen: dict[str, set[str]] = {}

    def enough() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(metrics, timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("instar_drift_check_timestamp_seconds{"):
                    environment, _, at = line.rpartition(" ")
                    seen.setdefault(environment, set()).add(at)
        return len(seen) == len(PLACES) and all(len(times) >= number for times in seen.values())

    wait_for(enough, lambda: f"the agent has not checked often enough: {seen}", timeout_s=60)


def test_what_runs_lives_through_the_upgrade(machine: Machine) -> None:
    new = machine.new
    facts, kinds = machine.facts(), machine.kinds()
    with loaded(new.url("dev"), new.url("production")):
        machine.assert_clean()
        with agent(new) as metrics:
            await_checks(metrics, 3)
        assert machine.facts() == facts, "an instance was replaced because Instar was upgraded"
        assert [kind for kind in machine.kinds()[len(kinds) :] if kind in ("drift", "replace", "taint")] == []
        an_unchanged_definition_makes_no_release(machine)
        assert machine.facts() == facts

        new.instar("rollback", "dev")
        new.instar("rollback", "production")
        assert "version 1" in new.get("dev")
        machine.assert_clean()
        new.set_version("3")
        new.instar("deploy", "dev")
        new.instar("promote", "dev", "production")
        assert "version 3" in new.get("production")
        machine.assert_clean()
        new.instar("rollback", "dev", "--to", "2")
        assert "version 2" in new.get("dev")
        an_old_instance_is_replaced(machine)
        machine.assert_clean()
    new.instar("history", "--verify")


def an_unchanged_definition_makes_no_release(machine: Machine) -> None:
    new = machine.new
    for project, name in ((new, "hello/dev"), (new, "hello/production"), (machine.worker, "queue/dev")):
        active = new.json("status", name)["active"]
        changed = project.try_instar("deploy", name.partition("/")[2], "--plan", "--json")
        assert changed.status == 0 or name == "hello/production", f"{name}: {changed.out}{changed.err}"
        if name != "hello/production":
            assert project.json("deploy", name.partition("/")[2])["release"] == active


def an_old_instance_is_replaced(machine: Machine) -> None:
    new = machine.new
    (tainted, *_) = sorted(new.instance_ids("dev"))
    new.instar("taint", "dev", tainted, "--why", "the upgrade's test")
    new.instar("agent", "--once")
    wait_for(lambda: tainted not in new.instance_ids("dev"), "the tainted instance is still there", timeout_s=20)


def test_a_rollout_that_was_begun_before_is_carried_on(machine: Machine) -> None:
    """The version before is killed in the middle of a canary; this one ends it, and no request fails."""
    old, new = machine.old, machine.new
    old.edit("pause: 300ms", "pause: 2s")
    old.set_version("3")
    old.instar("deploy", "dev")
    with loaded(new.url("production")):
        process = old.start("promote", "dev", "production")
        wait_for(
            lambda: any(r["weight"] == 20 for r in old.json("status", "production")["releases"]),
            "the canary never got its first share",
            timeout_s=20,
        )
        early = new.try_instar("status", "production")  # it would bring the ledger to a schema that the other refuses
        assert early.status == 75 and f"process {process.pid} works on 'hello/production'" in early.err, early
        process.kill()
        process.communicate()
        with agent(new):
            wait_for(
                lambda: new.json("status", "production")["active"] == 3, "the rollout was not carried on", timeout_s=60
            )
    machine.assert_clean()
    new.instar("history", "--verify")
