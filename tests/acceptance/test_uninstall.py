"""``instar uninstall`` takes all of Instar's away, whatever is still there of it, and nothing else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import leftovers
import pytest
from project import Project, wait_for

pytestmark = pytest.mark.root

KILLER = Path(__file__).with_name("killer.py")
NEVER = 10**9


@pytest.fixture
def running(project: Project) -> Project:
    """Dev and production with a volume each, and files of the operator's in the state directory."""
    project.edit("  limits:", "  volumes: [{name: data, path: /data, access: shared}]\n  limits:")
    project.instar("deploy", "dev")
    project.instar("promote", "dev", "production")
    data(project).write_text("kept")
    (project.home / "config.yaml").write_text("{}\n")
    return project


def data(project: Project) -> Path:
    return project.home / "volumes/hello/dev/data/of-the-service"


def marks(project: Project) -> tuple[str, str]:
    return str(project.home), (project.home / "id").read_text().strip()


def left(*of: str) -> list[str]:
    return leftovers.remaining(lambda: leftovers.traces(*of))


def test_all_goes_but_volumes_and_what_is_the_operators(running: Project) -> None:
    of = marks(running)
    asked = running.try_instar("uninstall", stdin="")
    assert asked.status == 64 and "nothing was removed" in asked.err
    assert all(word in asked.err for word in ("hello/dev, hello/production", "These volumes stay", "hello/dev data ("))
    wrong = running.try_instar("uninstall", stdin="yes\n")
    assert wrong.status == 64 and running.get() == "hello from version 1\n"
    done = running.try_instar("uninstall", stdin="uninstall\n")
    assert done.status == 0, done.err
    assert f"stays: {running.home}/volumes" in done.err and f"stays: {running.home}/config.yaml" in done.err
    assert left(*of) == []
    assert sorted(path.name for path in running.home.iterdir()) == ["config.yaml", "left-by-uninstall", "volumes"]
    running.instar("deploy", "dev", timeout_s=300)
    assert data(running).read_text() == "kept"
    assert running.get() == "hello from version 1\n"


def test_with_volumes_nothing_is_left(running: Project) -> None:
    of = marks(running)
    (running.home / "config.yaml").unlink()
    running.instar("uninstall", "--volumes", "--yes")
    assert left(*of) == [] and not running.home.exists()
    again = running.try_instar("uninstall", "--yes")
    assert again.status == 1 and "there is no state directory" in again.err and not running.home.exists()
    running.home.mkdir(mode=0o700)  # for whoever looks after the test


@pytest.mark.parametrize("lost", [["ledger"], ["ledger", "store", "allocations", "logs", "routers", "cache"]])
def test_what_rm_has_left_goes_too(running: Project, lost: list[str]) -> None:
    of = marks(running)
    for name in lost:
        shutil.rmtree(running.home / name)
    asked = running.try_instar("uninstall", stdin="")
    assert "the ledger, which says what that is, is lost" in asked.err
    running.instar("uninstall", "--volumes", "--yes")
    assert left(*of) == []
    assert [path.name for path in running.home.iterdir()] == ["config.yaml"]


def test_while_an_agent_runs_it_is_refused(running: Project) -> None:
    agent = running.start("agent")
    try:
        lock = running.home / "run/lock/agent"
        wait_for(lambda: lock.exists() and str(agent.pid) in lock.read_text(), "the agent does not begin")
        refused = running.try_instar("uninstall", "--yes")
        assert refused.status == 1 and f"process {agent.pid}" in refused.err
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.communicate(timeout=60)
    assert running.get() == "hello from version 1\n"


def test_what_runs_on_the_machine_cannot_be_left(running: Project) -> None:
    unknown = running.try_instar("uninstall", "--yes", "--leave", "hello/staging")
    assert unknown.status == 1 and "there are: hello/dev, hello/production" in unknown.err
    here = running.try_instar("uninstall", "--yes", "--leave", "hello/dev")
    assert here.status == 1 and "goes with all that is there" in here.err
    assert {one["environment"] for one in running.json("status")} == {"dev", "production"}


@pytest.mark.thorough
def test_killed_here_and_there_it_is_gone_on_with(running: Project) -> None:
    of, counted = marks(running), running.folder.parent / "count"
    words = [sys.executable, "-IB", str(KILLER), "{}", str(counted), "uninstall", "--yes", "--volumes"]
    for point in (3, 40, 120, 200, 280, 360, 420, 480, NEVER):
        at = [word.format(point) for word in words]
        ended = subprocess.run(
            at, cwd=running.folder, env=running.environ, capture_output=True, text=True, timeout=120, check=False
        )
        if ended.returncode != -signal.SIGKILL:
            break
    assert ended.returncode == 0, ended.stderr
    assert json.loads(counted.read_text()) > 0
    assert left(*of) == []
    assert [path.name for path in running.home.iterdir()] == ["config.yaml"]
