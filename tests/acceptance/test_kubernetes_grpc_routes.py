"""On a real cluster: a GRPCRoute that takes calls for a name is found, and a kind that is not of v1 is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.model.environment import Settings
from instar.providers.kubernetes.kinds import GRPC_ROUTE, TCP_ROUTE, TLS_ROUTE, Kind
from instar.providers.kubernetes.other_listing import _Looks, listed
from instar.providers.kubernetes.other_routes import taking
from instar.providers.kubernetes.settings import Place
from instar.waiting import Deadline, until
from kubernetes_namespace import Namespace

pytestmark = pytest.mark.cluster
GATEWAY = ("gateways", "public")


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    made = Namespace(tmp_path)
    yield made
    made.close()


def make(namespace: Namespace, kind: Kind, rule: dict[str, Any], **spec: Any) -> None:
    parent = {"namespace": GATEWAY[0], "name": GATEWAY[1]}
    made = {"metadata": {"name": "other"}, "spec": {"parentRefs": [parent], "rules": [rule], **spec}}
    namespace.api.create(kind, namespace.name, {"apiVersion": kind.api_version, "kind": kind.name, **made})


def is_accepted(namespace: Namespace, kind: Kind) -> bool:
    found = namespace.api.find(kind, namespace.name, "other") or {}
    said = [one for parent in (found.get("status") or {}).get("parents") or () for one in parent["conditions"]]
    return any((one["type"], one["status"]) == ("Accepted", "True") for one in said)


def test_a_route_of_calls_is_found_and_kinds_that_are_not_of_v1_are_read(namespace: Namespace) -> None:
    host = f"{namespace.name}.cluster.test"
    to = {"backendRefs": [{"name": "nobody", "port": 80}]}
    called = {"service": "shop.Cart", "method": "Add"}  # Contour refuses a service without a method
    make(namespace, GRPC_ROUTE, {"matches": [{"method": called}], **to}, hostnames=[host])
    assert until(lambda: is_accepted(namespace, GRPC_ROUTE), Deadline.after(60), every_s=0.2)
    found = listed(namespace.api, namespace.name, GATEWAY)
    assert found.unseen is None and GATEWAY in {
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in found.gateways
    }
    section: dict[str, Any] = {"registry": "registry.example/shop", "namespace": namespace.name}
    section |= {"gateway": {"namespace": GATEWAY[0], "name": GATEWAY[1]}}
    place = Place.of(Settings(provider="kubernetes", provider_settings=section))
    takes = taking(found, (namespace.name, "shop-prod"), place, (host,))
    assert [(one.finding.path, one.takes) for one in takes] == [
        (f"GRPCRoute {namespace.name}/other", (f"{host}/shop.Cart/Add",))
    ]
    for kind in (TLS_ROUTE, TCP_ROUTE):
        older = dataclasses.replace(kind, version="v1alpha2")
        make(namespace, older, to, **({"hostnames": [host]} if kind == TLS_ROUTE else {}))
        looks = _Looks(namespace.api, namespace.name)
        (one,) = [each for each in looks.all_of(kind) if each["metadata"]["namespace"] == namespace.name]
        assert one["metadata"]["name"] == "other" and list(looks.unseen()) == []
