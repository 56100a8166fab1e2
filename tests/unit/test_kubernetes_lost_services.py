"""Services of roles of which something was lost, or to which a later release adds: each role has its requests on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, WITHOUT_GATEWAY, World
from test_kubernetes_role_services import (
    ALONE,
    API,
    EACH,
    FIRST,
    OF_ADMIN,
    OF_API,
    SERVICES,
    WEB,
    launched,
    planned,
    ports,
    quick,
    released,
    selected,
    served,
    wanted,
    weights,
)

from cluster_stub import ClusterStub
from instar.errors import Refused
from instar.model.doors import Port
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.doors import Ports
from instar.providers.kubernetes.names import Names
from instar.providers.router_plan import router_plan

__all__ = ["quick"]  # a fixture of all tests here


@pytest.mark.parametrize("lost", ["the first one", "what it says"])
def test_a_lost_first_service_or_what_it_says_of_the_others_leaves_their_requests(
    lost: str, world: World, stub: ClusterStub
) -> None:
    web, api = served(world, 1, ALONE)
    if lost == "the first one":
        del stub.objects["services", "shop", FIRST]
    else:
        del stub.one("services", FIRST)["metadata"]["annotations"]["instar/doors"]
    assert world.provider.observe(ENV, []).traffic.plan is None, "whoever acts next makes it agree"
    told = {(one.path, one.expected) for one in world.provider.inspects.inspect_router(ENV)}
    where = f"Service {FIRST}: metadata.annotations.instar/doors"
    assert {(where, f"it names Service {OF_API}"), (where, f"it names Service {OF_ADMIN}")} <= told
    assert ((f"Service {FIRST}", "it is there") in told) is (lost == "the first one")
    seen, answer = list[str](), stub.answer

    def watched(method: str, *question: Any) -> Any:
        found = answer(method, *question)
        seen.append(selected(stub)[OF_API])
        return found

    stub.answer = watched  # type: ignore[method-assign]
    fingerprint = planned(world, 1, ALONE)
    assert set(seen) == {api.id}, "it had its requests all the time"
    world.provider.expose(released(world, 1).of_role("web"), [web])
    world.provider.route(ENV, {web.id: 100, api.id: 100})
    assert selected(stub) == wanted(ALONE, web.id, api.id)
    assert world.provider.observe(ENV, []).traffic.plan == fingerprint
    assert world.provider.inspects.inspect_router(ENV) == ()


def test_what_has_the_name_of_a_part_that_nobody_names_and_is_somebody_elses_is_not_taken(
    world: World, stub: ClusterStub
) -> None:
    world.settings[ENV] = only = dataclasses.replace(ALONE, doors={}, names=WITHOUT_GATEWAY.names)
    web = world.create(world.release(1, SERVICE))
    world.provider.expose(world.release(1, SERVICE), [web], router_plan(ENV, only, world.release(1, SERVICE)))
    world.provider.route(ENV, {web.id: 100})
    stub.put("services", "shop", {"metadata": {"name": OF_API}, "spec": {"selector": {"instar/group": "x"}}})
    world.settings[ENV] = ALONE
    told = {one.path: one.observed for one in world.provider.inspects.inspect_router(ENV)}
    assert told[f"Service {OF_API}"] == "the Service of role 'api' is yet to be made"
    assert told[f"Service {OF_ADMIN}"] == "the Service of the first role and port 'admin' is yet to be made"
    assert weights(world) == {web.id: 100}


@EACH
def test_further_ports_that_a_later_release_adds_are_at_the_service_of_its_role(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    served(world, 1, settings)
    more = dataclasses.replace(API, ports={"traces": Port(port=9200)})
    release = world.release(2, WEB, role="web", roles={"api": more})
    assert router_plan(ENV, settings, release).fingerprint == world.provider.observe(ENV, []).traffic.plan
    api = dataclasses.replace(world.group(release, 21), role="api")
    world.provider.create(api, release.of_role("api"), world.image)
    world.provider.expose(release, [api])
    assert ports(stub, OF_API) == {80: "service", 9100: "figures", 9200: "traces"}, "and what the one before has"
    assert ports(stub, FIRST) == {80: "service", 9000: "admin"}


@EACH
def test_a_service_that_was_removed_is_restored_as_it_was(settings: Settings, world: World, stub: ClusterStub) -> None:
    (web, api), hot = served(world, 1, settings), launched(world, 2, settings)
    planned(world, 1, settings)
    whole, shown = selected(stub), {name: ports(stub, name) for name in SERVICES[id(settings)]}
    release, inspects = released(world, 1), world.provider.inspects
    known = {
        (number, role): one
        for number in (1, 2)
        for role in ("web", "api")
        if (one := Ports.of(released(world, number), role))
    }
    for lost in SERVICES[id(settings)]:
        del stub.objects["services", "shop", lost]
        assert [one.observed for one in inspects.inspect_router(ENV) if one.path == f"Service {lost}"] == ["nothing"]
        plan = router_plan(ENV, settings, release)
        inspects.restore_router(plan, inspects.targets([web, api, *hot], known), release, [web, api])
        assert selected(stub) == whole, lost
        assert {name: ports(stub, name) for name in whole} == shown, lost
        assert inspects.inspect_router(ENV) == ()
        assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint


def test_nobody_is_told_to_move_a_service_of_another_environment_away(world: World, stub: ClusterStub) -> None:
    other = EnvironmentId(service="shop", name="prod--api")
    labels = dict(Names(environment=other, ledger="0a1b2c3d").all_labels)
    for found, said in ((labels, "its labels say that it serves 'shop/prod--api'"), ({}, "or move that object away")):
        stub.put("services", "shop", {"metadata": {"name": OF_API, "labels": found}, "spec": {}})
        world.settings[ENV] = ALONE
        with pytest.raises(Refused) as refused:
            world.provider.preflight(ENV, ALONE, WEB, launching=True, others={"api": API})
        assert said in str(refused.value.hint) and ("move" in str(refused.value.hint)) is not bool(found)
