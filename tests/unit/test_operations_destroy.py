"""What stays of an environment that is destroyed, and who tells it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from instar.cli import releases
from instar.cli.agent import AgentReporter
from instar.errors import NotFound, ProviderUnavailable, Refused
from instar.model.definition import Volume
from instar.model.environment import Settings
from instar.model.happenings import EnvironmentMade
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.agent import Agent
from instar.operations.converge import converge
from instar.operations.deploy import begin
from instar.operations.destroy import destroy
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.snapshots import copy_volume, remove_snapshot, restore, snapshot
from instar.operations.volumes import remove_volume
from instar.providers.base import StoredVolume
from instar.providers.local import volumes as local_volumes
from instar.providers.local.names import Names
from instar.telemetry.log import Log
from instar.telemetry.metrics import Metrics
from instar.views.volumes import staying_lines
from simulated.values import ENV, ORIGIN, configuration
from simulated.workspace import SimulatedWorkspace

DATA = Volume(name="data", path="/data", access="shared")
NEVER = EnvironmentId(service="never", name="dev")


@pytest.fixture
def workspace(tmp_path: Path) -> SimulatedWorkspace:
    made = SimulatedWorkspace(tmp_path)
    with hold_environment(made, ENV), keep_from_gc(made):
        wanted = configuration({"VERSION": "1"}, volumes=(DATA,))
        baked = made.bake("one")
        settings = Settings(listen=("127.0.0.1:8080",), instances=2)
        found = begin(made, ENV, settings, baked, wanted, "deploy", project=None, origin=ORIGIN)
        converge(made, found, 0.0)
    return made


@pytest.mark.parametrize("volumes", [False, True])
def test_destroy_names_each_volume_that_stays_and_what_removes_it(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch, volumes: bool
) -> None:
    monkeypatch.setattr(releases, "open_workspace", lambda: workspace)
    monkeypatch.setattr(releases, "find_own_environment", lambda *_, **__: workspace.ledger.get_environment(ENV))
    asked = [str(ENV), "--yes", *(["--volumes"] if volumes else [])]
    assert CliRunner().invoke(releases.destroy, asked).exit_code == 0
    told = [one.text for one in workspace.told if "volume 'data' stays" in one.text]
    assert len(told) == (0 if volumes else 1)
    assert all(f"instar volumes remove {ENV} data" in text for text in told)


def test_an_agent_that_ends_a_killed_destroy_names_what_stays(workspace: SimulatedWorkspace) -> None:
    snapshot(workspace, ENV, "data")
    workspace.ledger.set_destroying(ENV)
    written = io.StringIO()
    Agent(workspace, AgentReporter(Log("text", written), Metrics(), None)).once()
    assert workspace.ledger.find_environment(ENV) is None
    assert f"remove it by: instar volumes remove {ENV} data" in written.getvalue()
    assert "1 snapshots of its volumes stay" in written.getvalue()


def test_a_claim_that_stays_is_named_with_what_removes_it_in_a_cluster() -> None:
    removed = "kubectl -n shop delete pvc shop-prod-data"
    claim = StoredVolume(environment=ENV, name="data", where="shop/shop-prod-data", used_bytes=None, removed_by=removed)
    (line,) = staying_lines(ENV, (claim,))
    assert "the claim shop/shop-prod-data" in line and line.endswith(removed) and "instar volumes remove" not in line


def test_an_environment_is_gone_also_where_nobody_can_tell_what_stays(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(environment: EnvironmentId) -> Any:
        raise ProviderUnavailable("cannot list volumes: 'https://cluster.example' does not answer")

    monkeypatch.setattr(workspace.simulation.runtime, "kept_of", away)
    staying = destroy(workspace, workspace.ledger.get_environment(ENV), volumes=False)
    assert staying.volumes is None and workspace.ledger.find_environment(ENV) is None
    (line,) = staying_lines(ENV, staying.volumes)
    assert "may stay" in line


def test_volumes_of_one_environment_on_this_machine_are_named_without_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_volumes, "used_bytes", lambda folder: pytest.fail("it counts"))
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "0a1b2c")
    (names.volumes(ENV) / "data").mkdir(parents=True)
    (names.volumes(NEVER) / "more").mkdir(parents=True)
    found = [(one.name, one.where, one.removed_by) for one in local_volumes.stored_of(names, ENV)]
    assert found == [("data", str(names.volumes(ENV) / "data"), None)]


@pytest.mark.parametrize("verb", ["remove", "snapshot", "restore", "remove snapshot", "copy"])
def test_who_finds_nothing_of_one_that_is_gone_is_told_where_nobody_looked(
    workspace: SimulatedWorkspace, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def none(*_: object, **__: object) -> Any:
        raise NotFound("cannot find it: there is none", hint="those that there are: instar volumes")

    runtime = workspace.simulation.runtime
    monkeypatch.setattr(runtime, "remove_volume", none)
    for name in ("copied_bytes", "restore_snapshot", "remove_snapshot", "copy_volume"):
        monkeypatch.setattr(runtime.data, name, none)
    ask: Callable[[EnvironmentId], object] = {
        "remove": lambda of: remove_volume(workspace, of, "other"),
        "snapshot": lambda of: snapshot(workspace, of, "other"),
        "restore": lambda of: restore(workspace, of, "other", 1),
        "remove snapshot": lambda of: remove_snapshot(workspace, of, "other", 1),
        "copy": lambda of: copy_volume(workspace, of, "other", ENV, "more"),
    }[verb]
    with pytest.raises(NotFound) as caught:
        ask(NEVER)
    assert "kubectl" not in (caught.value.hint or ""), "there is no cluster in this ledger"
    elsewhere = EnvironmentMade(settings={"provider": "kubernetes"})
    workspace.ledger.record(elsewhere, NEVER)
    with pytest.raises(NotFound) as caught:
        ask(NEVER)
    assert "kubectl -n NAMESPACE delete pvc NAME" in (caught.value.hint or "")
    with pytest.raises(NotFound) as caught:
        ask(ENV)
    assert "kubectl" not in (caught.value.hint or "")


def test_a_restore_names_the_snapshots_that_there_are_before_who_has_the_volume(workspace: SimulatedWorkspace) -> None:
    snapshot(workspace, ENV, "data")
    snapshot(workspace, ENV, "data")
    with pytest.raises(NotFound, match="cannot find snapshot 9") as caught:
        restore(workspace, ENV, "data", 9)
    assert caught.value.hint == "there is: 1, 2"
    first, second = (one.id for one in workspace.ledger.instances(ENV))
    with pytest.raises(Refused, match=f"{first}, {second} have it") as refused:
        restore(workspace, ENV, "data", 1)
    assert "ask again" in (refused.value.hint or "")
    with pytest.raises(Refused, match=f"{first}, {second} have it"):
        remove_volume(workspace, ENV, "data")
    assert f"{first}, {second} have the volume" in workspace.told[-1].text
