"""``uses`` on a cluster: a Service's name in pods' variables, the policy that lets them through, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import Refused
from instar.model.environment import Network
from instar.model.host_names import HostNames
from instar.model.release import EnvironmentId
from instar.model.uses import Used
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.preflight import require_fit
from instar.providers.kubernetes.settings import Place

API = EnvironmentId(service="my-api", name="prod")
AT = "my-api-prod.shop.svc:80"
USED = Used(environment=str(API), port=9000, at=AT)


def test_the_name_is_that_of_the_environments_service() -> None:
    assert KUBERNETES.address_inside(SETTINGS, API, WITHOUT_GATEWAY) == AT
    with pytest.raises(Refused, match="it is behind a gateway"):
        KUBERNETES.address_inside(WITHOUT_GATEWAY, API, SETTINGS)
    elsewhere = {**WITHOUT_GATEWAY.provider_settings, "context": "another"}
    with pytest.raises(Refused, match="it is in another cluster"):
        KUBERNETES.address_inside(SETTINGS, API, dataclasses.replace(WITHOUT_GATEWAY, provider_settings=elsewhere))


def test_pods_have_it_in_their_variables_and_may_reach_it(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path, WITHOUT_GATEWAY)
    opened = dataclasses.replace(WITHOUT_GATEWAY, network=Network(allow=(USED.allow,)))
    release = world.release(service=SERVICE, uses=(USED,), provider_settings=KUBERNETES.release_settings(opened))
    world.create(release)
    config = stub.one("configmaps", "shop-prod-1-1-config")["data"]
    assert config == {"MY_API_HOST": "my-api-prod.shop.svc", "MY_API_PORT": "80"}
    rule = stub.one("networkpolicies", "shop-prod-1-1")["spec"]["egress"][-1]
    assert rule["ports"] == [{"port": 9000, "protocol": "TCP"}], "of the pods that the Service leads to"
    labels = rule["to"][0]["podSelector"]["matchLabels"]
    assert labels.items() >= {"instar/service": "my-api", "instar/environment": "prod"}.items()


def test_what_is_internal_has_no_gateway() -> None:
    internal = dataclasses.replace(WITHOUT_GATEWAY, names=HostNames(), internal=True)
    require_fit(ENV, internal, SERVICE, Place.of(internal), {})
    behind = dataclasses.replace(SETTINGS, names=HostNames(), internal=True)
    with pytest.raises(Refused, match="'listen: internal' is for one without"):
        require_fit(ENV, behind, SERVICE, Place.of(behind), {})
