"""A group whose Service somebody took away is not whole: it is seen to be gone, and keeps no route as it was."""

from __future__ import annotations

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub
from instar.model.release import Instance
from instar.providers.router_plan import RouterPlan

PLAN = RouterPlan.of(ENV, SETTINGS, SERVICE)


@pytest.fixture
def stub(stub: ClusterStub) -> ClusterStub:
    stub.resolves = True
    return stub


def served(world: World) -> tuple[Instance, Instance]:
    """Return a group that is kept hot, and one that has all the traffic."""
    hot, active = world.create(world.release(1)), world.create(world.release(2), serial=2)
    world.provider.expose(world.release(2), [hot, active], PLAN)
    world.provider.route(ENV, {active.id: 100})
    return hot, active


def take_service(stub: ClusterStub, name: str) -> None:
    """Take a Service away, and have the Gateway see it."""
    del stub.objects["services", "shop", name]
    stub.put("httproutes", "shop", stub.one("httproutes", "shop-prod"))


def test_a_group_whose_service_is_gone_is_seen_to_be_gone(world: World, stub: ClusterStub) -> None:
    hot, active = served(world)
    assert [one.state for one in world.provider.observe(ENV, [hot, active]).groups] == ["running", "running"]
    take_service(stub, hot.id)
    seen = world.provider.observe(ENV, [hot, active])
    assert [one.state for one in seen.groups] == ["absent", "running"]
    assert seen.traffic.plan is None, "the Gateway says that its route leads to what is not there"


def test_the_route_goes_on_without_it(world: World, stub: ClusterStub) -> None:
    hot, active = served(world)
    take_service(stub, hot.id)
    world.provider.expose(world.release(2), [active], PLAN)
    seen = world.provider.observe(ENV, [hot, active])
    assert {name: one.weight for name, one in seen.traffic.groups.items()} == {active.id: 100}
    assert seen.traffic.plan == PLAN.fingerprint
    assert [one.state for one in seen.groups] == ["absent", "running"], "it is gone all the same"
    new = world.create(world.release(3), serial=3)
    world.provider.expose(world.release(3), [new])
    assert world.provider.route(ENV, {new.id: 100}) is not None


def test_nobody_is_asked_of_services_where_the_gateway_says_that_all_is_there(world: World, stub: ClusterStub) -> None:
    groups = served(world)
    stub.asked.clear()
    world.provider.observe(ENV, groups)
    assert not [path for _, path in stub.asked if "/services/" in path]


def test_a_route_that_gives_requests_to_what_is_gone_keeps_it_until_others_have_them(
    world: World, stub: ClusterStub
) -> None:
    hot, active = served(world)
    take_service(stub, active.id)
    assert [one.state for one in world.provider.observe(ENV, [hot, active]).groups] == ["running", "absent"]
    world.provider.withdraw(ENV, [active.id])
    world.provider.route(ENV, {hot.id: 100})
    assert {one: share.weight for one, share in world.provider.observe(ENV, [hot]).traffic.groups.items()} == {
        hot.id: 100
    }
