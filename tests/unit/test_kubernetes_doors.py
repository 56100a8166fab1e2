"""Doors of roles and of further ports behind a gateway: a route for each, and all of them move together."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.errors import InstarError, Refused, RouterUnreachable
from instar.model.definition import Service
from instar.model.doors import Door, Port
from instar.model.environment import Settings
from instar.model.host_names import HostNames
from instar.model.lease import HeldLease
from instar.model.release import Instance, OwnNames, Release
from instar.providers.kubernetes.documents import render
from instar.providers.kubernetes.doors import NONE, Doors, write_order
from instar.providers.kubernetes.names import door_part
from instar.providers.kubernetes.policy import policies
from instar.providers.package import PlannedEnvironment
from instar.providers.router_plan import RouterPlan, router_plan

WEB = dataclasses.replace(SERVICE, ports={"admin": Port(port=9000)})
API = Service(command=("api",), port=7000, health=SERVICE.health)
DOORS = {"api": Door(sites=("api.example",)), ".admin": Door(sites=("admin.example",))}
NAMED = HostNames(http=("shop.example", "api.example", "admin.example"))
OPEN = dataclasses.replace(SETTINGS, names=NAMED, doors=DOORS, preview="header")
ROUTES = ["shop-prod", "shop-prod.0.admin", "shop-prod.api"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.door_objects._IN_FORCE_S", 0.3)
    monkeypatch.setattr("instar.providers.kubernetes.sight._PATIENCE_S", 0.3)


def released(world: World, number: int, web: Service = WEB) -> Release:
    return world.release(number, web, role="web", roles={"api": API})


def launched(world: World, release: Release, settings: Settings = OPEN) -> tuple[Instance, Instance]:
    """Make a release's two groups, and have them known with no traffic, as a rollout does."""
    world.settings[ENV] = settings
    first = 10 * release.number
    made = [
        dataclasses.replace(world.group(release, first + number), role=role)
        for number, role in enumerate(("web", "api"))
    ]
    for one in made:
        world.provider.create(one, release.of_role(one.role), world.image)
    world.provider.expose(release.of_role("web"), [], router_plan(ENV, settings, release))
    world.provider.expose(release.of_role("web"), made[:1])
    world.provider.expose(release, made[1:])
    return made[0], made[1]


def served(world: World, number: int = 1, settings: Settings = OPEN) -> tuple[Instance, Instance]:
    web, api = launched(world, released(world, number), settings)
    world.provider.route(ENV, {web.id: 100, api.id: 100})
    return web, api


def shares(stub: ClusterStub, name: str) -> dict[str, tuple[int, int]]:
    rule = stub.one("httproutes", name)["spec"]["rules"][-1]
    return {one["name"]: (one["port"], one["weight"]) for one in rule.get("backendRefs", ())}


def weights(world: World) -> dict[str, int]:
    return {name: one.weight for name, one in world.provider.observe(ENV, []).traffic.groups.items()}


def test_each_door_has_a_route_that_leads_to_its_port_of_its_role(world: World, stub: ClusterStub) -> None:
    world.settings.clear()
    web_of, api_of = released(world, 1).of_role("web").service, released(world, 1).of_role("api").service
    world.provider.preflight(ENV, OPEN, web_of, launching=True, others={"api": api_of})
    web, api = served(world)
    assert stub.names("httproutes") == ROUTES
    assert shares(stub, "shop-prod") == {web.id: (8080, 100)}
    assert shares(stub, "shop-prod.0.admin") == {web.id: (9000, 100)}
    assert shares(stub, "shop-prod.api") == {api.id: (7000, 100)}
    assert [stub.one("httproutes", name)["spec"]["hostnames"] for name in ROUTES] == [
        ["shop.example"], ["admin.example"], ["api.example"],
    ]  # fmt: skip
    traffic = world.provider.observe(ENV, []).traffic
    assert traffic.plan == router_plan(ENV, OPEN, released(world, 1)).fingerprint and traffic.settled
    assert {name: one.port for name, one in traffic.groups.items()} == {web.id: 8080, api.id: 7000}
    assert world.provider.inspects.inspect_router(ENV) == ()
    groups = [web, api]
    ports = {(1, one.role): found for one in groups if (found := ports_of(released(world, 1), one.role))}
    wanted = world.provider.inspects.targets(groups, ports)
    assert [one.target for one in world.provider.inspects.router(ENV).targets] == list(wanted)
    world.provider.close(ENV)
    assert stub.names("httproutes") == []


