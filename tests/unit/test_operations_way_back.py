"""A rollback to where there is no way: what is said to choose from ran well, and is not what runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner

from instar.cli import completing
from instar.cli.main import instar
from instar.cli.rollouts import rollout
from instar.definition import load
from instar.errors import NotFound, Refused
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.operations.rollback import reachable
from simulated.behaviour import Behaviour
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments: {dev: {listen: 127.0.0.1:8080}}
"""


def test_releases_that_never_ran_well_are_no_choice(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    loaded = load(tmp_path / "instar.yaml")
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    workspace.simulation.runtime.behave(2, Behaviour(healthy_after_probes=None))
    deploy(workspace, loaded, "dev", image=workspace.bake("bad").digest)
    with pytest.raises(Refused, match="release 1 is the oldest that ran well") as told:
        reachable(workspace, workspace.ledger.get_environment(DEV), None)
    hint = "no other release of it ran well; give it what is to run: instar deploy dev, or instar promote FROM dev"
    assert told.value.hint == hint
    deploy(workspace, loaded, "dev", image=workspace.bake("three").digest)
    with pytest.raises(NotFound, match="cannot find release 9") as missing:
        reachable(workspace, workspace.ledger.get_environment(DEV), 9)
    assert missing.value.hint == "others ran well: 1; --to N goes to one of them"
    assert reachable(workspace, workspace.ledger.get_environment(DEV), 2).number == 2, "who says so may go there"


def test_commands_are_offered_with_the_whole_sentence_about_each() -> None:
    found = completing.Group.shell_complete(rollout, Context(rollout), "ab")  # type: ignore[arg-type]
    (abort,) = found
    assert abort.value == "abort" and abort.help is not None and abort.help.endswith("logs are kept.")
    assert CliRunner().invoke(instar, ["rollout", "--help"]).exit_code == 0
