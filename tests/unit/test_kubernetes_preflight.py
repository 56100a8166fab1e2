"""What has to hold before an environment goes to a cluster: what does not is one clear sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes_values import ENV, SECTION, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import Fault
from instar.definition import address_forms
from instar.errors import ComponentMissing, FetchError, InstarError, ProviderError, Refused
from instar.model.definition import Health, Service, Stop
from instar.model.doors import Door
from instar.model.environment import RolloutRules, Settings
from instar.model.host_names import HostNames
from instar.model.requests import Compression
from instar.providers.kubernetes.rights import NEEDED, roles
from instar.providers.unfit import refuse_lacking

THEIRS: Any = {"metadata": {"name": "shop-prod"}, "spec": {"parentRefs": [{}]}}
Change = Callable[[World], object]


def look(world: World, settings: Settings = SETTINGS, service: Service = SERVICE) -> tuple[str, ...]:
    refuse_lacking(world.provider, ENV, settings)
    return world.provider.preflight(ENV, settings, service, launching=True)


def test_what_fits_is_let_through_and_makes_nothing(world: World) -> None:
    before = dict(world.stub.objects)
    assert look(world) == ()
    assert world.stub.objects == before
    assert {method for method, path in world.stub.asked if "/authorization.k8s.io/" not in path} == {"GET"}


def test_each_role_is_held_against_what_a_cluster_can_give(world: World) -> None:
    worker = Service(command=("work",), health=Health(kind="none"))
    assert world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True, others={"worker": worker}) == ()
    odd = dataclasses.replace(worker, stop=Stop(signal="SIGQUIT"))
    with pytest.raises(Refused, match="not SIGQUIT"):
        world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True, others={"worker": odd})


def test_another_signal_is_let_through_where_the_cluster_keeps_it_and_nothing_is_made(world: World) -> None:
    odd, before = dataclasses.replace(SERVICE, stop=Stop(signal="SIGQUIT")), dict(world.stub.objects)
    with pytest.raises(Refused, match="it would say SIGTERM to its pods, and not SIGQUIT: it has no use") as told:
        look(world, service=odd)
    assert "ContainerStopSignals" in (told.value.hint or "")
    unknown = Fault(
        400,
        {"kind": "Status", "message": 'unknown field "lifecycle.stopSignal"'},
        fits=lambda method, path: path.endswith("/deployments"),
    )
    world.stub.faults = [unknown]  # of a cluster that is older than the field
    with pytest.raises(Refused, match=r"and not SIGQUIT \(cannot create .*unknown field"):
        look(world, service=odd)
    world.stub.keeps_signals = True
    assert look(world, service=odd) == () and world.stub.objects == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"listen": ("127.0.0.1:80",)}, "is of one machine"),
        ({"doors": {".admin": Door(listen=("127.0.0.1:90",))}}, "an address of the door 'admin' .* is of one machine"),
        ({"compression": Compression()}, "'compression' is the gateway's matter"),
        ({"access_log": True}, "'access_log' is the gateway's matter: it sees the requests, and has a log of its own"),
        ({"preview": "127.0.0.1:81"}, "'preview: header'"),
    ],
)
def test_what_a_cluster_cannot_give_is_refused_with_the_reason(world: World, settings: Any, told: str) -> None:
    with pytest.raises(Refused, match=told):
        look(world, dataclasses.replace(SETTINGS, **settings))
    assert world.stub.asked == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rollout": RolloutRules(strategy="canary", steps=())}, "a canary needs 'kubernetes.gateway'"),
        ({"preview": address_forms.HEADER}, "a preview needs 'kubernetes.gateway'"),
        ({"names": HostNames(http=("shop.example",))}, "shop-prod.shop.svc"),
    ],
)
def test_without_a_gateway_what_needs_one_is_refused(world: World, settings: Any, told: str) -> None:
    with pytest.raises(Refused, match=told):
        look(world, dataclasses.replace(WITHOUT_GATEWAY, **settings))


def test_without_a_gateway_a_service_is_enough(world: World) -> None:
    world.settings.clear()
    world.stub.has_gateway_api = False
    assert look(world, WITHOUT_GATEWAY) == ()


def test_a_service_that_wants_another_signal_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="SIGTERM"):
        look(world, service=dataclasses.replace(SERVICE, stop=Stop(signal="SIGINT")))


def changed(section: dict[str, Any]) -> Settings:
    return dataclasses.replace(SETTINGS, provider_settings={**SECTION, **section})


@pytest.mark.parametrize(
    ("change", "section", "error", "told"),
    [
        (lambda w: setattr(w.stub, "version", ("1", "27+")), {}, ComponentMissing, "it is Kubernetes v1.27"),
        (lambda w: setattr(w.stub, "has_gateway_api", False), {}, ComponentMissing, "cannot find the Gateway API"),
        (lambda w: None, {"namespace": "nowhere"}, Refused, "cannot find the namespace 'nowhere'"),
        (
            lambda w: None,
            {"gateway": {"name": "other", "namespace": "gateways"}},
            Refused,
            "cannot find the Gateway 'gateways/other'",
        ),
        (lambda w: None, {"pull_secret": "pull"}, Refused, "cannot find the Secret 'pull' in 'shop'"),
        (lambda w: None, {"context": "other"}, Refused, "cannot find the context 'other'"),
        (lambda w: setattr(w.stub, "token", "x"), {}, ProviderError, "does not accept these credentials"),
        (
            lambda w: w.stub.put(
                "httproutes", "shop", {"metadata": {"name": "shop-prod"}, "spec": {"parentRefs": [{}]}}
            ),
            {},
            Refused,
            "HTTPRoute 'shop/shop-prod': it is not Instar's",
        ),
    ],
)
def test_what_is_not_there_is_said(
    world: World, change: Change, section: dict[str, Any], error: type[InstarError], told: str
) -> None:
    world.settings.clear()
    change(world)
    before = dict(world.stub.objects)
    with pytest.raises(error, match=told) as caught:
        look(world, changed(section))
    assert caught.value.hint
    assert world.stub.objects == before


def test_every_right_that_is_missing_is_named_with_the_role_that_has_it(world: World) -> None:
    lacking = {("create", "deployments"), ("get", "gateways"), ("create", "pods")}
    world.stub.allowed = lambda asked: (asked["verb"], asked["resource"]) not in lacking
    with pytest.raises(ProviderError) as caught:
        look(world)
    told = caught.value.message.partition("may not ")[2].split("; ")
    assert sorted(told) == [
        "create deployments.apps",
        "create pods/exec",
        "get gateways.gateway.networking.k8s.io in 'gateways'",
    ]

    assert "instar kubernetes rbac prod" in (caught.value.hint or "")
    granted = {
        (verb, resource, group)
        for role in roles("shop", ("gateways", "public"))
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {(one.verb, one.resource, one.group) for one in NEEDED} <= granted


def test_who_may_not_even_read_the_namespace_is_told_all_that_is_missing(world: World) -> None:
    world.stub.allowed = lambda asked: asked["resource"] != "secrets"
    world.stub.faults.append(Fault(403, times=2, fits=lambda method, path: path.endswith("/namespaces/shop")))
    world.stub.faults.append(Fault(200, times=2, fits=lambda method, path: path == "/readyz"))
    with pytest.raises(ProviderError, match="may not get namespaces; create, get secrets"):
        look(world)
    world.stub.allowed = lambda asked: True
    with pytest.raises(ProviderError, match=r"may not get namespaces$"):
        look(world)


def reviews(world: World) -> int:
    return sum(path.endswith("/selfsubjectaccessreviews") for _, path in world.stub.asked)


def test_rights_that_the_cluster_lists_are_not_asked_for_one_by_one(world: World) -> None:
    (role,) = [
        one
        for one in roles("shop", ("gateways", "public"))
        if one["metadata"].get("namespace") == "shop" and "rules" in one
    ]
    world.stub.rules = {"resourceRules": role["rules"]}
    look(world)
    assert reviews(world) == 1, "that of the gateway, which is elsewhere"
    world.stub.rules = {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
    look(world)
    assert reviews(world) == 2


@pytest.mark.parametrize(
    "rules",
    [
        {"incomplete": True, "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]},
        {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}]},
        {"resourceRules": [{"verbs": "create", "apiGroups": 1, "resources": [{}]}, "a rule"]},
        {"resourceRules": {}},
        [],
    ],
)
def test_what_the_list_does_not_say_for_sure_is_asked_for(world: World, rules: Any) -> None:
    world.stub.rules = rules
    world.stub.allowed = lambda asked: asked["resource"] != "secrets"
    with pytest.raises(ProviderError, match="may not create, get secrets"):
        look(world)


def test_who_may_not_have_the_list_asks_for_each_right(world: World) -> None:
    world.stub.faults.append(Fault(403, fits=lambda method, path: path.endswith("selfsubjectrulesreviews")))
    look(world)
    assert reviews(world) == len(NEEDED)


@pytest.mark.parametrize("section", [{"namespace": "elsewhere"}, {"context": "other"}, {"gateway": None}])
def test_an_environment_stays_in_its_cluster(world: World, section: dict[str, Any]) -> None:
    settings = changed(section)
    if section.get("gateway", 1) is None:
        settings = dataclasses.replace(settings, names=WITHOUT_GATEWAY.names)
    with pytest.raises(Refused, match="'shop/prod' cannot move"):
        look(world, settings)


def test_a_registry_without_tls_is_found_before_anything_is_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(what: object) -> bool:
        raise FetchError("it answers without TLS")

    monkeypatch.setattr(world.registries, "has", refuse)
    with pytest.raises(FetchError, match="without TLS"):
        world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True)
    assert world.provider.preflight(ENV, SETTINGS, SERVICE, launching=False) == ()