def ports_of(release: Release, role: str) -> Any:
    from instar.providers.doors import Ports

    return Ports.of(release, role)


def test_all_doors_move_together_and_back(world: World, stub: ClusterStub) -> None:
    old, new = served(world), launched(world, released(world, 2))
    before = {name: stub.one("httproutes", name)["metadata"]["resourceVersion"] for name in ROUTES}
    for to, left in ((new, old), (old, new)):
        stub.asked.clear()
        assert world.provider.route(ENV, {one.id: 100 for one in to}) is not None
        assert sum(method == "PATCH" for method, _ in stub.asked) == 3, "a write of each route, and no other"
        assert weights(world) == {**{one.id: 100 for one in to}, **{one.id: 0 for one in left}}
        assert shares(stub, "shop-prod.0.admin") == {to[0].id: (9000, 100), left[0].id: (9000, 0)}
    assert all(
        stub.one("httproutes", name)["metadata"]["resourceVersion"] != version for name, version in before.items()
    )
    world.provider.withdraw(ENV, [one.id for one in new])
    assert set(weights(world)) == {one.id for one in old}
    assert shares(stub, "shop-prod.0.admin").keys() == {old[0].id}


@pytest.mark.parametrize("written", [0, 1, 2])
def test_killed_between_two_of_its_writes_nobody_counts_as_moved_before_all_have(
    written: int, world: World, stub: ClusterStub
) -> None:
    old, new = served(world), launched(world, released(world, 2))
    goal = {new[0].id: 100, new[1].id: 100}
    done: list[str] = []

    def fits(method: str, path: str) -> bool:
        """The first so many writes are done, and whoever wrote is gone."""
        if method != "PATCH":
            return False
        done.append(path)
        return len(done) > written

    stub.faults.append(Fault(400, {"message": "gone"}, times=9, fits=fits))
    with pytest.raises(InstarError, match="gone"):
        world.provider.route(ENV, goal)
    stub.faults.clear()
    seen = weights(world)
    moved = {name for name in ROUTES if any(name == path.rpartition("/")[2] for path in done[:written])}
    if "shop-prod" not in moved or "shop-prod.0.admin" not in moved:
        assert seen[old[0].id] == 100, "it has the requests of one door yet: nobody ends it"
        assert seen[new[0].id] == 0, "it has not all: whoever goes on gives it the rest"
    assert (seen[old[1].id], seen[new[1].id]) == ((0, 100) if "shop-prod.api" in moved else (100, 0))
    world.provider.route(ENV, goal)
    assert {name: weight for name, weight in weights(world).items() if weight} == goal


def test_killed_while_doors_are_made_all_that_is_there_is_known_and_the_plan_is_not_in_force(
    world: World, stub: ClusterStub
) -> None:
    alone = dataclasses.replace(OPEN, names=HostNames(http=("shop.example",)), doors={})
    world.settings[ENV] = alone
    release = released(world, 1)
    web, _ = launched(world, release, alone)
    world.provider.route(ENV, {web.id: 100})
    assert stub.names("httproutes") == ["shop-prod"]
    assert "instar/doors" not in stub.one("httproutes", "shop-prod")["metadata"]["annotations"]
    plan = router_plan(ENV, OPEN, release)
    world.settings[ENV] = OPEN
    seen = 0
    for kept in range(1, 9):
        done: list[str] = []
        stub.faults.append(
            Fault(
                400,
                {"message": "gone"},
                times=9,
                fits=lambda m, p, d=done, k=kept: m == "PATCH" and (d.append(p) or len(d) > k),
            )  # type: ignore[misc]
        )
        try:
            world.provider.expose(release.of_role("web"), [], plan)
        except InstarError as error:
            assert "gone" in str(error)
        else:
            break
        finally:
            stub.faults.clear()
        seen += 1
        known = json.loads(stub.one("httproutes", "shop-prod")["metadata"]["annotations"]["instar/doors"])
        assert {f"shop-prod.{part}" for part in known} >= set(stub.names("httproutes")) - {"shop-prod"}
        assert world.provider.observe(ENV, []).traffic.plan is None
    assert seen >= 2 and stub.names("httproutes") == ROUTES
    assert shares(stub, "shop-prod.0.admin") == {web.id: (9000, 100)}, "who is there has the port: its Service says so"
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint


