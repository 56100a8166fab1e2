"""For how long the agent and a command hold an environment: not while an instance has its grace, nor while what runs
is checked."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from control_values import group, release, snapshot

from instar import locks
from instar.control.launch import starts_s
from instar.control.snapshot import GroupView
from instar.definition import Loaded, load
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.agent import Agent
from instar.operations.deploy import deploy
from instar.operations.drift import drift
from instar.operations.locks import agent_lock, environment_lock
from instar.operations.plan import plan
from instar.operations.schedule import begin_now
from instar.operations.taint import taint
from instar.views.findings import drift_page
from instar.waiting import Deadline, until
from simulated import Behaviour, EngineSimulation
from simulated.listener import Heard
from simulated.workspace import SimulatedWorkspace

DEV, STAGING = (EnvironmentId(service="web", name=name) for name in ("dev", "staging"))
GRACE_S = 90
STUBBORN = Behaviour(ends_after_s=1e6)
DEFINITION = f"""\
name: web
image: {{base: debian:bookworm}}
service:
  command: [serve]
  port: 8080
  health: {{path: /healthz}}
  stop: {{grace: {GRACE_S}s}}
environments:
  dev: {{listen: 127.0.0.1:8080, keep: {{hot: 0}}}}
  staging: {{listen: 127.0.0.1:8090}}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    return load(tmp_path / "instar.yaml")


def deployed(workspace: SimulatedWorkspace, loaded: Loaded, word: str, name: str = "dev") -> Any:
    return deploy(workspace, loaded, name, image=workspace.bake(word).digest)


def elapsed_s(workspace: SimulatedWorkspace) -> float:
    clock = workspace.simulation.clock
    return (clock.peek() - clock.began).total_seconds()


def state(workspace: SimulatedWorkspace, name: str) -> str | None:
    found = [one for one in workspace.ledger.instances() if one.id == name]
    return workspace.simulation.runtime.observe(found)[0].state if found else None


