"""What of a service requests come to in a cluster: further ports, a protocol of its own, several paths of a name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from instar.errors import Refused
from instar.model.definition import Health, Service
from instar.model.doors import Port
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.providers.kubernetes.names import port_name
from instar.providers.router_plan import RouterPlan

TCP = dataclasses.replace(SERVICE, port=6379, protocol="tcp", health=Health(kind="tcp"))
FURTHER = dataclasses.replace(
    SERVICE,
    ports={"admin": Port(port=9000), "feed": Port(port=9001, protocol="h2"), "a-name-that-is-long": Port(port=7)},
)


def look(world: World, settings: Settings, service: Service) -> tuple[str, ...]:
    return world.provider.preflight(ENV, settings, service, launching=True)


def shown(world: World, name: str) -> dict[str, tuple[int, str]]:
    ports: list[dict[str, Any]] = world.stub.one("services", name)["spec"]["ports"]
    assert len({one["port"] for one in ports}) == len(ports), "a Service has each number once"
    return {one["name"]: (one["port"], one["targetPort"]) for one in ports}


def released(world: World, service: Service, settings: Settings, number: int = 1) -> str:
    world.settings[ENV] = settings
    release = world.release(number, service)
    group = world.create(release, serial=number)
    world.provider.expose(release, [group], RouterPlan.of(ENV, settings, service))
    return group.id


def test_a_pod_and_its_service_have_each_port_by_a_name_that_an_engine_takes(world: World) -> None:
    name = released(world, FURTHER, WITHOUT_GATEWAY)
    (container,) = world.stub.one("deployments", name)["spec"]["template"]["spec"]["containers"]
    long = port_name("a-name-that-is-long")
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "service": 8080, "admin": 9000, "feed": 9001, long: 7,
    }  # fmt: skip
    assert all(len(one["name"]) <= 15 for one in container["ports"])
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert (told["PORT_ADMIN"], told["PORT_A_NAME_THAT_IS_LONG"]) == ("9000", "7")
    assert shown(world, name)["admin"] == (9000, "admin")
    ports = world.stub.one("services", name)["spec"]["ports"]
    assert [one["name"] for one in ports if one.get("appProtocol") == "kubernetes.io/h2c"] == ["feed"]


@pytest.mark.parametrize("name", ["service", "own", "Admin", "a_b", "a--b", "x" * 16])
def test_a_name_that_is_taken_or_none_in_a_cluster_is_another(name: str) -> None:
    assert port_name(name) != name and len(port_name(name)) <= 15
    assert port_name("admin") == "admin"


def test_without_a_gateway_the_one_service_leads_to_all_ports_of_the_release_that_it_selects(world: World) -> None:
    released(world, FURTHER, WITHOUT_GATEWAY)
    assert shown(world, "shop-prod")["service"] == (80, "service")
    assert shown(world, "shop-prod")["admin"] == (9000, "admin")
    assert world.provider.inspects.inspect_router(ENV) == ()
    released(world, SERVICE, WITHOUT_GATEWAY, 2)
    assert shown(world, "shop-prod") == {"service": (80, "service")}


def test_a_service_of_tcp_is_there_by_its_own_number_too(world: World) -> None:
    settings = dataclasses.replace(WITHOUT_GATEWAY, names=HostNames(), internal=True)
    world.settings.clear()
    assert look(world, settings, TCP) == ()
    released(world, TCP, settings)
    assert shown(world, "shop-prod") == {"service": (80, "service"), "own": (6379, "service")}


def test_a_port_that_somebody_added_is_found_and_taken_back(world: World) -> None:
    name = released(world, FURTHER, WITHOUT_GATEWAY)
    service = world.stub.one("services", "shop-prod")
    service["spec"]["ports"].append({"name": "x", "port": 1, "targetPort": "service", "protocol": "TCP"})
    (found,) = world.provider.inspects.inspect_router(ENV)
    assert "spec.ports" in found.path
    plan = RouterPlan.of(ENV, WITHOUT_GATEWAY, FURTHER)
    world.provider.cluster.traffic_of(ENV).restore(plan, {name: {"": 8080}})
    assert "x" not in shown(world, "shop-prod") and "admin" in shown(world, "shop-prod")


@pytest.mark.parametrize(
    ("settings", "service", "told"),
    [
        (SETTINGS, TCP, "has no TCPRoute"),
        (WITHOUT_GATEWAY, dataclasses.replace(SERVICE, ports={"www": Port(port=80)}), "its port 'www' is 80"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_reason(
    world: World, settings: Settings, service: Service, told: str
) -> None:
    with pytest.raises(Refused, match=told):
        look(world, settings, service)
    assert world.stub.asked == []


def test_several_paths_of_a_name_are_one_rule_and_the_version_is_asked_at_one(world: World) -> None:
    sites = ("shop.example/api", "shop.example/pay")
    settings = dataclasses.replace(SETTINGS, names=HostNames(http=sites))
    assert look(world, settings, SERVICE) == ()
    name = released(world, SERVICE, settings)
    assert world.provider.route(ENV, {name: 100}) is not None
    spec = world.stub.one("httproutes", "shop-prod")["spec"]
    assert spec["hostnames"] == ["shop.example"]
    assert [one["path"]["value"] for one in spec["rules"][-1]["matches"]] == ["/api", "/pay"]
    assert world.provider.inspects.inspect_router(ENV) == ()
