"""``schedule run --wait``: how a command ended, whoever writes that down."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from control_values import ENV

from instar.cli.main import instar
from instar.errors import EnvironmentBusy
from instar.model.environment import Settings
from instar.model.happenings import AlarmOver
from instar.model.rollout_happenings import TaskEnded
from instar.model.schedule import Begun
from instar.operations import schedule
from simulated.workspace import SimulatedWorkspace

BEGUN = Begun(environment=ENV, release=3, task="nightly 1", instance="shop-production-3-9", agent=None)


class World:
    """A ledger in which the command has ended after so many looks, or once somebody clears up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, agent: str | None, busy: int = 0) -> None:
        self.looks, self.cleared, self.busy, self.outcome = 0, 0, busy, None if agent is None else "done"
        state = SimpleNamespace(id=ENV, settings=SimpleNamespace(provider="local"))
        ledger = SimpleNamespace(tasks=self.tasks, get_environment=lambda one: state, newest_first=lambda one: iter(()))
        pause = SimpleNamespace(pause=lambda seconds: None)
        self.workspace: Any = SimpleNamespace(ledger=ledger, cancellation=pause, provider=lambda name: None)
        monkeypatch.setattr(schedule, "_agent", lambda workspace, state: agent)
        monkeypatch.setattr(schedule, "hold_environment", self.held)
        begun = SimpleNamespace(clear=self.clear)
        monkeypatch.setattr(schedule, "make_loop", lambda workspace, provider: SimpleNamespace(begin=lambda one: begun))

    def tasks(self, environment: object, release: int) -> tuple[Any, ...]:
        self.looks += 1
        other = SimpleNamespace(instance="shop-production-3-8", outcome="exit status 9")
        mine = SimpleNamespace(instance=BEGUN.instance, outcome=self.outcome if self.looks > 2 else None)
        return (other, mine)

    @contextlib.contextmanager
    def held(self, workspace: object, environment: object) -> Iterator[None]:
        if self.busy:
            self.busy -= 1
            raise EnvironmentBusy("somebody works there", pid=1)
        yield

    def clear(self) -> None:
        self.cleared += 1
        if self.cleared > 1:
            self.outcome = "exit status 3"


def test_an_agent_sees_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, agent="agent 7")
    assert schedule.await_end(world.workspace, BEGUN).outcome == "done"
    assert world.cleared == 0


def test_what_it_printed_last_is_found_behind_whatever_happened_since(workspace: SimulatedWorkspace) -> None:
    ledger, name = workspace.ledger, f"schedule {BEGUN.task}"
    with ledger.transaction():
        ledger.save_settings(ENV, Settings())
        ledger.record(TaskEnded(task=name, outcome="done", last_lines=("a report",)), ENV)
        for _ in range(120):
            ledger.record(AlarmOver(), ENV)
    assert schedule._last_lines(workspace, BEGUN) == ("a report",)
    assert schedule._last_lines(workspace, replace(BEGUN, task="nightly 2")) == ()


def test_without_an_agent_its_end_is_written_down_here_also_where_somebody_works_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, agent=None, busy=2)
    assert schedule.await_end(world.workspace, BEGUN).outcome == "exit status 3"
    assert (world.busy, world.cleared) == (0, 2)


def test_there_is_nothing_to_wait_for_without_run() -> None:
    told = CliRunner().invoke(instar, ["schedule", "dev", "--wait"])
    assert told.exit_code == 2 and "--wait is of: instar schedule ENV run NAME" in told.output


def test_who_names_an_entry_is_told_how_it_is_begun() -> None:
    told = CliRunner().invoke(instar, ["schedule", "dev", "nightly"])
    assert told.exit_code == 2 and "instar schedule dev run nightly" in told.output


def test_who_mistypes_run_is_told_the_nearest_word() -> None:
    told = CliRunner().invoke(instar, ["schedule", "dev", "runn", "report"])
    assert told.exit_code == 2 and "there is no 'runn'; did you mean: instar schedule dev run report?" in told.output


def test_who_mistypes_run_alone_is_told_so_too() -> None:
    told = CliRunner().invoke(instar, ["schedule", "dev", "runn"])
    assert told.exit_code == 2 and "there is no 'runn'; did you mean: instar schedule dev run NAME?" in told.output


def test_logs_that_are_followed_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("instar.cli.looking.look", ended)
    told = CliRunner().invoke(instar, ["logs", "shop/dev", "-f"], standalone_mode=False)
    assert (told.output, told.return_value) == ("", 130)
