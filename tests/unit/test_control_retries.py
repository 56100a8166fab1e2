"""What a provider could not do just now is tried again; what it cannot do at all is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from control_values import snapshot

from instar.control.loop import Loop, _patience
from instar.control.retries import LONGEST_S, Retries
from instar.errors import (
    EnvironmentBusy,
    InstarError,
    ProviderError,
    ProviderUnavailable,
    RouterError,
    RouterUnreachable,
)
from instar.ledger import Ledger
from instar.model.environment import RolloutRules, RolloutStep, Settings
from instar.model.progress import silent
from instar.providers.traits import Traits
from simulated import Effects, Simulation, guarded
from simulated.effects import CrashableLedger
from simulated.values import ENV, configuration, image

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = timedelta(seconds=30)
BUSY = ProviderUnavailable("cannot create 'x': try again")
TWO = Settings(
    listen=("127.0.0.1:8080",),
    instances=2,
    rollout=RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=20, pause_ms=300),)),
)


def test_an_error_says_whether_to_try_again() -> None:
    assert InstarError("no").retry_after_s is None
    assert ProviderError("no").retry_after_s is None
    assert BUSY.retry_after_s == 1.0
    assert ProviderUnavailable("no", retry_after_s=7).retry_after_s == 7
    assert RouterError("once", retry_after_s=2).retry_after_s == 2
    assert RouterError("again").retry_after_s is None
    assert EnvironmentBusy("held", pid=7).retry_after_s == 1.0


def test_each_pause_is_longer_up_to_a_limit() -> None:
    retries, patience = Retries(), timedelta(hours=1)
    assert [retries.pause_s(BUSY, NOW, patience) for _ in range(6)] == [1, 2, 4, 8, LONGEST_S, LONGEST_S]
    retries.succeeded()
    assert retries.pause_s(BUSY, NOW, patience) == 1
    slow = ProviderUnavailable("come back later", retry_after_s=60)
    assert retries.pause_s(slow, NOW, patience) == 60


def test_it_is_given_up_when_nothing_else_came_for_as_long_as_the_patience_lasts() -> None:
    retries = Retries()
    assert retries.pause_s(BUSY, NOW, PATIENCE) is not None
    assert retries.pause_s(BUSY, NOW + timedelta(seconds=29.5), PATIENCE) == 0.5
    assert retries.pause_s(BUSY, NOW + timedelta(seconds=30), PATIENCE) is None


def test_what_is_permanent_is_not_tried_again() -> None:
    assert Retries().pause_s(ProviderError("no such command"), NOW, PATIENCE) is None
    assert Retries().pause_s(OSError("disk"), NOW, PATIENCE) is None


def test_a_clock_that_is_set_back_makes_nobody_wait_for_ever() -> None:
    retries = Retries()
    assert retries.pause_s(BUSY, NOW, PATIENCE) is not None
    before = NOW - timedelta(hours=1)
    assert retries.pause_s(BUSY, before, PATIENCE) is not None
    assert retries.pause_s(BUSY, before + PATIENCE, PATIENCE) is None


@pytest.fixture
def world() -> Simulation:
    return Simulation(effects=Effects())


@pytest.fixture
def ledger(tmp_path: Path, world: Simulation) -> Iterator[Ledger]:
    opened = CrashableLedger(tmp_path / "instar.db", actor="tester", clock=world.clock.now)
    with opened:
        yield opened


def deploy(world: Simulation, ledger: Ledger, version: str, before: Callable[[str], None]) -> None:
    ledger.save_settings(ENV, TWO)
    made = ledger.add_release(ENV, image().digest, configuration({"VERSION": version}))
    ledger.begin_rollout(ENV, "deploy", made.number)
    loop = Loop(
        ledger=ledger,
        provider=guarded(world.provider, before),
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    )
    loop.run(ENV)


def lose(call: str, error: InstarError, times: int) -> Callable[[str], None]:
    """Return what answers the first ``times`` of such calls with ``error``."""
    left = [times]

    def before(name: str) -> None:
        if name == call and left[0]:
            left[0] -= 1
            raise error

    return before


@pytest.mark.parametrize("call", ["observe", "create", "start", "expose", "route", "destroy", "log_lines"])
def test_a_lost_answer_ends_no_canary(world: Simulation, ledger: Ledger, call: str) -> None:
    deploy(world, ledger, "1", lambda name: None)
    deploy(world, ledger, "2", lose(call, BUSY, 3))
    state = ledger.get_environment(ENV)
    assert (state.active, state.rollout) == (2, None)
    assert all(name.startswith("guestbook-dev-2-") for name in world.router.serving(ENV))


def test_one_that_never_answers_ends_the_rollout_when_its_time_is_over(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", lambda name: None)
    began = world.clock.peek()
    unreachable = RouterUnreachable("cannot speak to the router: it is gone")
    deploy(world, ledger, "2", lose("expose", unreachable, 1_000_000))
    state = ledger.get_environment(ENV)
    assert (state.active, state.rollout) == (1, None)
    failed = ledger.last_rollout(ENV)
    assert failed is not None
    assert (failed.state, failed.detail["reason"]) == ("failed", "cannot speak to the router: it is gone")
    deadline_s = configuration().service.health.deadline_ms / 1000
    assert deadline_s <= (world.clock.peek() - began).total_seconds() <= deadline_s + 10


def test_a_permanent_error_ends_it_at_once(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", lambda name: None)
    began = world.clock.peek()
    deploy(world, ledger, "2", lose("create", ProviderError("no such command"), 1))
    assert ledger.get_environment(ENV).active == 1
    assert (world.clock.peek() - began).total_seconds() < 5


def test_where_nothing_moves_it_is_raised_when_the_time_is_over(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", lambda name: None)
    loop = Loop(
        ledger=ledger,
        provider=guarded(world.provider, lose("observe", BUSY, 1_000_000)),
        find_image=lambda digest: image(),
        report=silent,
        pause=world.clock.sleep,
    )
    with pytest.raises(ProviderUnavailable):
        loop.run(ENV)


def test_errors_between_which_there_was_nothing_to_do_are_not_in_a_row(world: Simulation, ledger: Ledger) -> None:
    deploy(world, ledger, "1", lambda name: None)
    lost: list[int] = []

    def lose_one(name: str) -> None:
        if name == "destroy" and lost:
            lost.clear()
            raise BUSY

    provider = guarded(world.provider, lose_one)
    loop = Loop(ledger=ledger, provider=provider, find_image=lambda digest: image(), report=silent)
    run = loop.begin(ENV, asked=False)
    for _ in range(3):
        lost.append(1)
        world.runtime.kill(min(world.runtime.traces()))
        for _ in range(30):
            seconds = run.advance()
            world.clock.sleep(5.0 if seconds is None else min(seconds, 5.0))
        assert not lost
    assert len(world.router.serving(ENV)) == 2


def test_what_is_ended_has_as_much_time_as_its_engine_may_be_away() -> None:
    """An environment without a release, too: whoever destroys it would give up long before whoever deploys to it."""
    away = Traits(patience_s=120)
    assert _patience(None) == PATIENCE
    assert _patience(snapshot([], destroying=True, traits=away)) == timedelta(seconds=120)
    assert _patience(snapshot([], destroying=True)) == PATIENCE
