"""Kill the agent before and after every side effect of beginning what is due, and of ending it: it runs once."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from control_machine import SETTINGS, Machine

from instar.control.schedule import DONE, next_at
from instar.errors import Refused
from instar.model.environment import ScheduledTask
from instar.model.occurrence import Occurrence
from instar.operations.deploy import begin
from simulated import Behaviour, Crash, Effects
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


EVERY = {
    "skip": ScheduledTask(command=("poll",), every_ms=10_000),
    "once": ScheduledTask(command=("poll",), every_ms=10_000, missed="once"),
    "overlap": ScheduledTask(command=("poll",), every_ms=10_000, overlap=True),
    "cron": ScheduledTask(command=("poll",), cron="* * * * *"),
}


def scheduled(machine: Machine, version: str, schedule: dict[str, ScheduledTask]) -> None:
    """Deploy a release that has this schedule."""
    wanted = dataclasses.replace(configuration({"VERSION": version}, **machine.fields), schedule=schedule)
    settings = dataclasses.replace(SETTINGS, instances=1)
    begin(machine.workspace, ENV, settings, image(), wanted, "deploy", project=None, origin=ORIGIN)


def told_of(machine: Machine, entry: str) -> dict[str, int]:
    """Return how often the history tells of each time at which an entry was due: that it began, or was missed."""
    found = Counter[str]()
    for event in machine.ledger.history(ENV):
        occurrence = Occurrence.of(str(event.detail.get("task"))) if event.kind == "launch" else None
        if occurrence is not None and occurrence.entry == entry and occurrence.due_at is not None:
            found[f"{occurrence.due_at:%H:%M:%S}"] += 1
        if event.kind == "missed" and event.detail["entry"] == entry:
            at, last = (datetime.fromisoformat(event.detail[word]) for word in ("first", "last"))
            count = 0
            while at <= last:
                found[f"{at:%H:%M:%S}"] += 1
                count += 1
                at = next_at(EVERY[entry], at) or last + timedelta(days=1)
            assert count == event.detail["count"]
    return dict(found)


def due_times(task: ScheduledTask, since: datetime, until: datetime) -> list[str]:
    found, at = [], next_at(task, since)
    while at is not None and at <= until:
        found.append(f"{at:%H:%M:%S}")
        at = next_at(task, at)
    return found


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_history_tells_of_every_due_time_once_however_long_nobody_looks(
    seed: int, exclusive: bool, tmp_path: Path
) -> None:
    """An agent that comes and goes, is busy, and begins anew; commands that take their time; releases that change."""
    dice = random.Random(seed)
    fields: dict[str, object] = {"exclusive": True} if exclusive else {}
    machine = Machine(tmp_path / "ledger.db", Effects(), fields, instances=1)
    scheduled(machine, "1", EVERY)
    machine.settle()
    machine.agent = True
    (since,) = (one.at for one in machine.ledger.history(ENV) if one.kind == "shift")
    for release in range(1, 4):
        machine.world.runtime.behave(release, Behaviour(task_lasts_s=dice.choice([0.5, 3, 25, 70])))
    release = 1
    for _ in range(25):
        if dice.random() < 0.1 and release < 3:
            with contextlib.suppress(Refused):  # a command has the volume
                scheduled(machine, str(release + 1), EVERY)
                release += 1
        machine.world.clock.sleep(dice.choice([1, 4, 9, 15, 40, 130]))
        if dice.random() < 0.8:
            machine.settle()
    machine.world.clock.sleep(200)
    machine.settle()
    until = machine.world.clock.peek() - timedelta(seconds=61)
    for name, task in EVERY.items():
        told = told_of(machine, name)
        expected = due_times(task, since, until)
        assert [one for one in expected if told.get(one) != 1] == [], f"{name}: {told}"
    machine.ledger.close()


def test_what_a_release_no_longer_has_was_missed_until_it_came(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "ledger.db", Effects(), {}, instances=1)
    scheduled(machine, "1", EVERY)
    machine.settle()
    machine.agent = True
    machine.world.clock.sleep(500)
    scheduled(machine, "2", {"skip": EVERY["skip"]})
    machine.agent = False
    machine.settle()
    machine.agent = True
    for _ in range(2):
        machine.settle()
        first, second = (one.at for one in machine.ledger.history(ENV) if one.kind == "shift")
        assert told_of(machine, "once") == dict.fromkeys(due_times(EVERY["once"], first, second), 1)
        assert told_of(machine, "cron") == dict.fromkeys(due_times(EVERY["cron"], first, second), 1)
    machine.ledger.close()


def test_another_time_for_an_entry_begins_nothing_of_before_it_was_so(tmp_path: Path) -> None:
    """A nightly job that is moved to an hour that has passed today waits for tomorrow."""
    machine, occurrence = due(tmp_path / "ledger.db", Effects(), engine=False)
    settle(machine)
    machine.world.clock.sleep(1_800)
    half_past = ScheduledTask(command=("report",), cron=f"{(machine.world.clock.peek().minute - 5) % 60} * * * *")
    scheduled(machine, "2", {"report": dataclasses.replace(half_past, missed="once")})
    machine.agent = False
    machine.settle()
    machine.agent = True
    settle(machine)
    assert machine.world.runtime.tasks_run == [(1, occurrence.name)]
    machine.ledger.close()
