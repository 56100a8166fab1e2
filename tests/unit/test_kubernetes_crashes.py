"""kill -9 before and after everything that a deploy asks of a cluster, its gateway too, and once more while whoever
comes next goes on: all of it, on a stub of a cluster, where after each change requests have to find somebody.

On a real cluster, with requests, the same takes hours: tests/acceptance/test_kubernetes_killed.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.model.configuration import Configuration
from instar.model.definition import Stop
from instar.model.environment import RolloutRules, RolloutStep
from instar.operations.deploy import begin, carry_out
from instar.operations.locks import hold_environment, keep_from_gc
from instar.providers.base import Provider
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.gateway import ask
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.provider import KubernetesProvider
from instar.providers.kubernetes.sight import Sight
from simulated.effects import Crash, Effects
from simulated.values import ORIGIN
from simulated.workspace import SimulatedWorkspace

STRATEGIES = {
    "canary": RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=50, pause_ms=100),)),
    "blue-green": RolloutRules(strategy="blue-green"),
}
SOON_GONE = dataclasses.replace(SERVICE, stop=Stop(drain_ms=100))
PARTS = 29  # one of them in the normal run; odd: points are by turns before a call and after it


class OnACluster(SimulatedWorkspace):
    """A workspace whose provider is a process's own, and knows nothing of what one before it did."""

    kubernetes: Provider

    def provider(self, name: str) -> Provider:
        return self.kubernetes


class Trial:
    """One environment that is deployed to again and again, killed in different places, and looked at afterwards."""

    def __init__(self, stub: ClusterStub, home: Path, strategy: str) -> None:
        self.settings = dataclasses.replace(SETTINGS, rollout=STRATEGIES[strategy])
        self.stub = stub
        self.world = World(stub, home, self.settings)
        self.workspace = OnACluster(home / "home")
        self.image = self.workspace.bake("one")
        self.effects = Effects()
        self.has_served = False
        self.versions = itertools.count(1)
        self.change()

    def change(self) -> None:
        self.configuration = Configuration(service=SOON_GONE, config={"VERSION": str(next(self.versions))})

    def deploy(self, effects: Effects) -> None:
        """Deploy as a process of its own, to a good end. Raises Crash where ``effects`` have it killed."""
        self.effects, workspace = effects, self.workspace
        workspace.kubernetes = KubernetesProvider(self.world.site, KUBERNETES.traits)
        with hold_environment(workspace, ENV):
            with keep_from_gc(workspace):
                found = begin(
                    workspace, ENV, self.settings, self.image, self.configuration, "deploy", project=None, origin=ORIGIN
                )
            outcome = carry_out(workspace, found, None, time.monotonic(), detach=False)
        assert outcome.outcome != "failed", outcome

    def require_served(self) -> None:
        """Requests find somebody, from the first time on that they did."""
        weights = self.weights()
        self.has_served = self.has_served or bool(weights)
        assert weights or not self.has_served, "nobody has the traffic"
        for name in weights:
            assert ("services", "shop", name) in self.stub.objects, f"'{name}' has traffic, and no Service"
            deployment = self.stub.one("deployments", name)
            assert deployment["metadata"].get("deletionTimestamp") is None, name
            assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"] == 2, name

    def weights(self) -> dict[str, int]:
        """Return what the route's rule for requests says: the groups that get some."""
        route = self.stub.objects.get(("httproutes", "shop", "shop-prod"))
        rules = [one for one in route["spec"]["rules"] if "headers" not in one["matches"][0]] if route else []
        backends = [one for rule in rules for one in rule.get("backendRefs", ())]
        return {one["name"]: one["weight"] for one in backends if one["weight"]}

    def check(self, when: str) -> None:
        """It ended as it would have: the newest release has the traffic, and nothing is there that nobody knows."""
        ledger = self.workspace.ledger
        state, newest = ledger.get_environment(ENV), ledger.recent(ENV, 1)[0].number
        assert (state.active, state.rollout) == (newest, None), when
        known = sorted(one.id for one in ledger.instances(ENV))
        (active,) = [one.id for one in ledger.instances(ENV) if one.release == newest]
        assert self.weights() == {active: 100}, when
        assert len(known) == 2, f"{when}: one is kept hot"
        for kind in ("deployments", "services"):
            assert self.stub.names(kind) == known, f"{when}: {kind}"
        anchors = [one for one in self.stub.names("configmaps") if not one.endswith("-config")]
        assert anchors == known, when
        pods = {one.rpartition("-")[0] for one in self.stub.names("pods")}
        assert sorted(pods) == known, when


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Have all that is asked of a cluster, and of its gateway, be a step of whoever deploys in the trial here."""
    trials: list[Trial] = []
    call = Api._ask

    def counted(self: Api, method: str, path: str, what: str, **named: Any) -> bytes | None:
        with trials[0].effects.step(f"{method} {path}"):
            return call(self, method, path, what, **named)

    def asked_gateway(*question: Any) -> object:
        with trials[0].effects.step("gateway"):
            return ask(*question)

    monkeypatch.setattr(Api, "_ask", counted)
    monkeypatch.setattr(Sight.__init__, "__defaults__", (asked_gateway, *(Sight.__init__.__defaults__ or ())[1:]))
    return trials


@pytest.fixture(params=STRATEGIES)
def trial(request: pytest.FixtureRequest, asked: list[Trial], stub: ClusterStub, tmp_path: Path) -> Iterator[Trial]:
    made = Trial(stub, tmp_path, request.param)
    asked.append(made)
    stub.ends_at_once = True
    answer = stub.answer

    def watched(method: str, *question: Any) -> Any:
        found = answer(method, *question)
        if method != "GET":
            made.require_served()
        return found

    stub.answer = watched  # type: ignore[method-assign]
    yield made
    made.workspace.ledger.close()


def killed(point: int) -> Effects:
    """Return what kills a process at a point: two for each question, before it and after its answer."""
    step, after = divmod(point, 2)
    return Effects(crash_after=step) if after else Effects(crash_before=step)


@pytest.mark.parametrize("part", [pytest.param("some"), pytest.param("the others", marks=pytest.mark.thorough)])
def test_a_deploy_that_is_killed_at_any_call_ends_as_it_would_have(trial: Trial, part: str) -> None:
    for _ in range(3):  # the second one ends what is hot no more
        whole = Effects()
        trial.change()
        trial.deploy(whole)
    count = 2 * len(whole.names)
    assert count > 80
    for point in [one for one in range(count) if (one % PARTS == 0) == (part == "some")]:
        trial.change()
        with pytest.raises(Crash):
            trial.deploy(killed(point))
        with contextlib.suppress(Crash):  # what was left to do may have fewer points
            trial.deploy(killed(point * 7 % count))
        trial.deploy(Effects())
        trial.check(f"killed at {point}")