def test_the_route_of_a_door_that_is_gone_goes_and_what_is_left_is_as_it_was(world: World, stub: ClusterStub) -> None:
    web, api = served(world)
    only = dataclasses.replace(OPEN, doors={"api": DOORS["api"]}, names=HostNames(http=("shop.example", "api.example")))
    world.settings[ENV] = only
    world.provider.expose(released(world, 1).of_role("web"), [], router_plan(ENV, only, released(world, 1)))
    assert stub.names("httproutes") == ["shop-prod", "shop-prod.api"]
    assert weights(world) == {web.id: 100, api.id: 100}
    none = dataclasses.replace(OPEN, doors={}, names=HostNames(http=("shop.example",)))
    world.settings[ENV] = none
    world.provider.expose(released(world, 1).of_role("web"), [], router_plan(ENV, none, released(world, 1)))
    assert stub.names("httproutes") == ["shop-prod"]
    assert "instar/doors" not in stub.one("httproutes", "shop-prod")["metadata"]["annotations"]
    assert weights(world) == {web.id: 100}, "nobody gets to the other role"


def test_what_the_gateway_has_not_taken_up_of_one_door_is_not_in_force(world: World, stub: ClusterStub) -> None:
    old, new = served(world), launched(world, released(world, 2))
    stub.goes_by = json.loads(json.dumps(stub.one("httproutes", "shop-prod.api")))
    with pytest.raises(RouterUnreachable, match="by an older version"):
        world.provider.route(ENV, {new[0].id: 100, new[1].id: 100})
    traffic = world.provider.observe(ENV, []).traffic
    assert traffic.plan is None and not traffic.settled
    stub.goes_by = None
    world.provider.route(ENV, {new[0].id: 100, new[1].id: 100})
    assert old[0].id in world.provider.observe(ENV, []).traffic.groups


def test_no_door_moves_to_a_group_that_one_of_them_does_not_reach(world: World, stub: ClusterStub) -> None:
    old, new = served(world), launched(world, released(world, 2))
    stub.unreached.add(new[1].id)
    with pytest.raises(RouterUnreachable, match=f"does not reach '{new[1].id}'"):
        world.provider.route(ENV, {new[0].id: 100, new[1].id: 100})
    assert {name: one for name, one in weights(world).items() if one} == {old[0].id: 100, old[1].id: 100}


def test_who_asks_for_a_previewed_release_gets_to_the_port_that_they_came_for(world: World, stub: ClusterStub) -> None:
    served(world)
    new = launched(world, released(world, 2))
    world.provider.preview(ENV, {2: new[0].id})
    for name, group, port in (
        ("shop-prod", new[0], 8080), ("shop-prod.0.admin", new[0], 9000), ("shop-prod.api", new[1], 7000),
    ):  # fmt: skip
        rule = stub.one("httproutes", name)["spec"]["rules"][0]
        assert rule["matches"][0]["headers"] == [{"name": "X-Instar-Release", "value": "2"}]
        assert [(one["name"], one["port"]) for one in rule["backendRefs"]] == [(group.id, port)]
    assert world.provider.observe(ENV, []).traffic.previewed == {2: new[0].id}


