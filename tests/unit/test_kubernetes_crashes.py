"""kill -9 before and after everything that a deploy asks of a cluster, its gateway too, and once more while whoever
comes next goes on: all of it, on a stub of a cluster, where after each change requests have to find somebody.

On a real cluster, with requests, the same takes hours: tests/acceptance/test_kubernetes_killed.py.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import Refused
from instar.model.configuration import Configuration
from instar.model.definition import Stop
from instar.model.doors import Door
from instar.model.environment import Analysis, Check, RolloutRules, RolloutStep, Settings
from instar.model.outcome import RolloutOutcome
from instar.operations.deploy import begin, carry_out
from instar.operations.locks import hold_environment, keep_from_gc
from instar.operations.rollback import rollback
from instar.operations.status import status
from instar.providers.base import Provider
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.gateway import ask
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.provider import KubernetesProvider
from instar.providers.kubernetes.sight import Sight
from simulated.effects import Crash, Effects
from simulated.values import ORIGIN
from simulated.workspace import SimulatedWorkspace

CANARY = RolloutRules(strategy="canary", steps=(RolloutStep(weight_percent=50, pause_ms=100),))
BLUE_GREEN = RolloutRules(strategy="blue-green")
SOON_GONE = dataclasses.replace(SERVICE, stop=Stop(drain_ms=100))
DOORS = {"api": Door(internal=True)}
SETTLED = {
    "canary": dataclasses.replace(SETTINGS, rollout=CANARY),
    "blue-green": dataclasses.replace(SETTINGS, rollout=BLUE_GREEN),
    "canary of roles beside whose routes are Services": dataclasses.replace(SETTINGS, doors=DOORS, rollout=CANARY),
    "roles without a gateway": dataclasses.replace(WITHOUT_GATEWAY, doors=DOORS, rollout=BLUE_GREEN),
}
MADE = ("deployments", "services")
OWN_SERVICE = re.compile("shop-prod(--.*)?")  # and no group's
PARTS = 29  # one of them in the normal run; odd: points are by turns before a call and after it


class OnACluster(SimulatedWorkspace):
    """A workspace whose provider is a process's own, and knows nothing of what one before it did."""

    kubernetes: Provider

    def provider(self, name: str) -> Provider:
        return self.kubernetes


class Trial:
    """One environment that is deployed to again and again, killed in different places, and looked at afterwards."""

    def __init__(self, stub: ClusterStub, home: Path, settings: Settings) -> None:
        self.settings = settings
        self.stub = stub
        self.world = World(stub, home, self.settings)
        self.workspace = OnACluster(home / "home")
        self.image = self.workspace.bake("one")
        self.effects = Effects()
        self.served = set[str]()  # what has led to somebody
        self.versions = itertools.count(1)
        self.change()

    def change(self) -> None:
        roles: dict[str, Any] = {"role": "web", "roles": {"api": SOON_GONE}} if self.settings.doors else {}
        self.configuration = Configuration(service=SOON_GONE, config={"VERSION": str(next(self.versions))}, **roles)

    def deploy(self, effects: Effects) -> None:
        """Deploy as a process of its own, to a good end. Raises Crash where ``effects`` have it killed."""
        outcome = self.tried(effects)
        assert outcome.outcome != "failed", outcome

    def tried(self, effects: Effects) -> RolloutOutcome:
        """Deploy as a process of its own, to whatever end."""
        self.effects, workspace = effects, self.workspace
        workspace.kubernetes = KubernetesProvider(self.world.site, KUBERNETES.traits)
        with hold_environment(workspace, ENV):
            with keep_from_gc(workspace):
                found = begin(
                    workspace, ENV, self.settings, self.image, self.configuration, "deploy", project=None, origin=ORIGIN
                )
            return carry_out(workspace, found, None, time.monotonic(), detach=False)

    def require_served(self) -> None:
        """Requests find somebody, from the first time on that they did, wherever they come in."""
        weights = self.weights()
        self.served |= {where for where, each in weights.items() if each}
        for where in self.served:
            assert weights.get(where), f"nobody has the traffic of {where}"
        for name in {name for each in weights.values() for name in each}:
            assert ("services", "shop", name) in self.stub.objects, f"'{name}' has traffic, and no Service"
            deployment = self.stub.one("deployments", name)
            assert deployment["metadata"].get("deletionTimestamp") is None, name
            assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"] == 2, name

    def weights(self) -> dict[str, dict[str, int]]:
        """Return what routes' rules for requests, and the environment's Services, say: the groups that get some."""
        found: dict[str, dict[str, int]] = {}
        for (kind, _, name), one in list(self.stub.objects.items()):
            if kind == "httproutes":
                rules = [rule for rule in one["spec"]["rules"] if "headers" not in rule["matches"][0]]
                backends = [each for rule in rules for each in rule.get("backendRefs", ())]
                found[f"{kind} {name}"] = {each["name"]: each["weight"] for each in backends if each["weight"]}
            if kind == "services" and OWN_SERVICE.fullmatch(name):
                group = one["spec"]["selector"]["instar/group"]
                found[f"{kind} {name}"] = {group: 100} if group != "nobody" else {}
        return found

    def check(self, when: str) -> None:
        """It ended as it would have: the newest release has the traffic, and nothing is there that nobody knows."""
        ledger = self.workspace.ledger
        state, newest = ledger.get_environment(ENV), ledger.recent(ENV, 1)[0].number
        assert (state.active, state.rollout) == (newest, None), when
        known = sorted(one.id for one in ledger.instances(ENV))
        active = {one.role: {one.id: 100} for one in ledger.instances(ENV) if one.release == newest}
        first, api = active.pop(self.configuration.first_role), active.pop("api", None)
        assert not active, when
        for where, each in self.weights().items():
            assert each == (api if where.endswith("api") else first), f"{when}: {where}"
        assert len(known) == (4 if api else 2), f"{when}: one is kept hot"
        made = {kind: [one for one in self.stub.names(kind) if not OWN_SERVICE.fullmatch(one)] for kind in MADE}
        for kind, names in made.items():
            assert names == known, f"{when}: {kind}"
        assert [one for one in self.stub.names("services") if OWN_SERVICE.fullmatch(one)] == (
            ["shop-prod", "shop-prod--api"] if api else []
        ), when
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


