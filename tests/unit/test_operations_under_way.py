"""What a planned verb says of a rollout that is under way, and that the verb then does so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar import locks
from instar.definition import Loaded, load
from instar.errors import Refused
from instar.model.digest import Digest
from instar.model.plan import DeployPlan, RollbackPlan
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import RolloutPaused
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.locks import agent_lock, environment_lock
from instar.operations.plan import plan, plan_promotion
from instar.operations.rollback import rollback
from instar.operations.rollback_plan import plan_rollback
from instar.views.outcomes import outcome_json, outcome_lines
from instar.views.plans import plan_json, plan_page, rollback_plan_json, rollback_plan_page
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV = EnvironmentId(service="web", name="dev")
DEFINITION = """\
name: web
image: {base: debian:bookworm}
service: {command: [serve], port: 8080, health: {path: /healthz}}
environments:
  source: {listen: 127.0.0.1:8081}
  dev:
    listen: 127.0.0.1:8080
    rollout: {strategy: canary, steps: [20], pause: 5m}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


@pytest.fixture
def half_way(workspace: SimulatedWorkspace, loaded: Loaded) -> Digest:
    """Leave a canary to release 2 at its first step, as a deploy that was killed does; return its image."""
    deploy(workspace, loaded, "dev", image=workspace.bake("one").digest)
    image = workspace.bake("two").digest
    configuration = workspace.ledger.get_release(DEV, 1).configuration
    release = workspace.ledger.add_release(DEV, image, configuration)
    workspace.ledger.begin_rollout(DEV, "deploy", release.number)
    agent = Agent(workspace, Heard())
    for _ in range(10):
        agent.once()
    return image


def page(found: DeployPlan | RollbackPlan) -> str:
    lines = rollback_plan_page(found) if isinstance(found, RollbackPlan) else plan_page(found)
    return "\n".join(line for line in lines if isinstance(line, str))


def planned_back(workspace: SimulatedWorkspace) -> RollbackPlan:
    return plan_rollback(workspace, workspace.ledger.get_environment(DEV))


def test_a_deploy_of_the_same_goes_on_and_makes_no_release(
    workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest
) -> None:
    found = plan(workspace, loaded, "dev", image=half_way)
    text = page(found)
    assert text.startswith("rollout  the deploy to release 2 by ann is under way, with 20 % of the traffic\n")
    assert "it is gone on with" in text and "no new release: release 2 is rolled out to the end" in text
    assert plan_json(found)["rollout"].becomes == "goes on"
    outcome = deploy(workspace, loaded, "dev", image=half_way)
    assert (outcome.release, outcome.outcome) == (2, "done")
    assert plan(workspace, loaded, "dev", image=half_way).rollout is None


@pytest.mark.parametrize("word", ["one", "three"])
def test_a_deploy_of_another_gives_it_up_also_of_what_is_active(
    workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest, word: str
) -> None:
    image = workspace.bake(word).digest
    found = plan(workspace, loaded, "dev", image=image)
    assert "it is given up for this one" in page(found) and found.release and not found.is_nothing
    assert deploy(workspace, loaded, "dev", image=image).release == 3
    assert "the deploy to release 2 had 20 % of the traffic" in " ".join(one.text for one in workspace.told)


def test_a_rollback_gives_it_up_and_is_not_nothing(
    workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest
) -> None:
    found = planned_back(workspace)
    assert (
        not found.is_nothing
        and "it is given up for this one\nrollback release 1 keeps the traffic, or has all of it again\nhot "
        in page(found)
    )
    assert rollback_plan_json(found)["rollout"].becomes == "is given up"
    outcome = rollback(workspace, workspace.ledger.get_environment(DEV))
    state = workspace.ledger.get_environment(DEV)
    assert (state.active, state.rollout) == (1, None)
    told = "the deploy to release 2 had 20 % of the traffic and was unfinished: it is given up for this one"
    assert told in [one.text for one in workspace.told]
    assert outcome_json(outcome)["given_up"] == 2
    (done,) = outcome_lines(outcome)
    assert done.text.startswith("dev runs release 1 as before; the rollout to release 2 is undone · ")
    (done,) = outcome_lines(rollback(workspace, workspace.ledger.get_environment(DEV), to=1))
    assert done.text.startswith("dev runs release 1 already · ")


def test_what_is_paused_refuses_a_deploy_and_not_a_rollback(
    workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest
) -> None:
    rollout = workspace.ledger.get_environment(DEV).rollout
    assert rollout is not None
    workspace.ledger.change_stage(RolloutPaused(rollout=rollout.id, reason=""))
    image = workspace.bake("three").digest
    found = page(plan(workspace, loaded, "dev", image=image))
    assert "it is paused, and a deploy is refused until it is over: instar rollout resume web/dev, or instar" in found
    assert "it is given up" in page(planned_back(workspace))
    with pytest.raises(Refused, match="is paused"):
        deploy(workspace, loaded, "dev", image=image)


def test_who_is_at_it_and_keeps_the_verb_out_is_named_but_for_the_agent(
    workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest
) -> None:
    with locks.hold(environment_lock(workspace, DEV), "web/dev"):
        told = f"process {os.getpid()} is at it now: until that has ended a deploy is refused, unless --take-over"
        assert told in page(plan(workspace, loaded, "dev", image=half_way))
        with locks.hold(agent_lock(workspace), "the agent"):
            assert "is at it now" not in page(planned_back(workspace))


def test_a_promotion_says_so_too(workspace: SimulatedWorkspace, loaded: Loaded, half_way: Digest) -> None:
    deploy(workspace, loaded, "source", image=workspace.bake("three").digest)
    assert "it is given up for this one" in page(plan_promotion(workspace, loaded, "source", "dev"))


def test_a_rollback_s_plan_names_the_files_that_are_other(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(DEFINITION.partition("    rollout:")[0])
    at_once = load(tmp_path / "instar.yaml")
    for word in ("one", "other"):
        deploy(workspace, at_once, "dev", image=workspace.bake(word).digest)
    found = planned_back(workspace)
    assert found.inside is not None and rollback_plan_json(found)["files"] == found.inside.files
    assert [one.path for one in found.inside.files] == ["/word"]
    assert "/word" in "\n".join(map(str, rollback_plan_page(found)))
