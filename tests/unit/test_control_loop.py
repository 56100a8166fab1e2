"""The loop on a simulated machine: what a failure in the middle leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from instar.control.loop import IN_VAIN_S, Loop
from instar.control.observe import observe
from instar.errors import ProviderError
from instar.ledger import Ledger
from instar.model.definition import Data, Task
from instar.model.environment import RolloutRules, Settings
from instar.model.progress import Progress, silent
from instar.model.release import EnvironmentId, Instance
from instar.providers.base import Probe, Provider
from simulated import Behaviour, EngineSimulation, Simulation
from simulated.values import ENV, configuration, image


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
    ledger.save_settings(ENV, settings)
    made = ledger.add_release(ENV, image().digest, configuration({"VERSION": version}, **fields))
    ledger.begin_rollout(ENV, "deploy", made.number, settings_before=before)
    Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    ).run(ENV)


ONE = Settings(listen=("127.0.0.1:8080",), instances=2)


def test_a_router_that_refuses_the_switch_leaves_the_source_active(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.refuses.add("route")
    deploy(world, ledger, "2", ONE)
    state = ledger.get_environment(ENV)
    assert (state.active, state.rollout) == (1, None)
    assert len(world.router.serving(ENV)) == 2
    assert all(name.startswith("guestbook-dev-1-") for name in world.router.serving(ENV))


def test_a_failed_rollout_takes_its_settings_back(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.refuses.add("attach")
    more = Settings(listen=("127.0.0.1:9999",), instances=3)
    deploy(world, ledger, "2", more, before=ONE)
    assert ledger.get_environment(ENV).settings == ONE
    assert world.router.observe(ENV).plan is not None
    assert world.router.observe(ENV).plan.listen == ONE.listen  # type: ignore[union-attr]


def test_a_release_that_ends_while_its_last_task_runs_gives_the_traffic_back(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.runtime.behave(2, Behaviour(dies_after_s=2, task_lasts_s=5))
    deploy(world, ledger, "2", ONE, after=(Task(command=("tidy",)),))
    state = ledger.get_environment(ENV)
    assert (state.active, state.rollout) == (1, None)
    assert [event.release for event in ledger.history(ENV) if event.kind == "shift"] == [1, 2, 1]
    assert len(world.router.serving(ENV)) == 2
    assert all(name.startswith("guestbook-dev-1-") for name in world.router.serving(ENV))
    assert sorted(world.runtime.traces()) == sorted(one.id for one in ledger.instances(ENV))


def test_what_is_decided_in_vain_keeps_no_processor_busy(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", ONE)
    world.router.route = lambda environment, weights: 0.0  # type: ignore[method-assign]  # it says yes and does nothing
    router = world.router._places[ENV]
    router.weights = dict.fromkeys(router.weights, 0)
    loop = Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    )
    assert loop.begin(ENV, asked=False).advance() == IN_VAIN_S
    with pytest.raises(ProviderError, match=r"the same is decided again and again, without effect: .*Route"):
        loop.run(ENV)


def passes(world: Simulation, ledger: Ledger, count: int = 8) -> list[Progress]:
    """Let an agent look so often, a second each; return what it told."""
    told: list[Progress] = []
    loop = Loop(ledger=ledger, provider=world.provider, find_image=lambda digest: image(), report=told.append)
    run = loop.begin(ENV, asked=False)
    for _ in range(count):
        seconds = run.advance()
        world.clock.sleep(1.0 if seconds is None else min(seconds, 1.0))
    return told


def test_a_hot_instance_that_the_router_does_not_know_is_asked_by_who_looks_on(
    world: Simulation, ledger: Ledger
) -> None:
    for version in ("1", "2"):
        deploy(world, ledger, version, ONE)
    world.router.detach(ENV, [one.id for one in ledger.instances(ENV) if one.release == 1])
    world.runtime.change("guestbook-dev-1-2", answers=500)
    looked = observe(ledger, world.provider, ENV, whole=True)
    hot = {copy.id: copy.probe for copy in looked.groups if copy.release == 1}
    assert hot["guestbook-dev-1-1"] == Probe(healthy=True)
    assert hot["guestbook-dev-1-2"] == Probe(healthy=False, cause="GET /healthz answered 500")
    agents = observe(ledger, world.provider, ENV, replacing=True)
    assert [copy.probe for copy in agents.groups] == [copy.probe for copy in looked.groups]
    busy = observe(ledger, world.provider, ENV)
    assert all(copy.probe is None for copy in busy.groups if copy.release == 1)


def test_a_watched_release_that_does_not_stay_well_is_left_and_stays_left(world: Simulation, ledger: Ledger) -> None:
    watched = dataclasses.replace(ONE, rollout=RolloutRules(watch_ms=60_000))
    deploy(world, ledger, "1", watched)
    deploy(world, ledger, "2", watched)
    passes(world, ledger)
    assert ledger.get_environment(ENV).active == 2, "it is well so far"
    world.runtime.kill("guestbook-dev-2-1", out_of_memory=True)
    told = passes(world, ledger)
    state = ledger.get_environment(ENV)
    assert (state.active, state.rollout, state.alarm) == (1, None, None)
    reason = "release 2 did not stay well: an instance of it ended: killed: out of memory"
    (event,) = [one for one in ledger.history(ENV) if one.kind == "watch-failed"]
    assert event.detail == {"back_to": 1, "reason": reason}
    assert [one.text for one in told if one.stage == "back"] == [f"{reason}: going back to release 1"]
    assert [one.text for one in told if one.stage == "ended"] == ["guestbook-dev-2-1: killed: out of memory"]
    last = ledger.last_rollout(ENV)
    assert last is not None
    assert (last.kind, last.source, last.target, last.state) == ("rollback", 2, 1, "done")
    world.runtime.kill("guestbook-dev-1-1")
    passes(world, ledger)
    assert ledger.get_environment(ENV).active == 1, "a rollback is not watched"


def test_after_the_watch_an_instance_that_ends_is_replaced_as_ever(world: Simulation, ledger: Ledger) -> None:
    watched = dataclasses.replace(ONE, rollout=RolloutRules(watch_ms=60_000))
    for version in ("1", "2"):
        deploy(world, ledger, version, watched)
    world.clock.sleep(61)
    world.runtime.kill("guestbook-dev-2-1")
    told = passes(world, ledger)
    assert ledger.get_environment(ENV).active == 2
    assert len(world.router.serving(ENV)) == 2
    assert [one.text for one in told if one.stage == "replace"] == ["1 instance that had ended"]


def test_where_the_data_changed_somebody_is_called_and_what_ended_is_replaced(
    world: Simulation, ledger: Ledger
) -> None:
    watched = dataclasses.replace(ONE, rollout=RolloutRules(watch_ms=60_000))
    deploy(world, ledger, "1", watched)
    deploy(world, ledger, "2", watched, data=Data(version=2, reads=(1, 2)))
    world.runtime.kill("guestbook-dev-2-2")
    passes(world, ledger)
    state = ledger.get_environment(ENV)
    assert (state.active, state.alarm_holds) == (2, False)
    assert state.alarm is not None
    assert "write different versions of the data" in state.alarm
    assert len(world.router.serving(ENV)) == 2


def test_a_deploy_that_goes_to_a_release_that_falls_at_once_ends_where_it_began(
    world: Simulation, ledger: Ledger
) -> None:
    """The command's own loop sees it too, if it is still there."""
    watched = dataclasses.replace(ONE, rollout=RolloutRules(watch_ms=60_000))
    deploy(world, ledger, "1", watched)
    deploy(world, ledger, "2", watched)
    world.runtime.kill("guestbook-dev-2-1")
    deploy_again = Loop(
        ledger=ledger,
        provider=world.provider,
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    ).run(ENV)
    assert deploy_again.went_back is not None
    assert ledger.get_environment(ENV).active == 1


