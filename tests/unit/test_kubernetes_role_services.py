"""Services of roles: a door each where there is no gateway, beside the routes where there is one, and found by name."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub, Fault
from instar.errors import InstarError, Refused
from instar.model.definition import Service
from instar.model.doors import Door, Port
from instar.model.environment import Analysis, RolloutRules, Settings
from instar.model.host_names import HostNames
from instar.model.lease import HeldLease
from instar.model.names import NAME
from instar.model.release import Instance, Release
from instar.providers.doors import Ports
from instar.providers.kubernetes.documents import render
from instar.providers.kubernetes.names import Names, door_part, environment_part, inside_key
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.policy import policies
from instar.providers.kubernetes.preflight import require_fit
from instar.providers.package import PlannedEnvironment
from instar.providers.router_plan import router_plan

WEB = dataclasses.replace(SERVICE, ports={"admin": Port(port=9000)})
API = Service(command=("api",), port=7000, health=SERVICE.health, ports={"figures": Port(port=9100)})
BESIDE = dataclasses.replace(
    SETTINGS,
    names=HostNames(http=("shop.example", "api.example")),
    doors={"api": Door(sites=("api.example",))},
    provider_settings={**SETTINGS.provider_settings, "inside": True},
)
ALONE = dataclasses.replace(
    WITHOUT_GATEWAY,
    names=HostNames(http=("shop-prod.shop.svc", "shop-prod--0--admin.shop.svc")),
    doors={"api": Door(internal=True), ".admin": Door(sites=("shop-prod--0--admin.shop.svc",))},
)
AT = "shop-prod.shop.svc"
FIRST, OF_API, OF_ADMIN = "shop-prod", "shop-prod--api", "shop-prod--0--admin"
SERVICES = {id(BESIDE): (FIRST, OF_API), id(ALONE): (FIRST, OF_API, OF_ADMIN)}
EACH = pytest.mark.parametrize("settings", [BESIDE, ALONE], ids=["beside routes", "without a gateway"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, stub: ClusterStub) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.door_objects._IN_FORCE_S", 0.3)
    stub.leads = stub.ends_at_once = True


def released(world: World, number: int) -> Release:
    return world.release(number, WEB, role="web", roles={"api": API})


def launched(world: World, number: int, settings: Settings) -> tuple[Instance, Instance]:
    """Make a release's two groups, and have them known with no traffic, as a rollout does."""
    world.settings[ENV] = settings
    release = released(world, number)
    made = [
        dataclasses.replace(world.group(release, 10 * number + serial), role=role)
        for serial, role in enumerate(("web", "api"))
    ]
    for one in made:
        world.provider.create(one, release.of_role(one.role), world.image)
    planned(world, number, settings)
    world.provider.expose(release.of_role("web"), made[:1])
    world.provider.expose(release, made[1:])
    return made[0], made[1]


def planned(world: World, number: int, settings: Settings) -> str:
    world.settings[ENV] = settings
    release = released(world, number)
    plan = router_plan(ENV, settings, release)
    world.provider.expose(release, [], plan)
    return plan.fingerprint


def served(world: World, number: int, settings: Settings) -> tuple[Instance, Instance]:
    groups = launched(world, number, settings)
    world.provider.route(ENV, {one.id: 100 for one in groups})
    return groups


def selected(stub: ClusterStub) -> dict[str, str]:
    """Return which group each of the environment's Services leads to, by their names."""
    every = {name: stub.one("services", name)["spec"]["selector"] for name in stub.names("services")}
    return {name: one["instar/group"] for name, one in every.items() if re.fullmatch(r"shop-prod(--.+)?", name)}


def ports(stub: ClusterStub, name: str) -> dict[int, Any]:
    return {one["port"]: one["targetPort"] for one in stub.one("services", name)["spec"]["ports"]}


def weights(world: World) -> dict[str, int]:
    return {name: one.weight for name, one in world.provider.observe(ENV, []).traffic.groups.items()}


def wanted(settings: Settings, web: str, api: str) -> dict[str, str]:
    return {name: api if name == OF_API else web for name in SERVICES[id(settings)]}


