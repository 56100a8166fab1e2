"""A rollout is left only to an agent that can carry it out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from instar.definition import load
from instar.errors import Refused
from instar.model.release import EnvironmentId
from instar.operations.deploy import deploy
from instar.providers.traits import Traits
from simulated.workspace import SimulatedWorkspace

DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments: {dev: {listen: 127.0.0.1:8080}}
"""


def test_it_is_refused_where_an_agent_of_another_machine_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = SimulatedWorkspace(tmp_path / "home")
    monkeypatch.setattr("instar.operations.deploy.agent_pid", lambda workspace: 1)
    monkeypatch.setattr("instar.operations.deploy.leader_elsewhere", lambda workspace: "the agent on db1 (process 7)")
    of_any_machine = SimpleNamespace(traits=Traits(needs_root=False, of_one_machine=False))
    monkeypatch.setattr(workspace, "provider_package", lambda name: of_any_machine)
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    with workspace.ledger:
        with pytest.raises(Refused, match=r"the agent on db1 \(process 7\) leads, which has neither"):
            deploy(workspace, load(tmp_path / "instar.yaml"), "dev", image=workspace.bake("one").digest, detach=True)
        assert workspace.ledger.find_environment(EnvironmentId(service="web", name="dev")) is None