def test_what_somebody_does_to_a_further_route_is_found_and_taken_back(world: World, stub: ClusterStub) -> None:
    web, api = served(world)
    route = stub.one("httproutes", "shop-prod.api")
    route["spec"]["rules"][-1]["filters"] = [{"type": "RequestMirror"}]
    hand = {"manager": "kubectl-edit", "operation": "Update", "time": "now", "fieldsV1": {"f:spec": {"f:rules": {}}}}
    route["metadata"]["managedFields"] = [hand]
    found = world.provider.inspects.inspect_router(ENV)
    assert {one.path.partition(": ")[0] for one in found} == {"HTTPRoute shop-prod.api"} and len(found) == 2
    with pytest.raises(Refused, match="'kubectl-edit' wrote spec/rules"):
        world.provider.preflight(ENV, OPEN, WEB, launching=True, others={"api": API})
    plan = router_plan(ENV, OPEN, released(world, 1))
    ports = {(1, one.role): ports_of(released(world, 1), one.role) for one in (web, api)}
    world.provider.inspects.restore_router(plan, world.provider.inspects.targets([web, api], ports))
    assert "filters" not in stub.one("httproutes", "shop-prod.api")["spec"]["rules"][-1]
    assert weights(world) == {web.id: 100, api.id: 100}


def test_a_further_route_that_somebody_removed_is_found_and_made_again(world: World, stub: ClusterStub) -> None:
    web, api = served(world)
    del stub.objects["httproutes", "shop", "shop-prod.0.admin"]
    (found,) = world.provider.inspects.inspect_router(ENV)
    assert (found.path, found.observed) == ("HTTPRoute shop-prod.0.admin", "nothing")
    assert world.provider.observe(ENV, []).traffic.plan is None
    plan = router_plan(ENV, OPEN, released(world, 1))
    world.provider.expose(released(world, 1).of_role("web"), [], plan)
    assert shares(stub, "shop-prod.0.admin") == {web.id: (9000, 100)}
    assert weights(world) == {web.id: 100, api.id: 100}


def test_a_route_of_that_name_that_is_somebody_else_s_is_left_alone(world: World, stub: ClusterStub) -> None:
    world.settings.clear()
    stub.put("httproutes", "shop", {"metadata": {"name": "shop-prod.api"}, "spec": {"parentRefs": [{}], "rules": []}})
    with pytest.raises(Refused, match=r"shop/shop-prod\.api"):
        world.provider.preflight(ENV, OPEN, WEB, launching=True, others={"api": API})


def test_maintenance_is_of_all_doors(world: World, stub: ClusterStub) -> None:
    section = {**OPEN.provider_settings, "maintenance": {"service": "sorry"}}
    settings = dataclasses.replace(OPEN, provider_settings=section)
    web, api = served(world, settings=settings)
    stub.put("services", "shop", {"metadata": {"name": "sorry"}, "spec": {"ports": [{"port": 80}]}})
    world.provider.maintains.set_maintenance(ENV, on=True, page=None)
    for name in ROUTES:
        assert {one for one, (_, weight) in shares(stub, name).items() if weight} == {"sorry"}
    assert weights(world) == {web.id: 100, api.id: 100}
    world.provider.maintains.set_maintenance(ENV, on=False, page=None)
    assert shares(stub, "shop-prod.api") == {api.id: (7000, 100)}


def test_who_had_the_lease_before_writes_to_no_further_route(world: World, stub: ClusterStub) -> None:
    world.held = HeldLease(number=3, holder="one")
    served(world)
    world.held = HeldLease(number=4, holder="two")
    world.provider.observe(ENV, [])
    for name in ROUTES:
        assert stub.one("httproutes", name)["metadata"]["annotations"]["instar/lease"] == "4"


