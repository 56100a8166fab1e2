"""Commands by the clock that have ended, or were never begun, and no agent that says so: they hold nothing up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.control.schedule import next_at
from instar.errors import Refused
from instar.model.definition import Data, Volume
from instar.model.environment import Keep, ScheduledTask, Settings
from instar.model.occurrence import Occurrence
from instar.model.outcome import RolloutOutcome
from instar.model.release import Command
from instar.operations import converge
from instar.operations.deploy import begin
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.rollback import rollback
from instar.operations.schedule import begin_now, schedule
from simulated import Behaviour
from simulated.values import ENV, ORIGIN, configuration
from simulated.workspace import SimulatedWorkspace

OWN = Volume(name="data", path="/data", access="exclusive")
SETTINGS = Settings(listen=("127.0.0.1:8080",), instances=1, keep=Keep(hot=1, releases=3))
POLL = ScheduledTask(command=("poll",), cron="0 3 * * *")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[SimulatedWorkspace]:
    made = SimulatedWorkspace(tmp_path)
    for version in ("1", "2"):
        deploy(made, version)
    yield made
    made.ledger.close()


def deploy(workspace: SimulatedWorkspace, version: str, **fields: object) -> RolloutOutcome:
    with hold_environment(workspace, ENV), keep_from_gc(workspace):
        wanted = dataclasses.replace(
            configuration({"VERSION": version}, volumes=(OWN,), **fields), schedule={"poll": POLL}
        )
        found = begin(workspace, ENV, SETTINGS, workspace.bake("one"), wanted, "deploy", project=None, origin=ORIGIN)
        return converge.converge(workspace, found, time.monotonic())


def outcomes(workspace: SimulatedWorkspace) -> list[str]:
    return [str(one.detail["outcome"]) for one in workspace.ledger.history(ENV) if one.kind == "task"]


def run_poll(workspace: SimulatedWorkspace, lasts_s: float, exit_status: int = 0) -> None:
    """Begin the command in release 2, and let half a minute pass."""
    behaviour = Behaviour(task_lasts_s=lasts_s, task_exit_status=exit_status)
    workspace.simulation.runtime.behave(2, behaviour)
    begin_now(workspace, workspace.ledger.get_environment(ENV), "poll")
    workspace.simulation.clock.sleep(30)


@pytest.mark.parametrize("way", ["back", "on"])
def test_one_that_has_ended_keeps_no_release_from_coming(workspace: SimulatedWorkspace, way: str) -> None:
    run_poll(workspace, 10, exit_status=3)
    assert outcomes(workspace) == []
    outcome = rollback(workspace, workspace.ledger.get_environment(ENV)) if way == "back" else deploy(workspace, "3")
    assert outcome.outcome == "done" and outcomes(workspace) == ["exit status 3"]
    workspace.ledger.verify()


def test_one_that_runs_does(workspace: SimulatedWorkspace) -> None:
    run_poll(workspace, 100)
    with pytest.raises(Refused, match=r"schedule poll by hand 1 \('poll'\) has its exclusive volume 'data'"):
        rollback(workspace, workspace.ledger.get_environment(ENV))
    assert workspace.ledger.get_environment(ENV).active == 2 and outcomes(workspace) == []


def test_one_that_its_agent_was_killed_before_it_began_does_not_begin_any_more(workspace: SimulatedWorkspace) -> None:
    due = Occurrence(entry="poll", due_at=workspace.simulation.clock.peek().replace(microsecond=0))
    workspace.ledger.schedules.begin(ENV, 2, due, Command(argv=("poll",)))
    assert rollback(workspace, workspace.ledger.get_environment(ENV)).outcome == "done"
    assert outcomes(workspace) == ["it had not begun when another release was to come"]
    assert workspace.simulation.runtime.tasks_run == []


def test_a_rollback_that_is_refused_for_another_reason_gives_no_command_up(workspace: SimulatedWorkspace) -> None:
    deploy(workspace, "3", data=Data(version=1, reads=(1,)))
    deploy(workspace, "4", data=Data(version=2, reads=(2,)))
    due = Occurrence(entry="poll", due_at=workspace.simulation.clock.peek().replace(microsecond=0))
    workspace.ledger.schedules.begin(ENV, 4, due, Command(argv=("poll",)))
    with pytest.raises(Refused, match="cannot roll back"):
        rollback(workspace, workspace.ledger.get_environment(ENV), to=3)
    assert outcomes(workspace) == []


def test_another_begins_by_hand_where_one_has_ended(workspace: SimulatedWorkspace) -> None:
    run_poll(workspace, 10)
    begin_now(workspace, workspace.ledger.get_environment(ENV), "poll")
    assert outcomes(workspace) == ["done"]
    with pytest.raises(Refused, match="runs it already"):
        begin_now(workspace, workspace.ledger.get_environment(ENV), "poll")


def test_who_looks_sees_that_it_has_ended_and_changes_nothing(workspace: SimulatedWorkspace) -> None:
    workspace.simulation.runtime.behave(2, Behaviour(task_lasts_s=10, task_exit_status=3))
    now = workspace.simulation.clock.peek()
    workspace.simulation.clock.sleep((next_at(POLL, now) - now).total_seconds() + 1)  # type: ignore[operator]
    loop = converge.make_loop(workspace, workspace.provider("local"))
    loop.begin(ENV, asked=False).advance()
    state, seen = workspace.ledger.get_environment(ENV), []
    for _ in range(2):
        (entry,) = schedule(workspace, state).entries
        assert entry.last is not None and workspace.ledger.schedules.last(ENV, entry.name).outcome is None  # type: ignore[union-attr]
        seen.append(entry.last.outcome)
        workspace.simulation.clock.sleep(30)
    assert seen == [None, "exit status 3"] and outcomes(workspace) == []
