"""The objects of an environment's doors where a gateway is slow, no pod is ready, or somebody took one away."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import Refused, RouterUnreachable
from instar.model.doors import Door, Port
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.names import NAME
from instar.model.release import Instance, Release
from instar.providers.kubernetes.doors import Doors
from instar.providers.kubernetes.names import Names, door_part, group_numbers
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
    found = world.provider.cluster.traffic_of(ENV).doors()
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


BESIDE = dataclasses.replace(SETTINGS, provider_settings={**SETTINGS.provider_settings, "inside": True})
SORRY = dataclasses.replace(BESIDE, provider_settings={**BESIDE.provider_settings, "maintenance": {"service": "sorry"}})


def selected(stub: ClusterStub) -> str:
    return str(stub.one("services", "shop-prod")["spec"]["selector"]["instar/group"])


def test_maintenance_comes_and_goes_while_no_pod_is_ready(world: World, stub: ClusterStub) -> None:
    _, group, _ = served(world, stub, SORRY)
    stub.put("services", "shop", {"metadata": {"name": "sorry"}, "spec": {"ports": [{"port": 80}]}})
    answering(stub)
    for on in (True, False):
        world.provider.maintains.set_maintenance(ENV, on=on, page=None)
        assert world.provider.maintains.maintenance(ENV) == on
    assert selected(stub) == group.id


@pytest.mark.parametrize("settings", [BESIDE, WITHOUT_GATEWAY])
def test_a_release_takes_over_from_one_that_has_no_pod_that_is_ready(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    _, dead, plan = served(world, stub, settings)
    answering(stub)
    newer = world.release(2, WEB)
    new = world.create(newer, serial=2)
    world.provider.expose(newer, [], plan)
    world.provider.expose(newer, [new])
    if settings is BESIDE:
        world.provider.route(ENV, {dead.id: 95, new.id: 5})
        assert selected(stub) == dead.id
    with pytest.raises(RouterUnreachable, match=f"has no pod of '{new.id}' yet"):
        world.provider.route(ENV, {new.id: 100})
    answering(stub, new.id)
    world.provider.route(ENV, {new.id: 100})
    assert selected(stub) == new.id


def test_who_is_killed_before_the_new_was_seen_in_force_sees_that_the_old_has_no_requests(
    world: World, stub: ClusterStub
) -> None:
    _, old, plan = served(world, stub, WITHOUT_GATEWAY)
    newer = world.release(2, WEB)
    new = world.create(newer, serial=2)
    world.provider.expose(newer, [new], plan)
    for _ in range(2):  # the second time it is written already
        with pytest.raises(RouterUnreachable, match=f"still sends requests to '{old.id}-0'"):
            world.provider.route(ENV, {new.id: 100})
    answering(stub, new.id)
    world.provider.route(ENV, {new.id: 100})


def test_the_service_beside_the_routes_goes_where_somebody_removed_the_first_one(
    world: World, stub: ClusterStub
) -> None:
    served(world, stub)
    del stub.objects["httproutes", "shop", "shop-prod"]
    world.provider.close(ENV)
    assert "shop-prod" not in stub.names("services") and stub.names("httproutes") == []


@given(
    role=some.one_of(some.just(""), some.just("0-redirect"), some.from_regex(NAME, fullmatch=True)),
    port=some.one_of(some.just(""), some.from_regex(NAME, fullmatch=True)),
    number=some.integers(1, 9999),
)
def test_every_route_of_a_door_has_a_name_that_is_known_for_one(role: str, port: str, number: int) -> None:
    door = f"{role}.{port}" if port else role
    names = Names(environment=ENV, ledger="0a1b2c3d")
    assert names.is_route(names.route_of(door_part(door, number)))


def test_routes_of_others_with_its_labels_stay_when_the_environment_goes(world: World, stub: ClusterStub) -> None:
    """Anybody can write labels: only names that Instar gives to routes of the environment are its own."""
    served(world, stub)
    like = stub.one("httproutes", "shop-prod")
    labels = dict(like["metadata"]["labels"])
    theirs = ["blog", "my-shop-prod.2", "shop-prod-blog", "shop-prod.blog.2.x", "shop-prod2"]
    for name in [*theirs, "shop-prod.api.2"]:
        stub.put("httproutes", "shop", {"metadata": {"name": name, "labels": labels}, "spec": like["spec"]})
    world.provider.close(ENV)
    assert stub.names("httproutes") == theirs


def test_a_service_of_that_name_that_is_somebody_elses_stays_when_the_environment_goes(
    world: World, stub: ClusterStub
) -> None:
    served(world, stub, SETTINGS)
    stub.put("services", "shop", {"metadata": {"name": "shop-prod"}, "spec": {}})
    world.provider.close(ENV)
    assert "shop-prod" in stub.names("services") and stub.names("httproutes") == []


def test_where_somebody_removed_which_routes_there_are_the_plan_is_not_in_force(
    world: World, stub: ClusterStub
) -> None:
    release, group, plan = served(world, stub)
    del stub.one("httproutes", "shop-prod")["metadata"]["annotations"]["instar/doors"]
    world.settings[ENV] = dataclasses.replace(EVERY, provider_settings=SETTINGS.provider_settings)
    assert world.provider.observe(ENV, []).traffic.plan is None
    world.settings[ENV] = EVERY
    world.provider.expose(release, [], plan)
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint
    assert set(doors(world).objects) == {"", "2", "0.admin", "0-redirect", "0-redirect.2", "0-inside"}
    assert doors(world).weights == {group.id: 100}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("a-b-7-12", (7, 12)), ("a-7", (0, 0)), ("a-²-3", (0, 0)), ("a-7-x", (0, 0)), ("", (0, 0)),
        ("a-1-" + "9" * 30, (0, 0)),
    ],
)  # fmt: skip
def test_the_numbers_of_a_group_are_read_in_one_way(name: str, numbers: tuple[int, int]) -> None:
    assert group_numbers(name) == numbers


def test_preflight_looks_at_the_names_that_are_made_where_a_number_is_yet_of_a_route_that_goes(
    world: World, stub: ClusterStub
) -> None:
    served(world, stub, dataclasses.replace(SETTINGS, names=HostNames(http=("a.example/a", "b.example/b"))))
    assert stub.names("httproutes") == ["shop-prod", "shop-prod.2"]
    after = dataclasses.replace(SETTINGS, names=HostNames(http=("a.example/a", "c.example/c")))
    theirs = {"metadata": {"name": "shop-prod.3"}, "spec": {"parentRefs": [{}], "rules": []}}
    stub.put("httproutes", "shop", theirs)
    with pytest.raises(Refused, match=r"shop/shop-prod\.3"):
        world.provider.preflight(ENV, after, WEB, launching=True)
    del stub.objects["httproutes", "shop", "shop-prod.3"]
    world.provider.preflight(ENV, after, WEB, launching=True)
    world.settings[ENV] = after
    world.provider.expose(world.release(1, WEB), [], router_plan(ENV, after, world.release(1, WEB)))
    assert stub.names("httproutes") == ["shop-prod", "shop-prod.3"]
