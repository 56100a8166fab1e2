"""An environment that nobody can tell anything of (its provider is not here, its row is damaged) stops no other one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.cli.screen import printable
from instar.definition import Loaded, load
from instar.errors import InstarError, LedgerDamaged, ProviderMissing, Refused
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.destroy import destroy
from instar.operations.environments import find_environment
from instar.operations.gc import gc
from instar.operations.layers import layers_in_use
from instar.operations.plan import plan
from instar.operations.rollback import rollback
from instar.operations.status import overview, status
from instar.views.page import Table
from simulated.values import configuration
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
STRANGE = EnvironmentId(service="web", name="strange")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  dev: {listen: 127.0.0.1:8080}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def deployed(workspace: SimulatedWorkspace, loaded: Loaded, word: str) -> Any:
    return deploy(workspace, loaded, "dev", image=workspace.bake(word).digest)


def of_another_provider(workspace: SimulatedWorkspace) -> None:
    """As a machine has it that shares a ledger with one where that provider is installed."""
    workspace.ledger.save_settings(STRANGE, Settings(provider="elsewhere"))
    workspace.ledger.add_release(STRANGE, workspace.bake("strange").digest, configuration())
    workspace.ledger.begin_rollout(STRANGE, "deploy", 1)
    workspace.ledger.add_instances(STRANGE, 1, 1)


def damaged(workspace: SimulatedWorkspace) -> None:
    workspace.ledger.save_settings(STRANGE, Settings())
    spoil_settings(workspace)


def spoil_settings(workspace: SimulatedWorkspace) -> None:
    """Have the settings of the newest environment be none."""
    with sqlite3.connect(workspace.state.ledger) as connection:
        connection.execute(
            "INSERT INTO settings SELECT environment, version + 1, '{\"keep\": 5}', created_at FROM "
            "settings WHERE environment = (SELECT max(environment) FROM settings)"
        )


class Heard:
    def __init__(self) -> None:
        self.failures: list[tuple[EnvironmentId, str]] = []
        self.gone: list[EnvironmentId] = []

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        self.failures.append((environment, str(error)))

    def forgot(self, environment: EnvironmentId) -> None:
        self.gone.append(environment)

    def report_for(self, environment: EnvironmentId) -> Callable[[Any], None]:
        return lambda progress: None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


@pytest.mark.parametrize(("make", "error"), [(of_another_provider, ProviderMissing), (damaged, LedgerDamaged)])
def test_all_others_are_shown_deployed_and_kept(
    workspace: SimulatedWorkspace, loaded: Loaded, make: Callable[[SimulatedWorkspace], None], error: type[InstarError]
) -> None:
    deployed(workspace, loaded, "one")
    make(workspace)
    seen = overview(workspace, None)
    assert [one.environment for one in seen.here] == [DEV]
    assert list(seen.unknown) == ["web/strange"] and isinstance(seen.unknown["web/strange"], error)
    assert deployed(workspace, loaded, "two").outcome == "done"
    assert rollback(workspace, find_environment(workspace.ledger, "dev", "web"), to=None).outcome == "done"
    workspace.simulation.runtime.kill("web-dev-1-1")
    heard = Heard()
    agent = Agent(workspace, heard)
    assert not agent.once(), "it says that something is wrong"
    assert {one for one, _ in heard.failures} == {STRANGE}
    assert any(
        one.state == "running"
        for release in status(workspace, seen_state(workspace)).releases
        for one in release.instances
        if one.id == "web-dev-1-2"
    ), "what ended has a successor"
    destroy(workspace, find_environment(workspace.ledger, "dev", "web"), volumes=False)
    assert [str(one.environment) for one in overview(workspace, None).here] == []


def test_one_that_can_be_read_no_longer_is_not_told_to_be_gone(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    heard = Heard()
    agent = Agent(workspace, heard)
    assert agent.once()
    spoil_settings(workspace)
    assert not agent.once()
    assert [environment for environment, _ in heard.failures] == [DEV] and heard.gone == []


def seen_state(workspace: SimulatedWorkspace) -> Any:
    return find_environment(workspace.ledger, "web/dev", None)


def test_gc_goes_on_beside_a_provider_that_is_not_here(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    deployed(workspace, loaded, "one")
    of_another_provider(workspace)
    assert list(layers_in_use(workspace)) is not None
    kept = {image.digest for image in workspace.store.images()}
    assert gc(workspace, dry_run=False).images == ()
    assert {image.digest for image in workspace.store.images()} == kept, "also the image of the one that is not here"


def test_an_environment_keeps_its_provider(workspace: SimulatedWorkspace, loaded: Loaded) -> None:
    workspace.ledger.save_settings(DEV, Settings(provider="elsewhere"))
    for verb in (deploy, plan):
        with pytest.raises(Refused, match="cannot move 'web/dev' from provider 'elsewhere' to 'local'"):
            verb(workspace, loaded, "dev", image=workspace.bake("one").digest)


def test_a_cell_is_on_its_own_line_whatever_is_in_it() -> None:
    table = Table(rows=[("a\nforged  row", "b"), ("c", "d\x1b[2J")])
    assert [printable(line) for line in table.lines()] == ["a forged  row  b", "c              d\ufffd[2J"]


def test_a_plan_names_a_provider_s_settings_as_the_definition_does(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    workspace.ledger.save_settings(DEV, Settings(listen=("127.0.0.1:8080",), provider_settings={"nice": 3}))
    found = plan(workspace, loaded, "dev", image=workspace.bake("one").digest)
    assert [(one.what, one.before) for one in found.changes if "nice" in one.what] == [("local.nice", "3")]
