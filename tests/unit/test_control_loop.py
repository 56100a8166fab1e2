"""The loop on a simulated machine: what a failure in the middle leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.control.loop import IN_VAIN_S, Loop
from instar.errors import ProviderError
from instar.ledger import Ledger
from instar.model.definition import Task
from instar.model.progress import silent
from instar.model.release import Settings
from simulated import Behaviour, Simulation
from simulated.values import PLACE, configuration, image


@pytest.fixture
def world() -> Simulation:
    return Simulation()


@pytest.fixture
def ledger(tmp_path: Path, world: Simulation) -> Iterator[Ledger]:
    with Ledger(tmp_path / "instar.db", actor="tester", clock=world.clock.now) as opened:
        yield opened


def deploy(
    world: Simulation,
    ledger: Ledger,
    version: str,
    settings: Settings,
    before: Settings | None = None,
    **fields: object,
) -> None:
    ledger.save_settings(PLACE, settings)
    made = ledger.add_release(PLACE, image().digest, configuration({"VERSION": version}, **fields))
    ledger.begin_rollout(PLACE, "deploy", made.number, settings_before=before)
    Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    ).run(PLACE)


ONE = Settings(listen=("127.0.0.1:8080",), instances=2)


def test_a_router_that_refuses_the_switch_leaves_the_source_active(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.refuses.add("route")
    deploy(world, ledger, "2", ONE)
    state = ledger.get_environment(PLACE)
    assert (state.active, state.rollout) == (1, None)
    assert len(world.router.serving(PLACE)) == 2
    assert all(name.startswith("guestbook-dev-1-") for name in world.router.serving(PLACE))


def test_a_failed_rollout_takes_its_settings_back(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.refuses.add("attach")
    more = Settings(listen=("127.0.0.1:9999",), instances=3)
    deploy(world, ledger, "2", more, before=ONE)
    assert ledger.get_environment(PLACE).settings == ONE
    assert world.router.observe(PLACE).plan is not None
    assert world.router.observe(PLACE).plan.listen == ONE.listen  # type: ignore[union-attr]


def test_a_release_that_ends_while_its_last_task_runs_gives_the_traffic_back(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.runtime.behave(2, Behaviour(dies_after_s=2, task_lasts_s=5))
    deploy(world, ledger, "2", ONE, after=(Task(command=("tidy",)),))
    state = ledger.get_environment(PLACE)
    assert (state.active, state.rollout) == (1, None)
    assert [event.release for event in ledger.history(PLACE) if event.kind == "shift"] == [1, 2, 1]
    assert len(world.router.serving(PLACE)) == 2
    assert all(name.startswith("guestbook-dev-1-") for name in world.router.serving(PLACE))
    assert sorted(world.runtime.traces()) == sorted(one.id for one in ledger.instances(PLACE))


def test_what_is_decided_in_vain_keeps_no_processor_busy(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.route = lambda place, weights: 0.0  # type: ignore[method-assign]  # it says yes and does nothing
    router = world.router._places[PLACE]
    router.weights = dict.fromkeys(router.weights, 0)
    loop = Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    )
    assert loop.begin(PLACE, asked=False).advance() == IN_VAIN_S
    with pytest.raises(ProviderError, match=r"it is decided again and again, and changes nothing: .*Route"):
        loop.run(PLACE)
