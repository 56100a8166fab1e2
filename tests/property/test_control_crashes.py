"""Kill the loop before and after every side effect of every scenario, go on in a new one, and compare.

The side effects are counted by running each scenario once; nobody keeps a list of them. Held each time: traffic
never falls to nothing (but for the gap of an exclusive volume), nothing that clashes runs at once, exactly the
active release has weight, nothing is orphaned, the ledger verifies, and the end is the one without a crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_data_scenarios import DATA
from control_door_scenarios import DOORS
from control_machine import Machine
from control_scenarios import ON_AN_ENGINE, SHORTLY
from control_scenarios import SCENARIOS as OF_ONE_DOOR

from instar.model.rollout_happenings import RolloutAborted
from simulated import Crash, Effects
from simulated.values import ENV

SCENARIOS = {**OF_ONE_DOOR, **DATA, **DOORS}


@contextlib.contextmanager
def prepared(path: Path, name: str, *, engine: bool = False) -> Iterator[Machine]:
    fields, before, _ = SCENARIOS[name]
    instances = 1 if "exclusive" in fields else 3 if engine else 2
    machine = Machine(path, Effects(), dict(fields), instances=instances, engine=engine)
    for step in before:
        step(machine)
        machine.settle()
    try:
        yield machine
    finally:
        machine.ledger.close()


def without_a_crash(path: Path, name: str, *, engine: bool = False) -> tuple[object, int]:
    with prepared(path, name, engine=engine) as machine:
        began = len(machine.effects.names)
        SCENARIOS[name][2](machine)
        machine.settle()
        machine.check()
        return machine.summary(), len(machine.effects.names) - began


def killed(path: Path, name: str, *kills: tuple[str, int], engine: bool = False) -> object:
    """Run a scenario with one crash a life; return how it ended."""
    with prepared(path, name, engine=engine) as machine:
        lives, begun = [*kills, None], _rollouts(machine)
        for life, kill in enumerate(lives):
            done = len(machine.effects.names)
            if kill is not None:
                setattr(machine.effects, f"_{kill[0]}", done + kill[1])
            try:
                if life == 0 or _rollouts(machine) == begun or _under_way(machine):
                    SCENARIOS[name][2](machine)
                if machine.ledger.find_environment(ENV) is not None:
                    machine.settle()
                machine.effects.revive()
            except Crash:
                machine.restart()
        machine.check()
        return machine.summary()


def _rollouts(machine: Machine) -> int:
    """Return how many rollouts were ever begun: as long as there is no new one, the user asks again."""
    return sum(1 for event in machine.ledger.history(ENV) if event.kind == "rollout")


def _under_way(machine: Machine) -> bool:
    """Tell whether a rollout runs: what was asked for may be asked again, and changes nothing."""
    state = machine.ledger.find_environment(ENV)
    return state is not None and state.rollout is not None


@pytest.mark.parametrize("part", [pytest.param("a fifth"), pytest.param("the others", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_point_changes_nothing_about_the_end(name: str, part: str, tmp_path: Path) -> None:
    """Killed before an effect is killed after the one before it."""
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    assert count > 0
    points = [("after", index) for index in range(count) if (index % 5 == 0) == (part == "a fifth")]
    for when, index in [("before", 0), *points]:
        ended = killed(tmp_path / f"{when}-{index}.db", name, (when, index))
        assert ended == expected, f"killed {when} effect {index}"


WITH_DATA = [name for name in SCENARIOS if name.startswith(("back with its data", "a snapshot that is restored"))]


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_kill_at_any_point_of_bringing_data_back_and_then_a_word_to_give_up(name: str, tmp_path: Path) -> None:
    """Whoever is killed, wherever, and then gives up instead of going on: what runs has its own data."""
    _, count = without_a_crash(tmp_path / "whole.db", name)
    given_up = 0
    for index in range(count):
        with prepared(tmp_path / f"{index}.db", name) as machine:
            before = dict(machine.world.runtime.data.holds)
            machine.effects._after = len(machine.effects.names) + index
            with contextlib.suppress(Crash):
                SCENARIOS[name][2](machine)
                machine.settle()
            machine.restart()
            state = machine.ledger.get_environment(ENV)
            source = None if state.rollout is None else state.rollout.source
            if state.rollout is not None and state.active == source:
                machine.ledger.change_stage(RolloutAborted(rollout=state.rollout.id, reason=""))
                given_up += 1
            machine.settle()
            machine.check()
            if machine.ledger.get_environment(ENV).active == source:
                assert machine.world.runtime.data.holds == before, f"killed after effect {index}"
    assert given_up > 5


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_kills_at_any_points_change_nothing_either(name: str, tmp_path: Path) -> None:
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    print(f"{name}: {count} points")
    for index in range(count):
        for again in range(0, count, 3):
            ended = killed(tmp_path / f"{index}-{again}.db", name, ("after", index), ("after", again))
            assert ended == expected, f"killed after effect {index}, and {again} effects later"


TWICE = [
    "second deploy",
    "rollback to a retired release",
    "second deploy, exclusive",
    "canary",
    "rolling that is left to the agent",
    "an instance that died",
    "canary that is left to the agent",
    "canary that fails its analysis",
    "rolling",
]


@pytest.mark.thorough
@pytest.mark.parametrize("name", TWICE)
def test_a_second_kill_while_recovering_changes_nothing_either(name: str, tmp_path: Path) -> None:
    expected, count = without_a_crash(tmp_path / "whole.db", name)
    for index in range(count):
        again = (index * 7) % 5
        ended = killed(tmp_path / f"{index}.db", name, ("after", index), ("after", again))
        assert ended == expected, f"killed after effect {index}, and {again} effects later"


def kill_on_an_engine(path: Path, name: str, every: int) -> None:
    expected, count = without_a_crash(path / "whole.db", name, engine=True)
    assert count > 0
    for when, index in (("before", 0), *(("after", index) for index in range(0, count, every))):
        ended = killed(path / f"{when}-{index}.db", name, (when, index), engine=True)
        assert ended == expected, f"killed {when} effect {index}"


@pytest.mark.parametrize("name", ON_AN_ENGINE[:SHORTLY])
def test_on_an_engine_a_kill_changes_nothing_either(name: str, tmp_path: Path) -> None:
    """It is slow, shows late what was done, and says "try again": whoever was killed has not seen the half of it."""
    kill_on_an_engine(tmp_path, name, every=5)


@pytest.mark.long
@pytest.mark.parametrize("name", ON_AN_ENGINE)
def test_on_an_engine_a_kill_at_any_point_changes_nothing_either(name: str, tmp_path: Path) -> None:
    kill_on_an_engine(tmp_path, name, every=1)