@EACH
def test_each_role_has_a_service_that_moves_with_the_first_ones_and_back(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    (web, api), new = served(world, 1, settings), launched(world, 2, settings)
    assert selected(stub) == wanted(settings, web.id, api.id)
    assert ports(stub, FIRST) == {80: "service", 9000: "admin"}
    assert ports(stub, OF_API) == {80: "service", 9100: "figures"}
    if settings is ALONE:
        assert ports(stub, OF_ADMIN) == {80: "admin", 9000: "admin"}
    for to, left in ((new, (web, api)), ((web, api), new)):
        stub.asked.clear()
        assert world.provider.route(ENV, {one.id: 100 for one in to}) is not None
        writes = [path for method, path in stub.asked if method == "PATCH"]
        assert len(writes) == len(set(writes)) == (4 if settings is BESIDE else 3), "each once"
        assert selected(stub) == wanted(settings, to[0].id, to[1].id)
        assert weights(world) == {**{one.id: 100 for one in to}, **{one.id: 0 for one in left}}
    traffic = world.provider.observe(ENV, []).traffic
    assert traffic.plan == router_plan(ENV, settings, released(world, 1)).fingerprint
    assert world.provider.inspects.inspect_router(ENV) == ()
    known = {(1, role): found for role in ("web", "api") if (found := Ports.of(released(world, 1), role))}
    targets = world.provider.inspects.targets([web, api], known)
    router = {one.target.name: one.target for one in world.provider.inspects.router(ENV).targets}
    assert [router[one.name] for one in targets] == list(targets)
    world.provider.close(ENV)
    assert selected(stub) == {} and stub.names("httproutes") == []


def test_a_canarys_steps_leave_each_service_with_the_release_before(world: World, stub: ClusterStub) -> None:
    old, new = served(world, 1, BESIDE), launched(world, 2, BESIDE)
    world.provider.route(ENV, {old[0].id: 95, new[0].id: 5, old[1].id: 40, new[1].id: 60})
    assert selected(stub) == wanted(BESIDE, old[0].id, old[1].id)
    world.provider.route(ENV, {one.id: 100 for one in new})
    assert selected(stub) == wanted(BESIDE, new[0].id, new[1].id)


@EACH
@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_killed_between_two_writes_nobody_ends_who_has_requests_by_one_of_them(
    written: int, settings: Settings, world: World, stub: ClusterStub
) -> None:
    old, new = served(world, 1, settings), launched(world, 2, settings)
    goal, done = {one.id: 100 for one in new}, list[str]()

    def fits(method: str, path: str) -> bool:
        if method == "PATCH":
            done.append(path)
        return method == "PATCH" and len(done) > written

    stub.faults.append(Fault(400, {"message": "gone"}, times=9, fits=fits))
    if written < (4 if settings is BESIDE else 3):
        with pytest.raises(InstarError, match="gone"):
            world.provider.route(ENV, goal)
    stub.faults.clear()
    seen = weights(world)
    for name, group in selected(stub).items():
        assert seen[group] == 100 or group in goal, f"'{group}' has requests by {name}, and may be ended"
    if written < 3:
        assert any(seen[one.id] for one in old), "it is not over"
    world.provider.route(ENV, goal)
    assert {name for name, weight in weights(world).items() if weight} == goal.keys()
    assert selected(stub) == wanted(settings, new[0].id, new[1].id)


@EACH
def test_what_somebody_does_to_a_roles_service_is_found_and_taken_back(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    web, api = served(world, 1, settings)
    hand = {"manager": "kubectl-edit", "operation": "Update", "time": "now", "fieldsV1": {"f:spec": {"f:ports": {}}}}
    found = stub.one("services", OF_API)
    found["metadata"]["managedFields"], found["spec"]["ports"][0]["targetPort"] = [hand], 1
    told = {one.path.partition(": ")[0] for one in world.provider.inspects.inspect_router(ENV)}
    assert told == {f"Service {OF_API}"}
    of_api = released(world, 1).of_role("api").service
    with pytest.raises(Refused, match="'kubectl-edit' wrote spec/ports"):
        world.provider.preflight(ENV, settings, WEB, launching=True, others={"api": of_api})
    known = {(1, role): one for role in ("web", "api") if (one := Ports.of(released(world, 1), role))}
    plan = router_plan(ENV, settings, released(world, 1))
    world.provider.inspects.restore_router(plan, world.provider.inspects.targets([web, api], known))
    assert ports(stub, OF_API)[80] == "service" and selected(stub) == wanted(settings, web.id, api.id)
    del stub.objects["services", "shop", OF_API]
    (gone,) = world.provider.inspects.inspect_router(ENV)
    assert (gone.path, gone.observed) == (f"Service {OF_API}", "nothing")
    assert world.provider.observe(ENV, []).traffic.plan is None, "whoever acts next makes it"


@EACH
def test_a_service_of_that_name_that_is_somebody_elses_is_left_alone(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    theirs = stub.put("services", "shop", {"metadata": {"name": OF_API}, "spec": {}})
    world.settings[ENV] = settings
    with pytest.raises(Refused, match=f"cannot use the Service 'shop/{OF_API}'"):
        world.provider.preflight(ENV, settings, WEB, launching=True, others={"api": API})
    assert stub.one("services", OF_API) == theirs


@EACH
def test_who_had_the_lease_before_writes_to_no_service(settings: Settings, world: World, stub: ClusterStub) -> None:
    world.held = HeldLease(number=3, holder="one")
    served(world, 1, settings)
    world.held = HeldLease(number=4, holder="two")
    world.provider.observe(ENV, [])
    for name in SERVICES[id(settings)]:
        assert stub.one("services", name)["metadata"]["annotations"]["instar/lease"] == "4"


@EACH
def test_services_come_and_go_with_the_doors_of_the_definition(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    web, api = served(world, 1, settings)
    first = tuple(one for one in settings.names.http if one in ("shop.example", "shop-prod.shop.svc"))
    only = dataclasses.replace(settings, doors={}, names=HostNames(http=first))
    fingerprint = planned(world, 1, only)
    assert selected(stub) == {FIRST: web.id}
    assert "instar/doors" not in stub.one("services", FIRST)["metadata"]["annotations"]
    assert world.provider.observe(ENV, []).traffic.plan == fingerprint
    assert weights(world) == {web.id: 100}
    fingerprint = planned(world, 1, settings)
    assert set(selected(stub)) == set(SERVICES[id(settings)])
    assert selected(stub)[OF_API] == "nobody"
    world.provider.expose(released(world, 1), [api])
    world.provider.route(ENV, {web.id: 100, api.id: 100})
    assert selected(stub) == wanted(settings, web.id, api.id)
    assert world.provider.observe(ENV, []).traffic.plan == fingerprint


@EACH
def test_services_that_nobody_names_any_more_go_with_the_environment(
    settings: Settings, world: World, stub: ClusterStub
) -> None:
    served(world, 1, settings)
    del stub.objects["services" if settings is ALONE else "httproutes", "shop", FIRST]
    stub.put("services", "shop", {"metadata": {"name": "shop-prod--other"}, "spec": {"selector": {"instar/group": ""}}})
    world.provider.close(ENV)
    assert set(selected(stub)) == {"shop-prod--other"} and stub.names("httproutes") == []


def test_an_environment_with_one_door_asks_for_no_more_than_it_did(world: World, stub: ClusterStub) -> None:
    for settings in (WITHOUT_GATEWAY, dataclasses.replace(BESIDE, names=SETTINGS.names, doors={})):
        stub.objects = {key: one for key, one in stub.objects.items() if key[0] in ("namespaces", "gateways")}
        world.settings[ENV] = settings
        plan = router_plan(ENV, settings, world.release(1, SERVICE))
        old, new = (world.create(world.release(number, SERVICE), serial=number) for number in (1, 2))
        world.provider.expose(world.release(1, SERVICE), [old, new], plan)
        world.provider.route(ENV, {old.id: 100})
        stub.asked.clear()
        world.provider.route(ENV, {new.id: 100})
        reads = [path for method, path in stub.asked if method == "GET" and "/services/shop-prod" in path]
        assert len([path for path in reads if path.endswith("/services/shop-prod")]) == 1
        assert not [path for _, path in stub.asked if "--" in path]
        assert "instar/doors" not in stub.one("services", FIRST)["metadata"]["annotations"]


def test_what_somebody_says_of_the_first_service_has_nobody_take_it_for_another(
    world: World, stub: ClusterStub
) -> None:
    web, _ = served(world, 1, ALONE)
    said = stub.one("services", FIRST)["metadata"]["annotations"]
    said["instar/doors"] = json.dumps({**json.loads(said["instar/doors"]), "0-inside": "0-inside"})
    fingerprint = planned(world, 1, ALONE)
    assert selected(stub)[FIRST] == web.id, "it is there yet"
    assert world.provider.observe(ENV, []).traffic.plan == fingerprint


def test_a_role_is_found_by_the_name_of_its_service() -> None:
    for settings in (BESIDE, ALONE):
        assert KUBERNETES.address_inside(SETTINGS, ENV, settings, "api") == "shop-prod--api.shop.svc:80"
        assert KUBERNETES.address_inside(SETTINGS, ENV, settings) == "shop-prod.shop.svc:80"
    behind = dataclasses.replace(BESIDE, provider_settings=SETTINGS.provider_settings)
    with pytest.raises(Refused, match="it is behind a gateway, and has no Service"):
        KUBERNETES.address_inside(SETTINGS, ENV, behind, "api")
    internal = dataclasses.replace(behind, doors={"api": Door(internal=True)})
    assert KUBERNETES.address_inside(SETTINGS, ENV, internal, "api") == "shop-prod--api.shop.svc:80"


def test_a_role_that_is_internal_has_no_figures_to_be_judged_by() -> None:
    section = {**SETTINGS.provider_settings, "prometheus": {"url": "http://prometheus.example:9090"}}
    rules = RolloutRules(strategy="canary", analysis=Analysis())
    doors = {"api": Door(internal=True)}
    settings = dataclasses.replace(SETTINGS, doors=doors, rollout=rules, provider_settings=section)
    with pytest.raises(Refused, match="the role 'api' is 'internal': no gateway counts"):
        require_fit(ENV, settings, {"web": WEB, "api": API}, {})
    unjudged = dataclasses.replace(settings, rollout=RolloutRules(strategy="canary"))
    require_fit(ENV, unjudged, {"web": WEB, "api": API}, {})


@pytest.mark.parametrize(
    ("doors", "names", "said"),
    [
        (
            {"api": Door(sites=("api.example",))},
            HostNames(http=("shop-prod.shop.svc", "api.example")),
            r"the door 'api' is reached in the cluster alone, as 'listen: {api: {http: \[shop-prod--api.shop.svc\]}}', "
            "and not as 'api.example'",
        ),
        (
            {".admin": Door(sites=("shop-prod--api.shop.svc",))},
            HostNames(http=("shop-prod.shop.svc", "shop-prod--api.shop.svc")),
            r"the door 'admin' is reached in the cluster alone, as 'listen: {admin: {http: \[shop-prod--0--admin.shop",
        ),
        (
            {},
            HostNames(http=(AT,), redirect={f"{AT}.cluster.local": AT}),
            "and not as 'shop-prod.shop.svc.cluster.local'",
        ),
        ({"api": Door(listen=("127.0.0.1:9",))}, WITHOUT_GATEWAY.names, "an address of the door 'api'"),
    ],
)  # fmt: skip
def test_without_a_gateway_a_door_has_the_name_of_its_service_or_none(
    doors: dict[str, Door], names: HostNames, said: str
) -> None:
    settings = dataclasses.replace(WITHOUT_GATEWAY, doors=doors, names=names)
    with pytest.raises(Refused, match=said):
        require_fit(ENV, settings, {"web": WEB, "api": API}, {})
    require_fit(ENV, ALONE, {"web": WEB, "api": API}, {})


@EACH
def test_what_is_rendered_are_all_services(settings: Settings, world: World) -> None:
    release = released(world, 1)
    groups = tuple(
        dataclasses.replace(world.group(release, number), role=role) for number, role in ((1, "web"), (2, "api"))
    )
    planned = PlannedEnvironment(environment=ENV, settings=settings, release=release, image=world.image, groups=groups)
    found = [yaml.safe_load(text) for text in render(world.site, planned).values()]
    named = {
        one["metadata"]["name"]: one["spec"]["selector"]["instar/group"]
        for one in found
        if one and one["kind"] == "Service" and one["metadata"]["name"] in SERVICES[id(settings)]
    }
    assert named == wanted(settings, groups[0].id, groups[1].id)


def test_the_policy_keeps_others_from_the_slices_of_a_roles_service() -> None:
    (policy,) = [one for one in policies(ENV, "shop") if one["metadata"]["name"].endswith(".endpoints")][:1]
    conditions = json.dumps(policy["spec"]["matchConditions"])
    (pattern,) = set(re.findall(r"matches\('(\^[^']+)'\)", conditions))
    assert all(re.match(pattern, name) for name in (FIRST, OF_API, OF_ADMIN, "shop-prod-1-1"))
    assert not any(re.match(pattern, name) for name in ("shop-production", "shop-prod-eu", "shop"))


NAMED = some.from_regex(NAME, fullmatch=True)


@given(doors=some.lists(some.tuples(some.one_of(some.just(""), NAMED), some.one_of(some.just(""), NAMED)), max_size=4))
def test_each_service_has_a_name_of_its_own(doors: list[tuple[str, str]]) -> None:
    names = Names(environment=ENV, ledger="0a1b2c3d")
    keys = {f"{role}.{port}" if port else role for role, port in doors}
    made = {key: names.service_of(door_part(key)) for key in keys}
    assert len(set(made.values())) == len(made)
    for name in made.values():
        assert len(name) <= 63 and re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) and environment_part(name) is None
    for key in (one for one in keys if "." not in one):
        assert names.service_of(door_part(inside_key(key))) == made[key]
