"""HTTPRoutes of others for a name of an environment: which take requests from it, by the rules of the Gateway API."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import Fault
from instar.errors import ProviderUnavailable
from instar.model.drift import TakenNames
from instar.model.environment import Drift, Ignore
from instar.model.host_names import HostNames
from instar.providers.kubernetes import api as api_module
from instar.providers.kubernetes import preflight
from instar.providers.kubernetes.other_listing import Listed
from instar.providers.kubernetes.other_routes import OtherRoute, taking
from instar.providers.kubernetes.settings import Place
from instar.providers.router_plan import RouterPlan

SHOP = ("shop.example",)
REGULAR = {"path": {"type": "RegularExpression", "value": "/x"}}
PLACE = Place.of(SETTINGS)
OWN = ("shop", "shop-prod")
PARENT = {"name": "public", "namespace": "gateways"}


def route(
    hosts: tuple[str, ...] = SHOP,
    *matches: Mapping[str, Any],
    at: str = "2026-11-29T12:00:01Z",
    name: str = "other",
    namespace: str = "theirs",
    **more: Any,
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": at, **more}
    return {
        "metadata": metadata,
        "spec": {"parentRefs": [PARENT], "hostnames": list(hosts), "rules": [{"matches": matches}]},
    }


MINE = route(name="shop-prod", namespace="shop", at="2026-11-29T12:00:00Z")


def prefix(path: str, **more: Any) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": path}, **more}


def taken(other: Mapping[str, Any], *sites: str, mine: Mapping[str, Any] | None = MINE) -> tuple[str, ...]:
    listed = Listed(routes=[other] if mine is None else [other, mine])
    return tuple(one for found in taking(listed, OWN, PLACE, sites or ("shop.example",)) for one in found.takes)


@pytest.mark.parametrize(
    ("other", "takes"),
    [
        (route(SHOP, prefix("/api")), ("shop.example/api",)),
        (route(SHOP, {"path": {"type": "Exact", "value": "/"}}), ("shop.example",)),
        (route(SHOP, REGULAR), ("shop.example/x (a regular expression)",)),
        (route(SHOP, prefix("/", method="POST")), ("shop.example/ (some of them)",)),
        (route(SHOP, prefix("/", headers=[{"name": "a", "value": "b"}])), ("shop.example/ (some of them)",)),
        (route(SHOP, at="2026-11-29T11:59:59Z"), ("shop.example",)),
        (route(SHOP, at="2026-11-29T12:00:00Z", namespace="a"), ("shop.example",)),
        (route(SHOP), ()),
        (route(SHOP, at="2026-11-29T12:00:00Z", namespace="z"), ()),
        (route(("www.shop.example",)), ()),
        (route(("*.example",)), ()),
        (route(()), ()),
    ],
)  # fmt: skip
def test_the_longest_path_the_most_conditions_and_then_the_older_route_take_requests(
    other: dict[str, Any], takes: tuple[str, ...]
) -> None:
    assert taken(other) == takes


def test_before_there_is_a_route_all_others_are_older() -> None:
    assert taken(route(), mine=None) == ("shop.example",)


def test_a_path_of_ones_own_is_taken_by_what_is_below_it_alone() -> None:
    assert taken(route(SHOP, prefix("/")), "shop.example/app") == ()
    assert taken(route(SHOP, prefix("/application")), "shop.example/app") == ()
    assert taken(route(SHOP, prefix("/app/api")), "shop.example/app") == ("shop.example/app/api",)


def test_of_a_name_with_a_wildcard_each_longer_one_is_taken_whatever_its_path() -> None:
    assert taken(route(("a.shop.example",), prefix("/")), "*.shop.example/app") == ("a.shop.example/app",)
    assert taken(route(("a.shop.example",), prefix("/x")), "*.shop.example") == ("a.shop.example/x",)
    assert taken(route(SHOP), "*.shop.example") == ()


def test_a_route_of_another_gateway_or_one_that_was_refused_takes_nothing() -> None:
    other = route(SHOP, prefix("/api"))
    elsewhere = {**other, "spec": {**other["spec"], "parentRefs": [{"name": "public"}]}}
    assert taken(elsewhere) == (), "without a namespace it is of its own"
    refused = {"parents": [{"parentRef": PARENT, "conditions": [{"type": "Accepted", "status": "False"}]}]}
    assert taken({**other, "status": refused}) == ()
    mesh = {**other, "spec": {**other["spec"], "parentRefs": [{**PARENT, "kind": "Service", "group": ""}]}}
    assert taken(mesh) == ()


def test_it_is_said_whose_a_route_is() -> None:
    def whose(**more: Any) -> OtherRoute:
        (found,) = taking(Listed(routes=[route(SHOP, prefix("/api"), **more), MINE]), OWN, PLACE, ("shop.example",))
        return found

    labels = {"app.kubernetes.io/managed-by": "instar", "instar/service": "blog", "instar/environment": "prod"}
    assert whose(labels=labels).whose == "Instar's, of the environment 'blog/prod'"
    assert whose(labels={"app.kubernetes.io/managed-by": "Helm"}).whose == "managed by 'Helm'"
    fields = [{"manager": "envoy", "subresource": "status"}, {"manager": "kubectl-create"}]
    assert whose(managedFields=fields).whose == "of 'kubectl-create'"
    assert whose().finding.observed == "it takes them: nobody says whose, made at 2026-11-29T12:00:01Z"


# other kinds, and Gateways beside


def called(*methods: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return route(SHOP, *({"method": one} for one in methods), **more)


@pytest.mark.parametrize(
    ("other", "takes"),
    [
        (called({"service": "shop.Cart", "method": "Add"}), ("shop.example/shop.Cart/Add",)),
        (called({"service": "shop.Cart"}), ("shop.example/shop.Cart",)),
        (called({"method": "Add"}), ("shop.example/.+/Add (a regular expression)",)),
        (called(at="2026-11-29T11:59:59Z"), ("shop.example",)),
        (called(), ()),
        (route(("www.shop.example",)), ()),
    ],
)
def test_calls_are_requests_for_the_path_of_their_method(other: dict[str, Any], takes: tuple[str, ...]) -> None:
    found = list(taking(Listed(routes=[MINE], grpc=[other]), OWN, PLACE, SHOP))
    assert tuple(one for each in found for one in each.takes) == takes
    assert all(one.finding.path == "GRPCRoute theirs/other" and "go to the GRPCRoute" in one.note for one in found)


def gateway(
    name: str, *listeners: Mapping[str, Any], namespace: str = "gateways", address: str = "10.0.0.1"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-11-29T12:00:00Z"},
        "spec": {"listeners": list(listeners)},
        "status": {"addresses": [{"type": "IPAddress", "value": address}]},
    }


WEB = {"name": "web", "port": 80, "protocol": "HTTP"}
OURS = gateway("public", WEB, {"name": "tls", "port": 443, "protocol": "TLS"})
BESIDE = {"name": "second", "namespace": "theirs"}


def attached(parent: Mapping[str, str], hosts: tuple[str, ...] = SHOP, at: str = "2026-11-29T12:00:01Z") -> Any:
    made = route(hosts, at=at)
    return {**made, "spec": {**made["spec"], "parentRefs": [parent]}}


def test_a_name_that_goes_by_tls_takes_all_connections() -> None:
    (found,) = taking(Listed(routes=[MINE], tls=[attached(PARENT)]), OWN, PLACE, ("shop.example/api",))
    assert (found.kind, found.takes) == ("TLSRoute", ("shop.example",))
    none = [attached(BESIDE), attached(PARENT, ("*.example",))]
    assert not list(taking(Listed(routes=[MINE], tls=none), OWN, PLACE, SHOP))


@pytest.mark.parametrize(
    ("second", "takes"),
    [
        (gateway("second", WEB, namespace="theirs"), ["shop.example"]),
        (gateway("second", WEB, namespace="theirs", address="10.0.0.2"), []),
        (gateway("second", {**WEB, "port": 8080}, namespace="theirs"), []),
    ],
)
def test_a_route_at_a_gateway_of_the_same_address_and_port_is_as_one_at_ones_own(
    second: dict[str, Any], takes: list[str]
) -> None:
    older = attached(BESIDE, at="2026-11-29T11:00:00Z")
    for listed in (
        Listed(routes=[MINE, older], gateways=[OURS, second]),
        Listed(routes=[MINE], tcp=[older], gateways=[OURS, second]),
    ):
        assert [one for found in taking(listed, OWN, PLACE, SHOP) for one in found.takes] == takes


def test_a_listener_of_the_very_name_beside_takes_it_and_a_tcproute_at_ones_own_gateway_nothing() -> None:
    second = gateway("second", {**WEB, "hostname": "a.shop.example"}, {**WEB, "port": 81}, namespace="theirs")
    listed = Listed(routes=[MINE], gateways=[OURS, second], tcp=[attached(PARENT)])
    (found,) = taking(listed, OWN, PLACE, ("*.shop.example",))
    assert (found.finding.path, found.takes) == ("Gateway theirs/second", ("a.shop.example",))
    assert not list(taking(listed, OWN, PLACE, SHOP))


def test_a_deploy_says_whose_route_takes_its_requests_and_touches_nothing(world: World) -> None:
    world.stub.put("httproutes", "theirs", route())
    before = dict(world.stub.objects)
    (told,) = world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert "requests for shop.example go to the HTTPRoute 'theirs/other'" in told and "2026-11-29T12:00:01Z" in told
    assert world.stub.objects == before


def test_drift_and_status_find_it_in_whichever_namespace(world: World) -> None:
    group = world.create(world.release())
    world.provider.expose(world.release(), [group], RouterPlan.of(ENV, SETTINGS, SERVICE))
    world.provider.route(ENV, {group.id: 100})
    assert world.provider.inspects.inspect_router(ENV) == ()
    world.stub.put("httproutes", "theirs", route(SHOP, prefix("/api")))
    (found,) = world.provider.inspects.inspect_router(ENV)
    assert (found.kind, found.path) == ("name", "HTTPRoute theirs/other")
    assert world.provider.inspects.taken_names(ENV) == TakenNames(found=(found,))


def forbidden(*ends: str) -> Fault:
    body = {"kind": "Status", "reason": "Forbidden", "message": "httproutes is forbidden"}
    return Fault(403, body, times=9, fits=lambda method, path: path.endswith(ends))


def test_without_the_right_only_its_own_namespace_is_looked_at_and_that_is_said(world: World) -> None:
    world.stub.put("httproutes", "theirs", route())
    world.stub.put("httproutes", "shop", route(namespace="shop"))
    ready = Fault(200, times=99, fits=lambda method, path: path == "/readyz")
    world.stub.faults = [ready, forbidden("/v1/httproutes")]
    ours, told = world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert "'shop/other'" in ours and "may not list HTTPRoutes of other namespaces than 'shop'" in told
    world.stub.faults = [ready, forbidden("/httproutes")]
    (told,) = world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert "may not list HTTPRoutes at all" in told
    assert world.provider.inspects.taken_names(ENV) == TakenNames(unseen=told)


@pytest.mark.parametrize(
    ("ends", "where"), [(("/v1/httproutes",), "of other namespaces than 'shop'"), (("s",), "at all")]
)
def test_what_is_no_missing_right_is_told_as_what_it_is(world: World, ends: tuple[str, ...], where: str) -> None:
    world.stub.put("httproutes", "shop", route(namespace="shop"))
    unreadable = Fault(200, {"items": "none"}, times=9, fits=lambda method, path: path.endswith(ends))
    world.stub.faults = [unreadable]
    taken = world.provider.inspects.taken_names(ENV)
    assert len(taken.found) == (where != "at all")
    assert taken.unseen is not None and f"HTTPRoutes {where} were not looked at (cannot " in taken.unseen
    assert "credentials" not in taken.unseen


def test_no_kind_is_looked_at_that_cannot_matter_and_one_that_the_cluster_has_not_is_none(world: World) -> None:
    def asked() -> list[str]:
        world.stub.asked.clear()
        world.provider.inspects.taken_names(ENV)
        return [path.rpartition("/")[2] for _, path in world.stub.asked if "gateway.networking" in path]

    world.stub.put("gateways", "gateways", gateway("public", WEB))
    assert asked() == ["httproutes", "gateways", "grpcroutes"]
    world.stub.put("gateways", "theirs", gateway("second", {**WEB, "protocol": "TCP"}, namespace="theirs"))
    assert asked() == ["httproutes", "gateways", "grpcroutes", "tcproutes"]
    world.stub.put("gateways", "gateways", OURS)
    world.stub.put("tlsroutes", "theirs", attached(PARENT))
    world.stub.faults = [
        Fault(404, times=99, fits=lambda method, path: "/v1/tlsroutes" in path or "/grpcroutes" in path)
    ]
    taken = world.provider.inspects.taken_names(ENV)
    assert [one.path for one in taken.found] == ["TLSRoute theirs/other"] and taken.unseen is None


def test_what_an_older_role_may_not_list_is_said(world: World) -> None:
    ready = Fault(200, times=99, fits=lambda method, path: path == "/readyz")
    world.stub.faults = [ready, forbidden("/grpcroutes", "/v1/gateways")]
    unseen = world.provider.inspects.taken_names(ENV).unseen or ""
    assert "may not list Gateways of other namespaces than 'shop'" in unseen
    assert "may not list GRPCRoutes at all" in unseen and "HTTPRoutes" not in unseen


def test_more_routes_than_are_read_are_told_and_those_of_its_own_namespace_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_MOST_PAGES", 1)
    world.stub.put("httproutes", "shop", route(namespace="shop"))
    page = {"items": [], "metadata": {"continue": "more"}}
    world.stub.faults = [Fault(200, page, times=9, fits=lambda method, path: path.endswith("/v1/httproutes"))]
    taken = world.provider.inspects.taken_names(ENV)
    assert len(taken.found) == 1 and taken.unseen is not None and "there are more than 500" in taken.unseen


def test_an_api_that_is_away_is_no_missing_right(world: World) -> None:
    world.stub.faults = [Fault(503, times=9, fits=lambda method, path: path.endswith("/httproutes"))]
    with pytest.raises(ProviderUnavailable):
        world.provider.inspects.taken_names(ENV)


def expecting(path: str | None = None, until: str = "2999-12-31", kind: str = "name") -> Drift:
    return Drift(ignore=(Ignore(kind=kind, path=path, reason="their part of the shop", until=until),))


@pytest.mark.parametrize(
    ("drift", "told"),
    [
        (expecting(), 0),
        (expecting("HTTPRoute theirs/*"), 0),
        (expecting("HTTPRoute others/*"), 1),
        (expecting(kind="router"), 1),
        (expecting(until="2020-01-01"), 1),
    ],
)
def test_a_deploy_says_nothing_of_a_route_that_a_rule_expects(world: World, drift: Drift, told: int) -> None:
    world.stub.put("httproutes", "theirs", route())
    settings = dataclasses.replace(SETTINGS, drift=drift)
    assert len(world.provider.preflight(ENV, settings, SERVICE, launching=True)) == told


@pytest.mark.parametrize("status", [429, 503])
def test_where_the_routes_are_not_listed_now_a_deploy_says_so_and_goes_on(
    world: World, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_PATIENCE_S", 0.0)
    world.stub.faults = [Fault(status, times=9, fits=lambda method, path: path.endswith("/httproutes"))]
    (told,) = world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert "HTTPRoute takes requests for its names was not looked at" in told and f"says {status}" in told


def test_where_the_gateway_is_not_read_again_a_deploy_says_so_and_goes_on(world: World) -> None:
    seen: list[str] = []

    def fits(method: str, path: str) -> bool:
        seen.extend([path] if path.endswith("/gateways/public") else [])
        return len(seen) > 1 and path.endswith("/gateways/public")

    world.stub.faults = [Fault(429, times=9, fits=fits)]
    (told,) = world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert "whether the Gateway 'gateways/public' can be asked from here is not known" in told and len(seen) == 2


def test_nobody_is_asked_where_there_is_no_gateway_or_no_name(world: World) -> None:
    for settings in (WITHOUT_GATEWAY, dataclasses.replace(SETTINGS, names=HostNames())):
        world.settings[ENV] = settings
        world.stub.asked.clear()
        assert world.provider.inspects.taken_names(ENV) == TakenNames()
        assert world.stub.asked == []
