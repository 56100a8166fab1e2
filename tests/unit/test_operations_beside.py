"""Commands that begin while a rollout in the foreground waits: at each of its pauses, and it ends as it would have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from instar.definition import Loaded, load
from instar.errors import EnvironmentBusy, Refused
from instar.model.release import EnvironmentId
from instar.operations import converge, locks
from instar.operations import deploy as deploys
from instar.operations import promote as promotes
from instar.operations.deploy import deploy
from instar.operations.destroy import destroy
from instar.operations.schedule import begin_now
from instar.operations.watch import watch_release
from simulated import Behaviour
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service:
  command: [serve]
  port: 8080
  health: {path: /healthz}
  stop: {grace: 5s}
environments:
  dev:
    listen: 127.0.0.1:8080
    instances: 2
    keep: {hot: 0}
    schedule: {poll: {command: [poll], cron: '0 3 * * *', overlap: true}}
"""
STRATEGIES = {
    "blue-green": "",
    "canary": "    rollout: {strategy: canary, steps: [20, 50], pause: 2s}\n",
    "rolling": "    rollout: {strategy: rolling, batch: 1}\n",
}


def defined(folder: Path, more: str = "", *, service: str = "", instances: int = 2) -> Loaded:
    text = DEFINITION.replace("environments:", f"{service}environments:").replace("es: 2", f"es: {instances}")
    (folder / "instar.yaml").write_text(text + more)
    return load(folder / "instar.yaml")


@dataclass(kw_only=True)
class Beside:
    """Commands that begin in pauses, one in each, as many as are ``left``; ``refused`` is why some did not."""

    left: int = 0
    begun: list[str] = field(default_factory=list)
    refused: list[Exception] = field(default_factory=list)

    def begin(self, workspace: Any) -> None:
        try:
            found = begin_now(workspace, workspace.ledger.get_environment(DEV), "poll")
        except (Refused, EnvironmentBusy) as error:
            self.refused.append(error)
        else:
            self.begun.append(found.instance)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Beside:
    found = Beside()

    @contextlib.contextmanager
    def give_way(workspace: Any, environment: EnvironmentId) -> Iterator[None]:
        with locks.give_way(workspace, environment):
            if found.left:
                found.left -= 1
                found.begin(workspace)
            yield

    monkeypatch.setattr(converge, "give_way", give_way)
    return found


def deployed(workspace: SimulatedWorkspace, loaded: Loaded, word: str, name: str = "dev") -> Any:
    for release in (1, 2):
        slow = Behaviour(healthy_after_probes=5, ends_after_s=2, task_lasts_s=1)
        workspace.simulation.runtime.behave(release, slow)
    return deploy(workspace, loaded, name, image=workspace.bake(word).digest)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_commands_begin_at_each_pause_and_the_rollout_ends_as_without_them(
    workspace: SimulatedWorkspace, tmp_path: Path, beside: Beside, strategy: str
) -> None:
    loaded = defined(tmp_path, STRATEGIES[strategy])
    deployed(workspace, loaded, "one")
    beside.left = 150
    outcome = deployed(workspace, loaded, "two")
    assert outcome.outcome == "done" and outcome.active == 2
    assert len(beside.begun) > 3 and not beside.refused
    assert {name.split("-")[2] for name in beside.begun} == {"1", "2"}, "in both releases, as the traffic moved"
    served = [one for one in workspace.ledger.instances(DEV) if one.task is None]
    assert sorted(one.release for one in served) == [2, 2]
    workspace.ledger.verify()


@pytest.mark.parametrize("verb", ["deploy", "promote"])
def test_commands_begin_while_an_image_is_baked_or_pulled(
    workspace: SimulatedWorkspace, tmp_path: Path, beside: Beside, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    loaded = defined(tmp_path, "  staging: {listen: 127.0.0.1:8090}\n")
    deployed(workspace, loaded, "one")
    deployed(workspace, loaded, "two", "staging")
    found = deploys._image if verb == "deploy" else promotes.image_for_release

    def image(*arguments: Any, **named: Any) -> Any:
        beside.begin(workspace)
        return found(*arguments, **named)

    monkeypatch.setattr(deploys, "_image", image)
    monkeypatch.setattr(promotes, "image_for_release", image)
    if verb == "deploy":
        deployed(workspace, loaded, "two")
    else:
        promotes.promote(workspace, loaded, "staging", "dev")
    assert beside.begun == ["web-dev-1-3"] and not beside.refused
    assert workspace.ledger.get_environment(DEV).active == 2


def test_commands_begin_while_a_release_is_watched(
    workspace: SimulatedWorkspace, tmp_path: Path, beside: Beside
) -> None:
    loaded = defined(tmp_path, "    rollout: {watch: 3s}\n")
    deployed(workspace, loaded, "one")
    deployed(workspace, loaded, "two")
    beside.left = 20
    with locks.hold_environment(workspace, DEV):
        watch_release(converge.make_loop(workspace, workspace.provider("local")), DEV)
    assert len(beside.begun) > 3 and not beside.refused


def test_a_volume_that_changes_hands_in_the_rollout_keeps_a_command_from_beginning(
    workspace: SimulatedWorkspace, tmp_path: Path, beside: Beside
) -> None:
    loaded = defined(tmp_path, service="  volumes: [{name: data, path: /data}]\n", instances=1)
    deployed(workspace, loaded, "one")
    beside.left = 20
    assert deployed(workspace, loaded, "two").outcome == "done"
    assert len(beside.refused) > 1 and not [one for one in beside.begun if one.startswith("web-dev-1-")]
    assert "its volume 'data' is exclusive, and the deploy to release 2 is under way" in str(beside.refused[0])


def test_what_is_destroyed_gets_no_command_any_more(
    workspace: SimulatedWorkspace, tmp_path: Path, beside: Beside
) -> None:
    deployed(workspace, defined(tmp_path), "one")
    beside.left = 20
    destroy(workspace, workspace.ledger.get_environment(DEV), volumes=False)
    assert beside.refused and not beside.begun
    assert "it is being destroyed" in str(beside.refused[0])
