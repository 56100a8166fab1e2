"""What the verbs write and how they end, on a machine of this kind and on an engine elsewhere: without root."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.cancellation import Cancellation
from instar.errors import Refused, RouterUnreachable
from instar.ledger import Ledger
from instar.model.environment import Analysis, Network, Replace, RolloutRules, RolloutStep, Settings
from instar.model.host_names import HostNames
from instar.model.outcome import RolloutOutcome
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import RolloutAborted, StepTaken
from instar.model.scaling import Scaling
from instar.model.state import StateDirectory
from instar.operations import converge, deploy
from instar.providers.facets import require
from instar.providers.router_state import Counters
from instar.views.outcomes import outcome_json, outcome_lines
from simulated import Behaviour, EngineSimulation, Simulation
from simulated.values import ENV, ORIGIN, configuration, image

AT = datetime(2027, 1, 31, 8, 0, tzinfo=UTC)
THREE = Settings(listen=("127.0.0.1:8080",), instances=3)
CANARY = Settings(
    listen=("127.0.0.1:8080",),
    instances=3,
    rollout=RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=20, pause_ms=300),)),
)


class Bench:
    """A simulation with a ledger, and the verbs on it."""

    def __init__(self, world: Simulation | EngineSimulation, ledger: Ledger, home: Path) -> None:
        self.world, self.ledger = world, ledger
        self.told: list[Progress] = []
        self.workspace: Any = SimpleNamespace(
            ledger=ledger,
            state=StateDirectory(home, home / "run"),
            provider=lambda name: world.provider,
            provider_package=lambda name: world.provider,
            store=SimpleNamespace(image=lambda digest: image()),
            report=self.told.append,
            cancellation=Cancellation(sleep=world.clock.sleep),
        )

    def deploy(self, version: str, settings: Settings = THREE) -> Any:
        made = configuration({"VERSION": version})
        release = deploy.begin(self.workspace, ENV, settings, image(), made, "deploy", project=None, origin=ORIGIN)
        return converge.converge(self.workspace, release, time.monotonic())

    def roll_back(self, number: int) -> Any:
        release = self.ledger.get_release(ENV, number)
        converge.start_rollout(self.workspace, ENV, release, "rollback")
        return converge.converge(self.workspace, release, time.monotonic())

    def said(self, stage: str) -> list[str]:
        return [one.text for one in self.told if one.stage == stage and one.kind == "done"]


@pytest.fixture(params=[Simulation, EngineSimulation])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    world = request.param()
    with Ledger(tmp_path / "instar.db", actor="tester", clock=world.clock.now) as ledger:
        yield Bench(world, ledger, tmp_path)


def test_a_deploy_moves_the_traffic_and_a_rollback_brings_it_back(bench: Bench) -> None:
    assert bench.deploy("1").outcome == "done"
    second = bench.deploy("2", CANARY)
    assert (second.outcome, second.previous, second.active, second.touched) == ("done", 1, 2, True)
    assert {name.split("-")[2] for name in bench.world.router.serving(ENV)} == {"2"}
    back = bench.roll_back(1)
    assert (back.outcome, back.previous, back.active) == ("done", 2, 1)
    assert {name.split("-")[2] for name in bench.world.router.serving(ENV)} == {"1"}
    assert bench.deploy("2", CANARY).release == 3, "numbers are never used again"


def test_figures_that_nobody_has_are_none(bench: Bench) -> None:
    bench.deploy("1")
    outcome = bench.deploy("2")
    counts = bench.world.provider.counts is not None
    for figure in (outcome.requests, outcome.failed, outcome.drained, outcome.switch_ms):
        assert (figure is not None) == counts
    (drained,) = bench.said("drain")[-1:]
    assert (" finished in " in drained) == counts


def counted(bench: Bench, monkeypatch: pytest.MonkeyPatch, *seen: Counters) -> RolloutOutcome:
    """Deploy release 2 while the router says these."""
    bench.deploy("1")
    looks = iter(seen)
    monkeypatch.setattr(converge, "_counted", lambda provider, environment: next(looks))
    outcome: RolloutOutcome = bench.deploy("2")
    return outcome


def test_requests_are_counted_on_where_the_router_was_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = counted(
        bench, monkeypatch, Counters(requests=900, failed=1, since=AT), Counters(requests=907, failed=3, since=AT)
    )
    assert (one.requests, one.failed, one.counted_since) == (7, 2, None)
    (last,) = outcome_lines(one)
    assert last.text.endswith(" · 7 requests, 2 failed")


def test_where_haproxy_was_killed_it_is_said_since_when_requests_are_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = AT + timedelta(seconds=90)
    one = counted(
        bench, monkeypatch, Counters(requests=3, failed=0, since=AT), Counters(requests=7, failed=1, since=later)
    )
    assert (one.requests, one.failed, outcome_json(one)["counted_since"]) == (7, 1, later)
    (last,) = outcome_lines(one)
    said = "7 requests, 1 failed since 08:01:30 UTC, when HAProxy was started anew: those before are not known"
    assert last.text.endswith(said)


def test_requests_are_not_guessed_where_the_router_does_not_say(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = counted(bench, monkeypatch, Counters(requests=3, failed=0, since=AT), Counters(requests=0, failed=0))
    assert (one.requests, one.failed, one.counted_since) == (None, None, None)


def test_members_are_counted_and_not_groups(bench: Bench) -> None:
    bench.deploy("1")
    assert bench.said("launch")[0].startswith("release 1 · 3 of 3 healthy")
    assert sum(one.members for one in bench.ledger.instances(ENV)) == 3


def test_a_release_that_never_gets_healthy_leaves_everything_as_it_was(bench: Bench) -> None:
    bench.deploy("1")
    bench.world.runtime.behave(2, Behaviour(answers=500, says=("Traceback",)))
    outcome = bench.deploy("2")
    assert (outcome.outcome, outcome.active) == ("failed", 1)
    assert "healthy after 30 s" in outcome.reason
    assert "Traceback" in outcome.last_lines[0]
    assert {name.split("-")[2] for name in bench.world.router.serving(ENV)} == {"1"}
    assert {one.release for one in bench.ledger.instances(ENV)} == {1}


class Unheard:
    """A provider that asks for release 2's traffic, and never sees that it has it."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def route(self, environment: EnvironmentId, weights: Mapping[str, int]) -> float | None:
        if any(name.split("-")[2] == "2" for name in weights):
            raise RouterUnreachable("it has not taken it up yet")
        seconds: float | None = self._provider.route(environment, weights)
        return seconds


