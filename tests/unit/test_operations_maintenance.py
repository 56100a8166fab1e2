"""What was done is done, also where a provider does not say afterwards whether the environment is in maintenance."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.definition import load
from instar.errors import ProviderUnavailable
from instar.model.progress import Progress
from instar.operations.deploy import deploy
from simulated.workspace import SimulatedWorkspace

DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments: {dev: {listen: 127.0.0.1:8080}}
"""


def test_a_deploy_that_is_done_is_said_to_be_done_where_nobody_says_whether_it_is_in_maintenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> bool:
        raise ProviderUnavailable("the cluster says 429", retry_after_s=1.0)

    (tmp_path / "instar.yaml").write_text(DEFINITION)
    workspace = SimulatedWorkspace(tmp_path / "home")
    monkeypatch.setattr(workspace.simulation.router, "maintenance", silent)
    said: list[Progress] = []
    workspace.report = said.append
    done = deploy(workspace, load(tmp_path / "instar.yaml"), "dev", image=workspace.bake("one").digest)
    assert done.outcome == "done"
    warned = [one.text for one in said if one.kind == "warning"]
    assert warned == ["whether web/dev is in maintenance is not known: the cluster says 429"]
    workspace.ledger.close()