def test_what_is_rendered_are_all_routes(world: World) -> None:
    release = released(world, 1)
    groups = tuple(
        dataclasses.replace(world.group(release, number), role=role) for number, role in ((1, "web"), (2, "api"))
    )
    planned = PlannedEnvironment(environment=ENV, settings=OPEN, release=release, image=world.image, groups=groups)
    found = [yaml.safe_load(text) for text in render(world.site, planned).values()]
    routes = {one["metadata"]["name"]: one["spec"]["hostnames"] for one in found if one and one["kind"] == "HTTPRoute"}
    assert routes == {
        "shop-prod": ["shop.example"], "shop-prod.0.admin": ["admin.example"], "shop-prod.api": ["api.example"],
    }  # fmt: skip


def test_the_policy_keeps_the_word_of_which_routes_there_are() -> None:
    text = json.dumps(policies(ENV, "shop"))
    assert "instar/doors" in text


@pytest.mark.parametrize(
    ("door", "number", "part"),
    [
        ("", 1, ""), ("", 2, "2"), ("api", 1, "api"), (".admin", 1, "0.admin"), ("api.admin", 3, "api.admin.3"),
        ("a-", 1, door_part("a-")),
    ],
)  # fmt: skip
def test_a_part_is_called_as_no_other_is(door: str, number: int, part: str) -> None:
    assert door_part(door, number) == part
    assert all(one[0].isalnum() and one[-1].isalnum() for one in part.split(".") if one)


def plan_of(*sites: str) -> RouterPlan:
    return RouterPlan.of(ENV, dataclasses.replace(SETTINGS, names=HostNames(http=sites)), SERVICE)


def planned(before: Doors, *sites: str) -> Doors:
    return before.planned(plan_of(*sites), lambda group, port: None)


def parts(doors: Doors) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {name: (door.hosts, door.paths) for name, door in doors.parts.items()}


def test_names_with_other_paths_have_a_route_of_their_own_and_stay_where_they_are() -> None:
    first = planned(NONE, "b.example/y")
    both = planned(first, "a.example/x", "b.example/y")
    assert parts(both) == {"": (("b.example",), ("/y",)), "2": (("a.example",), ("/x",))}
    assert write_order(first.parts, both)[-1] in ("", "2")
    apart = planned(both, "a.example/x", "b.example/y", "b.example/z")
    assert parts(apart)[""] == (("b.example",), ("/y", "/z"))
    alone = planned(apart, "a.example/x")
    assert parts(alone) == {"": (("a.example",), ("/x",))}
    split = planned(planned(NONE, "a.example", "b.example"), "a.example", "b.example/only")
    order = write_order(planned(NONE, "a.example", "b.example").parts, split)
    assert sorted(order) == ["", "2"]


def test_a_name_that_moves_to_another_route_is_taken_there_before_it_is_let_go() -> None:
    many = [f"n{number}.example" for number in range(16)]
    before = planned(NONE, *many)
    after = planned(before, "first.example", *many)
    moved = before.parts[""].sites - after.parts[""].sites
    assert moved, "a route has 16 names at most"
    assert write_order(before.parts, after) == ("2", "")
    paths = planned(NONE, *(f"a.example/{number}" for number in range(20)))
    assert [len(door.paths) for door in paths.parts.values()] == [8, 8, 4]


def test_a_door_whose_names_another_environment_has_leads_nowhere() -> None:
    (door,) = planned(NONE).parts.values()
    assert door.hosts == ("nobody.instar.invalid",)


def test_names_that_are_sent_on_have_a_route_that_says_where_to(world: World, stub: ClusterStub) -> None:
    to = {"www.shop.example": "shop.example", "old.example": "shop.example", "a.example": "b.example"}
    named = HostNames(https=("shop.example",), http=("b.example",), redirect=to)
    settings = dataclasses.replace(SETTINGS, names=named)
    world.provider.preflight(ENV, settings, SERVICE, launching=True)
    web, _ = served(world, settings=dataclasses.replace(OPEN, names=named, doors={"api": Door(sites=("b.example",))}))
    assert stub.names("httproutes") == ["shop-prod", "shop-prod.0-redirect", "shop-prod.0-redirect.2", "shop-prod.api"]
    first, second = (stub.one("httproutes", f"shop-prod.0-redirect{more}")["spec"] for more in ("", ".2"))
    assert first["hostnames"] == ["www.shop.example", "old.example"]
    (sent,) = first["rules"][-1]["filters"]
    assert sent["requestRedirect"] == {"scheme": "https", "hostname": "shop.example", "statusCode": 301}
    assert "backendRefs" not in first["rules"][-1]
    assert second["rules"][-1]["filters"][0]["requestRedirect"] == {"hostname": "b.example", "statusCode": 301}
    assert world.provider.inspects.inspect_router(ENV) == ()
    assert world.provider.observe(ENV, []).traffic.plan is not None
    stub.one("httproutes", "shop-prod.0-redirect")["spec"]["rules"][-1]["filters"][0]["requestRedirect"]["scheme"] = (
        "ftp"
    )
    stub.one("httproutes", "shop-prod.0-redirect")["metadata"]["managedFields"] = [{"manager": "kubectl-edit"}]
    assert world.provider.inspects.inspect_router(ENV) != ()
    world.provider.route(ENV, {web.id: 50})
    assert weights(world)[web.id] == 50


def test_names_that_another_environment_has_are_waited_for_at_no_gateway(world: World, stub: ClusterStub) -> None:
    release = world.release(1)
    plan = RouterPlan.of(ENV, SETTINGS, SERVICE, own=OwnNames(held=(), expected=("shop.example",)))
    stub.accepts = {"type": "Accepted", "status": "False", "message": "no listener has that name"}
    group = world.create(release)
    world.provider.expose(release, [group], plan)
    world.provider.route(ENV, {group.id: 100})
    assert stub.one("httproutes", "shop-prod")["spec"]["hostnames"] == ["nobody.instar.invalid"], "it takes no other's"
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint
    stub.accepts = {"type": "Accepted", "status": "True"}
    world.provider.expose(release, [], RouterPlan.of(ENV, SETTINGS, SERVICE, own=OwnNames(held=("shop.example",))))
    assert stub.one("httproutes", "shop-prod")["spec"]["hostnames"] == ["shop.example"]


def test_of_a_first_route_that_somebody_removed_the_others_are_used_again_and_go_with_the_environment(
    world: World, stub: ClusterStub
) -> None:
    web, api = served(world)
    uid = stub.one("httproutes", "shop-prod.api")["metadata"]["uid"]
    del stub.objects["httproutes", "shop", "shop-prod"]
    assert not world.provider.observe(ENV, []).traffic.running
    release = released(world, 1)
    world.provider.expose(release.of_role("web"), [], router_plan(ENV, OPEN, release))
    world.provider.expose(release.of_role("web"), [web])
    world.provider.expose(release, [api])
    world.provider.route(ENV, {web.id: 100, api.id: 100})
    assert stub.one("httproutes", "shop-prod.api")["metadata"]["uid"] == uid
    assert weights(world) == {web.id: 100, api.id: 100}
    del stub.objects["httproutes", "shop", "shop-prod"]
    world.provider.close(ENV)
    assert stub.names("httproutes") == []


def test_a_further_route_that_somebody_else_made_meanwhile_is_not_written_to(world: World, stub: ClusterStub) -> None:
    alone = dataclasses.replace(OPEN, names=HostNames(http=("shop.example",)), doors={})
    web, _ = launched(world, released(world, 1), alone)
    world.provider.route(ENV, {web.id: 100})
    theirs = {"metadata": {"name": "shop-prod.api"}, "spec": {"parentRefs": [{}], "rules": []}}
    made = stub.put("httproutes", "shop", theirs)["metadata"]["resourceVersion"]
    with pytest.raises(Refused, match=r"shop/shop-prod\.api"):
        world.provider.expose(released(world, 1).of_role("web"), [], router_plan(ENV, OPEN, released(world, 1)))
    assert stub.one("httproutes", "shop-prod.api")["metadata"]["resourceVersion"] == made
    assert weights(world)[web.id] == 100
