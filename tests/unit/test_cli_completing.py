"""What a shell is offered of the active release, by the ledger that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from instar.cli.main import instar
from instar.definition import load
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from simulated.workspace import SimulatedWorkspace

DEFINITION = """\
name: web
image: {base: debian:bookworm}
roles:
  web: {command: [serve], port: 80, health: {path: /healthz}}
  work: {command: [work], health: {command: [test, -e, /tmp/ready]}}
environments:
  dev:
    listen: 127.0.0.1:8080
    schedule: {nightly: {command: [report, "a\\nb"], cron: "0 3 * * *"}, poll: {command: [poll], every: 15m}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One release runs in one environment, and in another there was none yet."""
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    workspace = SimulatedWorkspace(tmp_path / "home")
    deploy(workspace, load(tmp_path / "instar.yaml"), "dev", image=workspace.bake("one").digest)
    workspace.ledger.save_settings(EnvironmentId(service="web", name="empty"), Settings())
    workspace.ledger.close()
    monkeypatch.setenv("INSTAR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str) -> dict[str, str | None]:
    """Return what is offered for the last of ``words``, and what is said of each."""
    *before, typed = words
    found = ShellComplete(instar, {}, "instar", "_INSTAR_COMPLETE").get_completions(before, typed)
    return {one.value: one.help for one in found}


def test_roles_and_entries_are_those_of_the_active_release(home: Path) -> None:
    assert list(offered("run", "dev", "--role", "")) == ["web", "work"]
    assert list(offered("logs", "dev", "--role", "wo")) == ["work"]
    assert offered("schedule", "dev", "run", "") == {"nightly": "report a b", "poll": "poll"}
    assert list(offered("schedule", "dev", "run", "n")) == ["nightly"]
    for environment in ("empty", "nobody"):
        assert offered("run", environment, "--role", "") == offered("schedule", environment, "run", "") == {}


def test_environments_are_offered_with_what_runs_there(home: Path) -> None:
    known = {"web/dev": "runs release 1", "web/empty": "nothing runs"}
    assert offered("status", "") == {"dev": "runs release 1", "empty": "nothing runs", **known}