class Telling:
    """A provider that says when groups have come to where they were on their way to."""

    def __init__(self, world: EngineSimulation, *, tells: bool) -> None:
        self.awaited: list[tuple[str, ...]] = []
        self._world = world
        self._tells = tells

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.provider, name)

    @property
    def changes(self) -> Telling:
        return self

    def await_change(self, environment: EnvironmentId, groups: Sequence[Instance], within_s: float) -> bool:
        self.awaited.append(tuple(one.id for one in groups))
        self._world.clock.sleep(within_s if self._tells else 0.0)
        return self._tells


@pytest.mark.parametrize("tells", [True, False])
def test_who_tells_of_changes_is_waited_for_and_else_the_time(tells: bool, tmp_path: Path) -> None:
    world = EngineSimulation()
    provider, paused = Telling(world, tells=tells), list[float]()

    def pause(seconds: float) -> None:
        paused.append(seconds)
        world.clock.sleep(seconds)

    with Ledger(tmp_path / "instar.db", actor="tester", clock=world.clock.now) as opened:
        for number in range(3):
            opened.save_settings(ENV, ONE)
            made = opened.add_release(ENV, image().digest, configuration({"VERSION": str(number)}))
            opened.begin_rollout(ENV, "deploy", made.number)
            Loop(
                ledger=opened,
                provider=cast(Provider, provider),
                find_image=lambda digest: image(),
                report=silent,
                pause=pause,
            ).run(ENV)
        assert opened.get_environment(ENV).active == 3
        assert {one.release for one in opened.instances(ENV)} == {2, 3}
    releases = [{name.split("-")[2] for name in names} for names in provider.awaited]
    assert {"3"} in releases, "those that launch"
    assert {"1"} in releases, "those that end"
    assert all(len(one) == 1 for one in releases)
    assert tells or len(paused) >= len(provider.awaited)