def test_traffic_that_was_asked_for_and_not_confirmed_is_not_said_to_be_untouched(bench: Bench) -> None:
    bench.deploy("1")
    unheard = Unheard(bench.world.provider)
    bench.workspace.provider = lambda name: unheard
    outcome = bench.deploy("2")
    assert (outcome.outcome, outcome.active, outcome.touched) == ("failed", 1, True)
    assert "traffic was never touched" not in "".join(one.text for one in outcome_lines(outcome))


def test_traffic_that_a_killed_command_has_given_is_not_said_to_be_untouched(bench: Bench) -> None:
    bench.deploy("1")
    made = configuration({"VERSION": "2"})
    release = deploy.begin(bench.workspace, ENV, CANARY, image(), made, "deploy", project=None, origin=ORIGIN)
    rollout = bench.ledger.get_environment(ENV).rollout
    assert rollout is not None
    bench.ledger.change_stage(StepTaken(rollout=rollout.id, step=1, percent=20))
    bench.ledger.change_stage(RolloutAborted(rollout=rollout.id, reason=""))
    outcome = converge.converge(bench.workspace, release, time.monotonic())
    assert (outcome.outcome, outcome.active, outcome.touched) == ("failed", 1, True)


def test_what_a_provider_has_not_is_one_sentence() -> None:
    with pytest.raises(Refused, match="cannot open a shell in 'x': its provider does not do that") as refused:
        require(EngineSimulation().provider.shells, "open a shell in 'x'")
    assert "docs/kubernetes.md" in (refused.value.hint or "")


SO = "cannot run 'guestbook/dev' so: provider 'local'"
PREVIEW = "does not show a release before it has traffic ('preview'); take that away"
NETWORK = "does not hold what instances may reach ('network'); take that away"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preview": "header"}, f"{SO} {PREVIEW}"),
        (
            {"preview": "header", "network": Network(connections=100)},
            f"{SO} {PREVIEW}; provider 'local' {NETWORK}",
        ),
        ({"scaling": Scaling(min=1, max=2)}, f"{SO} has no autoscaler ('instances: {{min, max}}'); write one number"),
        (
            {"rollout": RolloutRules(strategy="canary", analysis=Analysis())},
            f"{SO} counts no requests to judge a canary by ('rollout.analysis'); take that away",
        ),
        (
            {"names": HostNames(http=("shop.example",))},
            f"{SO} does not pass requests by name ('listen'); write an address",
        ),
    ],
)
def test_settings_that_an_engine_cannot_give_are_refused(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    world = EngineSimulation()
    with Ledger(tmp_path / "instar.db", actor="tester", clock=world.clock.now) as ledger:
        with pytest.raises(Refused) as refused:
            Bench(world, ledger, tmp_path).deploy("1", dataclasses.replace(THREE, **settings))
        assert refused.value.message == told
        assert ledger.find_environment(ENV) is None


def test_what_is_other_in_settings_is_said_key_by_key(bench: Bench) -> None:
    bench.deploy("1")
    bench.deploy("2", dataclasses.replace(THREE, instances=2, replace=Replace(budget=7)))
    (told,) = [one for one in bench.told if one.stage == "settings"]
    assert told.text == "changed: instances, replace"
    assert told.detail == ("instances: 3 → 2", "replace.budget: 5 → 7")