def test_the_agent_lets_go_of_an_environment_while_an_instance_has_its_grace(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    workspace.simulation.runtime.behave(1, STUBBORN)
    deployed(workspace, loaded, "one")
    taint(workspace, workspace.ledger.get_environment(DEV), "web-dev-1-1", why="odd")
    heard, told_at = Heard(), 0.0
    agent = Agent(workspace, heard)
    while state(workspace, "web-dev-1-1") is not None:
        began = elapsed_s(workspace)
        assert agent.once(), heard.errors
        assert elapsed_s(workspace) - began < 5, "it kept the environment"
        assert locks.find_holder(environment_lock(workspace, DEV)) is None
        if state(workspace, "web-dev-1-1") == "ending":
            told_at = told_at or elapsed_s(workspace)
            assert not plan(workspace, loaded, "dev", image=workspace.bake("one").digest).changes
            assert not drift(workspace, workspace.ledger.get_environment(DEV)).dead
        workspace.simulation.clock.sleep(1)
    assert GRACE_S - 1 <= elapsed_s(workspace) - told_at < GRACE_S + 10
    assert workspace.simulation.runtime.traces() == ("web-dev-1-2",)


def test_an_agent_that_is_started_for_each_pass_retires_what_an_engine_has_drained(
    tmp_path: Path, loaded: Loaded
) -> None:
    """It counts no sessions: the time to drain is over although each process sees the group for the first time."""
    workspace = SimulatedWorkspace(tmp_path / "home", EngineSimulation())
    deployed(workspace, loaded, "one")
    deployed(workspace, loaded, "two")
    (tmp_path / "instar.yaml").write_text(DEFINITION.replace("hot: 0", "hot: 1"))
    deployed(workspace, load(tmp_path / "instar.yaml"), "three")
    assert {one.release for one in workspace.ledger.instances(DEV)} == {2, 3}
    (tmp_path / "instar.yaml").write_text(DEFINITION)
    workspace.ledger.save_settings(DEV, Settings.of(load(tmp_path / "instar.yaml").definition.environments["dev"]))
    for _ in range(20):  # the engine says "try again" now and then, and takes its time
        Agent(workspace, Heard()).once()
        workspace.simulation.clock.sleep(20)
    assert {one.release for one in workspace.ledger.instances(DEV)} == {3}
    workspace.ledger.close()


def test_a_request_that_lasts_longer_than_the_drain_may_be_finished_in_the_grace(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    workspace.simulation.runtime.behave(1, STUBBORN)
    deployed(workspace, loaded, "one")
    router, agent = workspace.simulation.router, Agent(workspace, Heard())
    assert router.request(DEV, lasts_s=60) == "web-dev-1-1"
    taint(workspace, workspace.ledger.get_environment(DEV), "web-dev-1-1", why="odd")
    in_flight: set[int] = set()
    while state(workspace, "web-dev-1-1") is not None:
        assert agent.once()
        if state(workspace, "web-dev-1-1") == "ending":
            in_flight |= {one.sessions for one in router.observe(DEV).targets if one.target.name == "web-dev-1-1"}
        workspace.simulation.clock.sleep(1)
    assert in_flight == {1, 0}, "it was in flight, and was finished"
    assert [one.target.name for one in router.observe(DEV).targets] == ["web-dev-1-2"]


@pytest.mark.parametrize("with_agent", [True, False])
def test_a_command_leaves_what_has_its_grace_to_an_agent_where_one_runs(
    workspace: SimulatedWorkspace, loaded: Loaded, *, with_agent: bool
) -> None:
    workspace.simulation.runtime.behave(1, STUBBORN)
    deployed(workspace, loaded, "one")
    began = elapsed_s(workspace)
    agent = locks.hold(agent_lock(workspace), "the agent") if with_agent else contextlib.nullcontext()
    with agent:
        assert deployed(workspace, loaded, "two").outcome == "done"
    lasted = elapsed_s(workspace) - began
    assert workspace.ledger.get_environment(DEV).rollout is None
    if with_agent:
        assert lasted < GRACE_S / 2 and state(workspace, "web-dev-1-1") == "ending"
    else:
        assert lasted >= GRACE_S and state(workspace, "web-dev-1-1") is None


def test_a_check_of_what_runs_holds_neither_its_environment_nor_another(
    workspace: SimulatedWorkspace, loaded: Loaded
) -> None:
    """However long it takes: here, until the rest of the test is over."""
    deployed(workspace, loaded, "one")
    deployed(workspace, loaded, "one", "staging")
    runtime, begun, over = workspace.simulation.runtime, threading.Event(), threading.Event()

    def inspect(subjects: Any, *, deep: bool = False) -> tuple[()]:
        if subjects[0].instance.environment == DEV:
            begun.set()
            assert over.wait(30)
        return ()

    runtime.inspect = inspect  # type: ignore[method-assign]
    heard = Heard()
    agent = Agent(workspace, heard, check_s=0.1)
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        assert begun.wait(10)
        with locks.hold(environment_lock(workspace, DEV), "dev"):
            assert DEV not in heard.seen
        assert until(lambda: heard.seen.count(STAGING) >= 3, Deadline.after(10), every_s=0.01), heard.errors
    finally:
        over.set()
        agent.stop()
        thread.join(30)
    assert not thread.is_alive() and not heard.errors


@pytest.mark.parametrize(("probes", "served"), [(12, True), (None, False)])
def test_one_look_after_a_reboot_ends_when_it_serves_or_has_had_its_time(
    workspace: SimulatedWorkspace, loaded: Loaded, probes: int | None, served: bool
) -> None:
    """So does one after a restore: whoever had it started is told nothing before it is so."""
    deployed(workspace, loaded, "one")
    workspace.simulation.reboot()
    workspace.simulation.runtime.behave(1, Behaviour(healthy_after_probes=probes))
    began = workspace.simulation.clock.peek()
    Agent(workspace, Heard()).once()
    weights = [one.weight for one in workspace.simulation.router.observe(DEV).targets if one.weight]
    assert bool(weights) == served
    assert (workspace.simulation.clock.peek() - began).total_seconds() < 90


@pytest.mark.parametrize(
    ("groups", "left_s"),
    [
        ([group(1, "planned")], 30),  # making it took so long that the pass was over
        ([group(1, healthy=False, weight=0, age_s=12)], 18),
        ([group(1, healthy=False, weight=0, age_s=40)], 0),
        ([group(1, healthy=True, weight=100, age_s=1)], 0),
        ([group(1, "stopped", age_s=1)], 0),  # it is replaced by a rule of its own
        ([], 0),
    ],
)
def test_how_long_what_is_begun_may_take_to_serve(groups: list[GroupView], left_s: float) -> None:
    made = snapshot([release(1, ran_well=True)], groups, active=1)
    assert starts_s(made) == pytest.approx(left_s, abs=0.1)


def test_a_command_that_has_ended_is_nothing_that_a_deploy_would_repair(
    workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    schedule = "keep: {hot: 0}, schedule: {poll: {command: [poll], cron: '0 3 * * *'}}}"
    (tmp_path / "instar.yaml").write_text(DEFINITION.replace("{{", "{").replace("keep: {hot: 0}}", schedule))
    loaded = load(tmp_path / "instar.yaml")
    image = deployed(workspace, loaded, "one").image
    workspace.simulation.runtime.behave(1, Behaviour(task_lasts_s=1))
    begin_now(workspace, workspace.ledger.get_environment(DEV), "poll")
    workspace.simulation.clock.sleep(30)
    (ended,) = (one.id for one in workspace.ledger.instances(DEV) if one.task is not None)
    assert state(workspace, ended) == "stopped"
    assert not plan(workspace, loaded, "dev", image=image).changes
    assert drift(workspace, workspace.ledger.get_environment(DEV)).dead == ()
    workspace.simulation.runtime.kill("web-dev-1-1")
    assert [one.before for one in plan(workspace, loaded, "dev", image=image).changes] == ["1 ended"]
    report = drift(workspace, workspace.ledger.get_environment(DEV))
    assert report.dead == ("web-dev-1-1",) and report.checked.clean and not report.as_baked
    first, last = map(str, drift_page(report))
    assert "1 dead · nothing runs there" in first and "instar status" in last