@pytest.fixture(params=SETTLED)
def trial(request: pytest.FixtureRequest, asked: list[Trial], stub: ClusterStub, tmp_path: Path) -> Iterator[Trial]:
    made = Trial(stub, tmp_path, SETTLED[request.param])
    asked.append(made)
    stub.ends_at_once = stub.leads = True
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


def points(count: int, part: str, *, roles: bool) -> list[int]:
    """Return at which of so many points a process is killed, odd and even ones."""
    if part == "some":
        return list(range(0, count, PARTS))
    if part == "each with roles":
        return list(range(count)) if roles else []
    return list(range(3, count, 7)) if roles else [one for one in range(count) if one % PARTS]


PARTS_OF_TRIAL = {
    "some": (),
    "the others": pytest.mark.thorough,  # of those with roles, which have twice as many calls, each seventh
    "each with roles": pytest.mark.long,
}


@pytest.mark.parametrize("part", [pytest.param(part, marks=marks) for part, marks in PARTS_OF_TRIAL.items()])
def test_a_deploy_that_is_killed_at_any_call_ends_as_it_would_have(trial: Trial, part: str) -> None:
    for _ in range(3):  # the second one ends what is hot no more
        whole = Effects()
        trial.change()
        trial.deploy(whole)
    count = 2 * len(whole.names)
    assert count > 80
    for point in points(count, part, roles=bool(trial.settings.doors)):
        trial.change()
        with pytest.raises(Crash):
            trial.deploy(killed(point))
        with contextlib.suppress(Crash):  # what was left to do may have fewer points
            trial.deploy(killed(point * 7 % count))
        trial.deploy(Effects())
        trial.check(f"killed at {point}")


BESIDE = "canary of roles beside whose routes are Services"
OUTSIDE = dataclasses.replace(SETTLED[BESIDE], doors={})
INSIDE = dataclasses.replace(OUTSIDE, provider_settings={**SETTINGS.provider_settings, "inside": True})
NAMED = {"shop-prod", "shop-prod--api"}
Seen = list[tuple[dict[str, str], int | None]]  # what each Service leads to, and which release is active


def selected(trial: Trial) -> dict[str, str]:
    names = [name for name in trial.stub.names("services") if OWN_SERVICE.fullmatch(name)]
    return {name: trial.stub.one("services", name)["spec"]["selector"]["instar/group"] for name in names}


def watched(trial: Trial) -> Seen:
    """Have what there is be noted after each write, and the settings be the ledger's from now on."""
    ledger, seen, site = trial.workspace.ledger, Seen(), trial.world.site
    site.environments = lambda: {ENV: ledger.get_environment(ENV).settings}
    site.left_settings = lambda environment: ledger.get_environment(environment).left_settings
    trial.require_served = lambda: seen.append((selected(trial), ledger.get_environment(ENV).active))  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("trial", [BESIDE], indirect=True)
