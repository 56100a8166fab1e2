"""The objects of an environment's doors where a gateway is slow, no pod is ready, or somebody took one away."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.errors import RouterUnreachable
from instar.model.doors import Door, Port
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.release import Instance, Release
from instar.providers.kubernetes.doors import Doors
from instar.providers.router_plan import RouterPlan, router_plan

WEB = dataclasses.replace(SERVICE, ports={"admin": Port(port=9000)})
SENT_ON = {"www.shop.example": "shop.example", "a.example": "b.example"}
EVERY = dataclasses.replace(
    SETTINGS,
    names=HostNames(https=("shop.example",), http=("b.example", "admin.example", "c.example/x"), redirect=SENT_ON),
    doors={".admin": Door(sites=("admin.example",))},
    provider_settings={**SETTINGS.provider_settings, "inside": True},
)
ROUTES = ["shop-prod", "shop-prod.0-redirect", "shop-prod.0-redirect.2", "shop-prod.0.admin", "shop-prod.2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, stub: ClusterStub) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.door_objects._IN_FORCE_S", 0.3)
    monkeypatch.setattr("instar.providers.kubernetes.sight._PATIENCE_S", 0.3)
    stub.watch_ends_at_once = True


def answering(stub: ClusterStub, *groups: str) -> None:
    """Have the Service lead to pods of these, as its controller does soon."""
    ready = [{"targetRef": {"name": f"{one}-0"}, "conditions": {"ready": True}} for one in groups]
    labels = {"kubernetes.io/service-name": "shop-prod"}
    stub.put("endpointslices", "shop", {"metadata": {"name": "shop-prod-x", "labels": labels}, "endpoints": ready})


def served(world: World, stub: ClusterStub, settings: Settings = EVERY) -> tuple[Release, Instance, RouterPlan]:
    """Have a release that has all requests."""
    world.settings[ENV] = settings
    release = world.release(1, WEB)
    plan, group = router_plan(ENV, settings, release), world.create(release)
    world.provider.expose(release, [group], plan)
    answering(stub, group.id)
    world.provider.route(ENV, {group.id: 100})
    return release, group, plan


def doors(world: World) -> Doors:
    found = world.provider._traffic(ENV).doors()
    assert found is not None
    return found


def said(route: dict[str, Any]) -> Any:
    """Return what a route does, but for which version it says that it is."""
    rules = [rule for rule in route["spec"]["rules"] if "X-Instar-Route" not in json.dumps(rule)]
    return {**route["spec"], "rules": rules}


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_that_its_gateway_is_slow_to_take_up_is_said_again_as_it_is(
    name: str, world: World, stub: ClusterStub
) -> None:
    _, group, plan = served(world, stub)
    assert stub.names("httproutes") == ROUTES
    before = json.loads(json.dumps(stub.one("httproutes", name)))
    stub.one("httproutes", name)["status"] = {}
    with pytest.raises(RouterUnreachable, match=f"has not taken up the HTTPRoute '{name}' yet"):
        world.provider.route(ENV, {group.id: 100})
    after = stub.one("httproutes", name)
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert said(after) == said(before)
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint


def test_a_route_that_sends_nobody_on_any_more_is_found_and_written_anew(world: World, stub: ClusterStub) -> None:
    release, _, plan = served(world, stub)
    del stub.one("httproutes", "shop-prod.0-redirect")["spec"]["rules"][-1]["filters"]
    (found,) = world.provider.inspects.inspect_router(ENV)
    assert (found.path, found.observed) == ("HTTPRoute shop-prod.0-redirect: spec.rules", "nothing")
    assert world.provider.observe(ENV, []).traffic.plan is None, "whoever acts next writes it"
    world.provider.expose(release, [], plan)
    assert "filters" in stub.one("httproutes", "shop-prod.0-redirect")["spec"]["rules"][-1]
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint
