"""Kill the agent before and after every side effect of beginning what is due, and of ending it: it runs once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from control_machine import SETTINGS, Machine

from instar.control.schedule import DONE, next_at
from instar.model.environment import ScheduledTask
from instar.model.occurrence import Occurrence
from instar.operations.deploy import begin
from simulated import Crash, Effects
from simulated.values import ENV, ORIGIN, configuration, image

HOURLY = ScheduledTask(command=("report",), every_ms=3_600_000, missed="once")


def due(path: Path, effects: Effects, *, engine: bool) -> tuple[Machine, Occurrence]:
    """Return a machine on which something is due now, and what."""
    machine = Machine(path, effects, {}, instances=1, engine=engine)
    wanted = dataclasses.replace(configuration({"VERSION": "1"}), schedule={"report": HOURLY})
    settings = dataclasses.replace(SETTINGS, instances=1)
    begin(machine.workspace, ENV, settings, image(), wanted, "deploy", project=None, origin=ORIGIN)
    machine.settle()
    machine.agent = True
    now = machine.world.clock.peek()
    due_at = next_at(HOURLY, now)
    assert due_at is not None
    machine.world.clock.sleep((due_at - now).total_seconds() + 1)
    assert machine.world.clock.peek() - due_at < timedelta(seconds=30)
    return machine, Occurrence(entry="report", due_at=due_at)


def settle(machine: Machine) -> None:
    """Pass as the agent does, until what was begun has ended: an engine takes its time."""
    for _ in range(20):
        machine.settle()
        last = machine.ledger.schedules.last(ENV, "report")
        if last is not None and last.outcome is not None and len(machine.ledger.instances(ENV)) == 1:
            return
        machine.world.clock.sleep(5)


def ran(machine: Machine, occurrence: Occurrence) -> None:
    """Assert that it ran once, that how it ended is known, and that nothing of it is left."""
    assert machine.world.runtime.tasks_run == [(1, occurrence.name)]
    last = machine.ledger.schedules.last(ENV, "report")
    assert last is not None and (last.name, last.outcome) == (occurrence.name, DONE)
    assert all(one.task is None for one in machine.ledger.instances(ENV))
    machine.check()


@pytest.mark.parametrize("engine", [False, True])
def test_what_is_due_runs_once_wherever_the_agent_is_killed(engine: bool, tmp_path: Path) -> None:
    whole, occurrence = due(tmp_path / "whole.db", Effects(), engine=engine)
    began = len(whole.effects.names)
    settle(whole)
    ran(whole, occurrence)
    names = whole.effects.names[began:]
    whole.ledger.close()
    assert len(names) > 6, names
    for index in range(len(names)):
        for when in ("before", "after"):
            effects = Effects()
            machine, occurrence = due(tmp_path / f"{when}-{index}.db", effects, engine=engine)
            setattr(effects, f"_{when}", len(effects.names) + index)
            with pytest.raises(Crash):
                settle(machine)
            machine.restart()
            settle(machine)
            ran(machine, occurrence)
            machine.ledger.close()


def test_what_was_missed_is_written_down_once_wherever_the_agent_is_killed(tmp_path: Path) -> None:
    """Nobody was there for five hours: four are missed, and the last is made up for."""

    def away(path: Path) -> tuple[Machine, Effects]:
        effects = Effects()
        machine, _ = due(path, effects, engine=False)
        settle(machine)
        machine.world.clock.sleep(5 * 3_600)
        return machine, effects

    def told(machine: Machine) -> list[tuple[str, int]]:
        events = [one for one in machine.ledger.history(ENV) if one.kind == "missed"]
        return [(one.detail["entry"], one.detail["count"]) for one in events]

    whole, effects = away(tmp_path / "whole.db")
    began = len(effects.names)
    settle(whole)
    assert told(whole) == [("report", 4)]
    assert len(whole.world.runtime.tasks_run) == 2
    for index in range(len(effects.names) - began):
        machine, effects = away(tmp_path / f"{index}.db")
        effects._after = len(effects.names) + index
        with pytest.raises(Crash):
            settle(machine)
        machine.restart()
        settle(machine)
        assert told(machine) == [("report", 4)] and len(machine.world.runtime.tasks_run) == 2
        machine.world.clock.sleep(120)
        settle(machine)
        assert told(machine) == [("report", 4)]
        machine.ledger.close()
    whole.ledger.close()
