"""Where a service has several roles, what is said of trouble says of which."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.definition import Loaded, load
from instar.model.release import EnvironmentId
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.explain import explain
from instar.operations.status import status
from instar.views.events import history_page, sentence
from instar.views.page import Table
from instar.views.status import overview_page, status_json, status_page
from simulated.behaviour import Behaviour
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
roles:
  web: {command: [serve], port: 80, health: {path: /healthz}}
  api: {command: [serve], port: 81, health: {path: /healthz}, smoke: [{path: /version}]}
  work: {command: [work], health: {command: [test, -e, /tmp/ready]}}
environments:
  dev:
    listen: {web: 127.0.0.1:8080, api: 127.0.0.1:8081}
"""
API, WORK = "web-dev-2-2", "web-dev-2-3"


@pytest.fixture
def loaded(tmp_path: Path, workspace: SimulatedWorkspace) -> Loaded:
    """One release runs."""
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    loaded = load(tmp_path / "instar.yaml")
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    return loaded


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour(healthy_after_probes=None), "role '{role}': 0 of 1 healthy after 30 s: "),
        (Behaviour(dies_after_s=0), "role '{role}': instance {name} ended: exit status 1"),
        (Behaviour(fails_checks={"/version"}), "smoke check of {name} ({role}): GET /version"),
    ],
)
def test_a_rollout_that_fails_says_for_which_role(
    workspace: SimulatedWorkspace, loaded: Loaded, behaviour: Behaviour, reason: str
) -> None:
    for name in (API, WORK):
        workspace.simulation.runtime.behave(name, behaviour)
    outcome = deploy(workspace, loaded, "dev", image=workspace.bake("two").digest)
    roles = workspace.ledger.instance_roles(DEV)
    expected = [reason.format(role=roles[name], name=name) for name in (API, WORK)]
    assert outcome.outcome == "failed" and outcome.reason is not None
    assert any(outcome.reason.startswith(one) for one in expected), (outcome.reason, expected)


def test_what_ended_is_told_with_its_role_in_status_history_and_notices(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    name = next(name for name, role in workspace.ledger.instance_roles(DEV).items() if role == "api")
    workspace.simulation.runtime.kill(name)
    found = status(workspace, workspace.ledger.get_environment(DEV))
    assert f"{name} (api): killed: SIGKILL" in "\n".join(map(str, status_page(found, workspace.ledger.now())))
    assert (
        "make 1 instance of role 'api' of release 1, since others have ended"
        in explain(workspace, workspace.ledger.get_environment(DEV)).next
    )
    page = list(status_page(found, workspace.ledger.now()))
    assert any("nobody answers at 127.0.0.1:8081: no instance of role 'api' is well" in str(one) for one in page)
    (releases, _) = (one for one in page if isinstance(one, Table))
    (overview,) = (one for one in overview_page([found], workspace.ledger.now()) if isinstance(one, Table))
    assert releases.rows[0][4] == overview.rows[0][2] == "2 of 3 healthy, none of api"
    assert status_json(found)["unanswered"] == ("api",)
    Agent(workspace, Heard()).once()
    assert status(workspace, workspace.ledger.get_environment(DEV)).unanswered == ()
    (ended,) = (one for one in workspace.ledger.history(DEV) if one.kind == "ended")
    assert sentence(ended) == f"web/dev: {name} (api) ended unexpectedly: killed: SIGKILL"
    (table,) = (one for one in history_page([ended]) if isinstance(one, Table))
    assert f"{name} (api): killed: SIGKILL" in "\n".join(table.lines())
    (ending,) = workspace.ledger.endings(DEV, 1, ended.at.replace(year=2000))
    assert ending.role == "api"