@pytest.mark.parametrize("before", [SETTLED[BESIDE], INSIDE], ids=["a role is internal", "inside: true"])
def test_services_that_a_rollout_takes_away_stay_until_the_traffic_has_moved(trial: Trial, before: Settings) -> None:
    trial.settings = trial.world.settings[ENV] = before
    trial.change()
    trial.deploy(Effects())
    whole, active = selected(trial), trial.workspace.ledger.get_environment(ENV).active
    assert set(whole) == (NAMED if before.doors else {"shop-prod"})
    seen = watched(trial)
    trial.settings = OUTSIDE
    trial.configuration = Configuration(service=SOON_GONE, config={"VERSION": "9"}, role="web", roles={})
    trial.deploy(Effects())
    held = [services for services, number in seen if number == active]
    assert all(set(one) == set(whole) for one in held)
    assert held[: len(held) // 2] == [whole] * (len(held) // 2) != [], "until it moves"
    assert selected(trial) == {}


@pytest.mark.parametrize("trial", [BESIDE], indirect=True)
def test_a_service_that_an_older_instar_has_not_made_is_said_so_and_nothing_worse(trial: Trial) -> None:
    trial.deploy(Effects())
    del trial.stub.objects["services", "shop", "shop-prod--api"]
    said = trial.stub.one("httproutes", "shop-prod")["metadata"]["annotations"]
    parts = json.loads(said["instar/doors"])
    said["instar/doors"] = json.dumps({name: key for name, key in parts.items() if name != "0-inside.api"})
    told = "the Service of role 'api' is yet to be made"
    assert [one.observed for one in trial.workspace.kubernetes.inspects.inspect_router(ENV)] == [told]
    found = status(trial.workspace, trial.workspace.ledger.get_environment(ENV))
    assert found.router and told in found.shut
    assert trial.workspace.kubernetes.observe(ENV, ()).traffic.unfound == {"api": told}, (
        "whoever is to use it is told so"
    )
    trial.served.clear()
    trial.deploy(Effects())
    assert not trial.workspace.kubernetes.observe(ENV, ()).traffic.unfound, "of what is deployed nothing is other"
    found = status(trial.workspace, trial.workspace.ledger.get_environment(ENV))
    assert found.router and told not in found.shut
    del trial.stub.objects["services", "shop", "shop-prod--api"]  # this one is named
    assert not status(trial.workspace, trial.workspace.ledger.get_environment(ENV)).router


ALONE = "roles without a gateway"


ILL = (Check(kind="http", path="/", contains="never"),)


@pytest.mark.parametrize(
    ("trial", "how"),
    [(BESIDE, "never ready"), (BESIDE, "smoke"), (BESIDE, "a step"), (ALONE, "never ready"), (ALONE, "smoke")],
    indirect=["trial"],
)
def test_services_that_a_failed_rollout_would_have_taken_away_lead_to_the_active_release(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    trial.deploy(Effects())
    whole, active = selected(trial), trial.workspace.ledger.get_environment(ENV).active
    assert set(whole) == NAMED
    seen, clock = watched(trial), trial.workspace.simulation.clock
    monkeypatch.setattr(KubernetesProvider, "await_change", lambda self, *asked: clock.sleep(asked[-1]))
    trial.stub.pods_are_ready = how != "never ready"
    analysis = Analysis(checks=ILL) if how == "a step" else None
    rules = dataclasses.replace(trial.settings.rollout, analysis=analysis)
    trial.settings = dataclasses.replace(trial.settings, doors={}, rollout=rules)
    ill = dataclasses.replace(SOON_GONE, smoke=ILL if how == "smoke" else ())
    trial.configuration = Configuration(service=ill, config={"VERSION": "9"}, role="web", roles={})
    assert trial.tried(Effects()).outcome == "failed"
    assert trial.workspace.ledger.get_environment(ENV).active == active
    assert seen and all(services == whole for services, _ in seen) and selected(trial) == whole
    trial.stub.pods_are_ready = True
    assert status(trial.workspace, trial.workspace.ledger.get_environment(ENV)).router
    assert trial.workspace.kubernetes.inspects is not None
    assert trial.workspace.kubernetes.inspects.inspect_router(ENV) == ()


@pytest.mark.parametrize("trial", [BESIDE], indirect=True)
@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_rollback_goes_on_where_somebody_else_has_the_name_of_a_service_beside_routes(
    trial: Trial, name: str
) -> None:
    trial.deploy(Effects())
    trial.change()
    trial.deploy(Effects())
    stub, world, workspace = trial.stub, trial.world, trial.workspace
    del stub.objects["services", "shop", name]
    theirs = stub.put("services", "shop", {"metadata": {"name": name}, "spec": {"selector": {"instar/group": "db"}}})
    trial.require_served = lambda: None  # type: ignore[method-assign]
    workspace.kubernetes = KubernetesProvider(world.site, KUBERNETES.traits)
    assert rollback(workspace, workspace.ledger.get_environment(ENV)).outcome != "failed"
    active = {one.role: one.id for one in workspace.ledger.instances(ENV) if one.release == 1}
    selecting = {"shop-prod": active["web"], "shop-prod--api": active["api"]}
    assert selected(trial) == {**selecting, name: "db"} and stub.one("services", name) == theirs
    assert trial.weights()["httproutes shop-prod"] == {active["web"]: 100}
    told = f"Service {name} is somebody else's, and left as it is: nobody finds the role by that name"
    assert told in {one.text for one in world.told if one.kind == "warning"}
    found = status(workspace, workspace.ledger.get_environment(ENV))
    role = "role 'api'" if name.endswith("api") else "the first role"
    assert found.router and f"the Service of {role} cannot be made: somebody else has its name" in found.shut
    assert workspace.kubernetes.inspects is not None
    assert workspace.kubernetes.inspects.inspect_router(ENV) == ()
    before = copy.deepcopy(stub.objects)
    trial.change()
    with pytest.raises(Refused, match=f"cannot use the Service 'shop/{name}': it is not Instar's"):
        trial.deploy(Effects())
    assert stub.objects == before
    del stub.objects["services", "shop", name]
    trial.deploy(Effects())
    assert set(selected(trial)) == NAMED, "once it can be made"
