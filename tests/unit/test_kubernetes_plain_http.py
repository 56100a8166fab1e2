"""Whether who asks for a name of https by http is answered: what a Gateway's listeners say of it, and who is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from instar.model.host_names import HostNames
from instar.providers.kubernetes.gateway import plain_listeners

ALL = {"namespaces": {"from": "All"}}
HTTP = {"name": "http", "protocol": "HTTP", "port": 80}
SECURE = dataclasses.replace(SETTINGS, names=HostNames(https=("shop.example", "shop.example/api", "www.shop.example")))


def gateway(*listeners: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"metadata": {"name": "public", "namespace": "gateways"}, "spec": {"listeners": list(listeners)}}


def selecting(**labels: str) -> Mapping[str, Any]:
    return {"namespaces": {"from": "Selector", "selector": {"matchLabels": labels}}}


BY_NAME = {"kubernetes.io/metadata.name": "shop"}


@pytest.mark.parametrize(
    ("listener", "namespace", "takes"),
    [
        ({"allowedRoutes": ALL}, "shop", True),
        ({"allowedRoutes": ALL, "protocol": "HTTPS"}, "shop", False),
        ({"allowedRoutes": {**ALL, "kinds": [{"kind": "GRPCRoute"}]}}, "shop", False),
        ({"allowedRoutes": {**ALL, "kinds": [{"kind": "HTTPRoute"}]}}, "shop", True),
        ({}, "shop", False),
        ({}, "gateways", True),
        ({"allowedRoutes": {"namespaces": {"from": "Same"}}}, "gateways", True),
        ({"allowedRoutes": {"namespaces": {"from": "Same"}}}, "shop", False),
        ({"allowedRoutes": {"namespaces": {"from": "None"}}}, "shop", False),
        ({"allowedRoutes": selecting(**BY_NAME)}, "shop", True),
        ({"allowedRoutes": selecting(**BY_NAME)}, "other", False),
        ({"allowedRoutes": selecting(team="a")}, "shop", False),
        ({"allowedRoutes": ALL, "hostname": "shop.example"}, "shop", True),
        ({"allowedRoutes": ALL, "hostname": "*.example"}, "shop", True),
        ({"allowedRoutes": ALL, "hostname": "other.example"}, "shop", False),
    ],
)
def test_a_listener_says_whose_routes_it_takes_and_for_which_names(
    listener: Mapping[str, Any], namespace: str, takes: bool
) -> None:
    found = plain_listeners(gateway({**HTTP, **listener}), namespace, ("shop.example",))
    assert found == ({"http": ("shop.example",)} if takes else {})


@pytest.mark.parametrize(
    ("hostname", "host", "meets"),
    [
        ("shop.example", "*.example", True),
        ("*.example", "*.shop.example", True),
        ("*.shop.example", "*.example", True),
        ("*.other.example", "*.shop.example", False),
    ],
)
def test_names_with_wildcards_are_held_against_one_another(hostname: str, host: str, meets: bool) -> None:
    listener = {**HTTP, "allowedRoutes": ALL, "hostname": hostname}
    assert bool(plain_listeners(gateway(listener), "shop", (host,))) == meets


def test_a_deploy_says_which_names_are_answered_so_and_where_it_is_said_how_not(world: World) -> None:
    before = world.stub.one("gateways", "public", "gateways")
    assert world.provider.preflight(ENV, SECURE, SERVICE, launching=True) == ()
    listeners = [{**before["spec"]["listeners"][0], "allowedRoutes": ALL}]
    world.stub.put("gateways", "gateways", {**before, "spec": {"listeners": listeners}})
    assert world.provider.preflight(ENV, SETTINGS, SERVICE, launching=True) == (), "its names are of http"
    (told,) = world.provider.preflight(ENV, SECURE, SERVICE, launching=True)
    assert told == (
        "who asks for shop.example and www.shop.example by http is answered, and not sent to https: the listener "
        "'http' of the Gateway 'gateways/public' takes routes of 'shop' (docs/kubernetes.md, From http to https)"
    )
