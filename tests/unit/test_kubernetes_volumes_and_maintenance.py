"""Maintenance by a route that sends requests elsewhere and keeps its weights; volumes by their claims."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SECTION, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import NotFound, Refused, RouterError
from instar.model.definition import Volume
from instar.model.release import EnvironmentId
from instar.providers.doors import Ports
from instar.providers.kubernetes.settings import Place
from instar.providers.router_plan import RouterPlan

PLAN = RouterPlan.of(ENV, SETTINGS, SERVICE)
KEPT = dataclasses.replace(SETTINGS, provider_settings={**SECTION, "maintenance": {"service": "holiday", "port": 8000}})


@pytest.fixture
def stub(stub: ClusterStub) -> ClusterStub:
    stub.put("services", "shop", {"metadata": {"name": "holiday"}, "spec": {"ports": [{"port": 8000}]}})
    return stub


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return World(stub, tmp_path, KEPT)


def serving(world: World) -> str:
    release = world.release()
    group = world.create(release)
    world.provider.expose(release, [group], PLAN)
    world.provider.route(ENV, {group.id: 100})
    return group.id


def backends(stub: ClusterStub) -> dict[str, int]:
    rule = stub.one("httproutes", "shop-prod")["spec"]["rules"][-1]
    return {one["name"]: one["weight"] for one in rule["backendRefs"]}


def test_requests_go_to_the_service_and_the_weights_come_back(world: World, stub: ClusterStub) -> None:
    old, maintains = serving(world), world.provider.maintains
    maintains.set_maintenance(ENV, on=True, page=None)
    assert maintains.maintenance(ENV)
    assert backends(stub) == {old: 0, "holiday": 1}
    seen = world.provider.observe(ENV, []).traffic
    assert {name: one.weight for name, one in seen.groups.items()} == {old: 100}, "whoever decides sees no difference"
    assert seen.plan == PLAN.fingerprint

    release = world.release(2)
    new = world.create(release, serial=2)
    world.provider.expose(release, [new])
    world.provider.route(ENV, {new.id: 100})
    assert backends(stub) == {old: 0, new.id: 0, "holiday": 1}, "a rollout goes on, and lets nobody in"
    maintains.set_maintenance(ENV, on=True, page=None)
    maintains.set_maintenance(ENV, on=False, page=None)
    assert not maintains.maintenance(ENV)
    assert backends(stub) == {old: 0, new.id: 100}
    assert world.provider.inspects.inspect_router(ENV) == ()


def test_a_preview_is_answered_as_ever(world: World, stub: ClusterStub) -> None:
    group = serving(world)
    world.provider.preview(ENV, {1: group})
    world.provider.maintains.set_maintenance(ENV, on=True, page=None)
    preview, *_, main = stub.one("httproutes", "shop-prod")["spec"]["rules"]
    assert [one["name"] for one in preview["backendRefs"]] == [group]
    assert main["backendRefs"][-1] == {"name": "holiday", "port": 8000, "weight": 1}


@pytest.mark.parametrize(
    ("section", "page", "told"),
    [
        ({"maintenance": None}, None, "a gateway has no page of its own"),
        ({}, "<p>back soon", "with a page: a gateway shows none"),
        (
            {"maintenance": {"service": "holiday", "port": 81}},
            None,
            "port 81 of the Service 'shop/holiday': it has",
        ),
        ({"maintenance": {"service": "nobody", "port": 80}}, None, "the Service 'shop/nobody': there is none"),
    ],
)
def test_what_a_gateway_cannot_show_is_refused_and_traffic_is_not_touched(
    world: World, stub: ClusterStub, section: dict[str, Any], page: str | None, told: str
) -> None:
    group = serving(world)
    own = {**KEPT.provider_settings, **section}
    world.settings[ENV] = dataclasses.replace(KEPT, provider_settings=own)
    with pytest.raises(RouterError, match=told):
        world.provider.maintains.set_maintenance(ENV, on=True, page=page)
    assert backends(stub) == {group: 100}


def annotated(stub: ClusterStub, service: str) -> None:
    route = stub.one("httproutes", "shop-prod")
    theirs = json.dumps({"service": service, "port": 80, "weights": {service: 100}})
    route["metadata"]["annotations"]["instar/maintenance"] = theirs


def test_an_annotation_of_somebody_else_s_sends_requests_to_no_service_of_theirs(
    world: World, stub: ClusterStub
) -> None:
    group = serving(world)
    annotated(stub, "evil")
    assert not world.provider.maintains.maintenance(ENV)
    release = world.release(2)
    new = world.create(release, serial=2)
    world.provider.expose(release, [new])
    world.provider.route(ENV, {new.id: 100})
    assert backends(stub) == {group: 0, new.id: 100}


def test_a_route_in_maintenance_by_a_service_that_no_section_names_is_not_written_to(
    world: World, stub: ClusterStub
) -> None:
    group = serving(world)
    annotated(stub, "evil")
    main = stub.one("httproutes", "shop-prod")["spec"]["rules"][-1]
    main["backendRefs"].append({"name": "evil", "port": 80, "weight": 0})
    with pytest.raises(RouterError, match="is the Service 'evil', which"):
        world.provider.route(ENV, {group: 50})
    world.provider.inspects.restore_router(
        PLAN, world.provider.inspects.targets([world.group(world.release())], {(1, ""): Ports(door="", port=8080)})
    )
    assert set(backends(stub)) == {group}


def test_without_a_gateway_there_is_no_maintenance(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path, WITHOUT_GATEWAY)
    with pytest.raises(RouterError, match="without a gateway a Service selects its pods"):
        world.provider.maintains.set_maintenance(ENV, on=True, page=None)


@pytest.mark.parametrize("found", [{"service": "../x"}, {"port": 80}, {"service": "a", "port": 0}, "holiday"])
def test_what_somebody_else_wrote_is_no_service(found: Any) -> None:
    with pytest.raises(Refused, match=r"kubernetes\.maintenance"):
        Place.of(dataclasses.replace(SETTINGS, provider_settings={**SECTION, "maintenance": found}))


# volumes


def test_volumes_are_claims_of_this_ledger_and_outlive_their_environment(world: World, stub: ClusterStub) -> None:
    data = Volume(name="data", path="/data", access="shared")
    world.create(world.release(service=dataclasses.replace(SERVICE, volumes=(data,))))
    other = {"instar/service": "shop", "instar/environment": "old", "instar/volume": "data"}
    for name, labels in (
        ("shop-old-data", {**other, "instar/ledger": "0a1b2c3d"}),
        ("somebodys", {**other, "instar/ledger": "ffffffff"}),
        ("odd", {**other, "instar/ledger": "0a1b2c3d", "instar/volume": "../x"}),
    ):
        stub.put("persistentvolumeclaims", "shop", {"metadata": {"name": name, "labels": labels}})
    gone = EnvironmentId(service="shop", name="old")
    found = [(one.environment, one.name, one.where, one.used_bytes) for one in world.provider.volumes.volumes()]
    assert found == [(gone, "data", "shop/shop-old-data", None), (ENV, "data", "shop/shop-prod-data", None)]

    (own,) = world.provider.volumes.kept_of(ENV)
    assert (own.where, own.removed_by) == ("shop/shop-prod-data", "kubectl -n shop delete pvc shop-prod-data")
    assert world.provider.volumes.kept_of(gone) == (), "nobody knows where that was"

    world.provider.volumes.remove_volume(gone, "data")
    assert stub.names("persistentvolumeclaims") == ["odd", "shop-prod-data", "somebodys"]
    with pytest.raises(NotFound, match="there is none in the namespaces of this ledger"):
        world.provider.volumes.remove_volume(gone, "data")
