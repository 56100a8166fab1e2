"""What instances may reach follows the settings, whatever becomes of the releases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.control.loop import Loop
from instar.ledger import Ledger
from instar.model.environment import Allow, Network, Settings
from instar.model.progress import silent
from instar.providers.base import NetworkPlan
from simulated import Behaviour, Simulation
from simulated.values import ENV, configuration, image

CLOSED = Settings(listen=("127.0.0.1:8080",))
OPEN = dataclasses.replace(CLOSED, network=Network(allow=(Allow(to="database/dev", ports=("5432/tcp",)),)))


@pytest.fixture
def world() -> Simulation:
    return Simulation()


@pytest.fixture
def ledger(tmp_path: Path, world: Simulation) -> Iterator[Ledger]:
    with Ledger(tmp_path / "instar.db", actor="tester", clock=world.clock.now) as opened:
        yield opened


def run(world: Simulation, ledger: Ledger) -> None:
    loop = Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    )
    loop.run(ENV)


def deploy(world: Simulation, ledger: Ledger, version: str, settings: Settings, before: Settings | None = None) -> None:
    ledger.save_settings(ENV, settings)
    made = ledger.add_release(ENV, image().digest, configuration({"VERSION": version}))
    ledger.begin_rollout(ENV, "deploy", made.number, settings_before=before)
    run(world, ledger)


def in_force(world: Simulation) -> NetworkPlan | None:
    return world.runtime.network_plan(ENV)


def test_it_is_set_before_the_first_instance_is_made(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", OPEN)
    assert in_force(world) == NetworkPlan.of(ENV, OPEN)
    names = world.effects.names
    assert names.index(f"set network of {ENV}") < next(i for i, name in enumerate(names) if name.startswith("create"))


def test_a_change_applies_at_once_and_replaces_nothing(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", CLOSED)
    before = [(one.id, one.started_at) for one in ledger.instances(ENV)]
    ledger.save_settings(ENV, OPEN)
    run(world, ledger)
    assert in_force(world) == NetworkPlan.of(ENV, OPEN)
    assert [(one.id, one.started_at) for one in ledger.instances(ENV)] == before
    world.effects.names.clear()
    run(world, ledger)
    assert not [name for name in world.effects.names if name.startswith("set network")], "it is set already"


def test_a_rollout_that_fails_takes_it_back(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", CLOSED)
    world.runtime.behave(2, Behaviour(answers=500))
    deploy(world, ledger, "2", OPEN, before=CLOSED)
    assert ledger.get_environment(ENV).active == 1
    assert in_force(world) == NetworkPlan.of(ENV, CLOSED)


def test_after_a_reboot_it_is_set_again(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", OPEN)
    world.runtime.reboot()
    assert in_force(world) is None
    run(world, ledger)
    assert in_force(world) == NetworkPlan.of(ENV, OPEN)
