"""What anybody may have written into annotations is read as nothing, and ends no look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.providers.kubernetes.annotations import annotation_json, whole
from instar.providers.kubernetes.route import further_parts, read_route
from instar.providers.kubernetes.selecting import read_service
from instar.providers.router_plan import RouterPlan

NESTED = "[" * 100_000
HOSTILE = [NESTED, '{"a": ' + NESTED, "Infinity", "[]", "7", '"x"', "{", "9" * 5000, '{"\\ud800": "\\ud800"}']


@pytest.mark.parametrize("text", [*HOSTILE, '{"a": NaN}', None, 7], ids=range(12))
def test_what_is_no_json_object_says_nothing(text: object) -> None:
    assert annotation_json(text) == {}


def test_what_is_one_says_what_it_says() -> None:
    assert annotation_json('{"a": {"b": [1, null]}, "ü": "x"}') == {"a": {"b": [1, None]}, "ü": "x"}
    assert [whole(one, 9) for one in (0, 9, 10, -1, True, 1.0, "1", None)] == [0, 9, *[None] * 6]


@pytest.mark.parametrize("number", ["9" * 5000, "²", "10000", "01", "-1"], ids=range(5))
def test_a_part_s_number_is_a_small_one(number: str) -> None:
    said = {f"api.{number}": "api", "api.2": "api"}
    found = {"metadata": {"annotations": {"instar/doors": json.dumps(said)}}}
    assert further_parts(found) == {"api.2": "api"}


@pytest.mark.parametrize(("count", "known"), [(400, 400), (401, 0), (20_000, 0)])
def test_more_routes_than_an_environment_can_have_are_none(count: int, known: int) -> None:
    said = {f"api-{number}": f"api-{number}" for number in range(count)}
    assert len(further_parts({"metadata": {"annotations": {"instar/doors": json.dumps(said)}}})) == known


def test_that_a_route_says_more_routes_than_there_can_be_is_found_and_nobody_asks_for_them(
    world: World, stub: ClusterStub
) -> None:
    release = world.release()
    world.provider.expose(release, [world.create(release)], RouterPlan.of(ENV, SETTINGS, SERVICE))
    said = json.dumps({f"api-{number}": f"api-{number}" for number in range(20_000)})
    annotations = stub.one("httproutes", "shop-prod")["metadata"]["annotations"]
    before = len(stub.asked)
    assert not [one for one in world.provider.inspects.inspect_router(ENV) if "instar/doors" in one.path]
    usual = len(stub.asked) - before
    annotations["instar/doors"] = said
    found = [one for one in world.provider.inspects.inspect_router(ENV) if "instar/doors" in one.path]
    assert [one.expected for one in found] == ["nothing"] and len(found[0].observed) < 200
    assert len(stub.asked) - before <= 2 * usual + 5


@pytest.mark.parametrize("port", ["Infinity", "1e400", "-1", "70000", '"80"', "true", "null", NESTED], ids=range(8))
def test_maintenance_at_what_is_no_port_is_none(port: str) -> None:
    text = f'{{"service": "sorry", "port": {port}, "weights": {{}}}}'
    main = {"backendRefs": [{"name": "sorry", "port": 80, "weight": 1}]}
    found: dict[str, Any] = {"metadata": {"annotations": {"instar/maintenance": text}}, "spec": {"rules": [main]}}
    assert read_route(found).maintenance is None


def test_weights_after_maintenance_are_numbers_that_a_route_can_have() -> None:
    text = json.dumps({"service": "sorry", "port": 80, "weights": {"a": 5, "b": -1, "c": 10**30, "d": True, "e": "5"}})
    refs = [{"name": name, "port": 80, "weight": 0} for name in "abcde"]
    main = {"backendRefs": [*refs, {"name": "sorry", "port": 80, "weight": 1}]}
    door = read_route({"metadata": {"annotations": {"instar/maintenance": text}}, "spec": {"rules": [main]}})
    assert door.maintenance == ("sorry", 80) and door.weights == {"a": 5}


def test_a_preview_and_a_duration_of_thousands_of_digits_are_none() -> None:
    header = {"headers": [{"name": "X-Instar-Release", "value": "9" * 5000}]}
    main = {"matches": [{}], "timeouts": {"request": "9" * 5000 + "s"}}
    door = read_route({"spec": {"rules": [{"matches": [header], "backendRefs": [{"name": "a"}]}, main]}})
    assert door.previews == {}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_service_exposes_nothing_by_what_cannot_be_read(text: str) -> None:
    door = read_service({"metadata": {"annotations": {"instar/exposed": text, "instar/ports": text}}})
    assert (door.backends, door.ports) == ({}, {})


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    ("settings", "plural", "names"),
    [
        (SETTINGS, "httproutes", ["instar/doors", "instar/maintenance"]),
        (WITHOUT_GATEWAY, "services", ["instar/exposed", "instar/ports"]),
    ],
    ids=["route", "service"],
)
def test_a_look_goes_on(
    settings: Any, plural: str, names: list[str], text: str, world: World, stub: ClusterStub
) -> None:
    world.settings[ENV] = settings
    release = world.release()
    world.provider.expose(release, [world.create(release)], RouterPlan.of(ENV, settings, SERVICE))
    stub.one(plural, "shop-prod")["metadata"]["annotations"] |= dict.fromkeys(names, text)
    assert world.provider.observe(ENV, []).traffic.running
    world.provider.inspects.inspect_router(ENV)
