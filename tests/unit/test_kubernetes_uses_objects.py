"""``uses`` on a cluster: a Service's name in pods' variables, the policy that lets them through, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import Refused, RouterUnreachable
from instar.model.doors import Port
from instar.model.environment import Network, RolloutRules
from instar.model.host_names import HostNames
from instar.model.lease import HeldLease
from instar.model.release import EnvironmentId
from instar.model.uses import Used
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.kubernetes.preflight import require_fit
from instar.providers.router_plan import RouterPlan

API = EnvironmentId(service="my-api", name="prod")
AT = "my-api-prod.shop.svc:80"
USED = Used(environment=str(API), port=9000, at=AT)


def test_the_name_is_that_of_the_environments_service() -> None:
    assert KUBERNETES.address_inside(SETTINGS, API, WITHOUT_GATEWAY) == AT
    with pytest.raises(Refused, match="it is behind a gateway, and has no Service"):
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


def test_what_is_internal_is_so_behind_a_gateway_too_and_moves_as_a_whole() -> None:
    internal = dataclasses.replace(WITHOUT_GATEWAY, names=HostNames(), internal=True)
    require_fit(ENV, internal, {"": SERVICE}, {})
    behind = dataclasses.replace(SETTINGS, names=HostNames(), internal=True)
    by_steps = dataclasses.replace(behind, rollout=RolloutRules(strategy="canary"))
    with pytest.raises(Refused, match="by 'listen: internal' a Service selects one release at a time"):
        require_fit(ENV, by_steps, {"": SERVICE}, {})
    at_once = dataclasses.replace(behind, rollout=RolloutRules(strategy="blue-green"))
    require_fit(ENV, at_once, {"": SERVICE}, {})
    assert KUBERNETES.address_inside(SETTINGS, ENV, at_once) == "shop-prod.shop.svc:80"


def inside(stub: ClusterStub) -> tuple[str, dict[str, int]]:
    """Return whom the Service selects, and its ports."""
    spec = stub.one("services", "shop-prod")["spec"]
    return spec["selector"]["instar/group"], {one["name"]: one["port"] for one in spec["ports"]}


def answering(stub: ClusterStub, *groups: str) -> None:
    """Have the Service lead to pods of these, as its controller does soon."""
    ready = [{"targetRef": {"name": f"{one}-0"}, "conditions": {"ready": True}} for one in groups]
    labels = {"kubernetes.io/service-name": "shop-prod"}
    stub.put("endpointslices", "shop", {"metadata": {"name": "shop-prod-x", "labels": labels}, "endpoints": ready})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.providers.kubernetes.door_objects._IN_FORCE_S", 0.3)


BESIDE = dataclasses.replace(SETTINGS, provider_settings={**SETTINGS.provider_settings, "inside": True})


@pytest.mark.usefixtures("quick")
def test_beside_its_routes_a_service_follows_the_release_that_has_the_traffic(
    stub: ClusterStub, tmp_path: Path
) -> None:
    world = World(stub, tmp_path, BESIDE)
    service = dataclasses.replace(SERVICE, ports={"admin": Port(port=9000)})
    plan = RouterPlan.of(ENV, BESIDE, service)
    old, new = (world.create(world.release(number, service), serial=number) for number in (1, 2))
    world.provider.expose(world.release(1, service), [old], plan)
    answering(stub, old.id)
    world.provider.route(ENV, {old.id: 100})
    assert inside(stub) == (old.id, {"service": 80, "admin": 9000})
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint
    assert world.provider.inspects.inspect_router(ENV) == ()
    world.provider.expose(world.release(2, service), [new])
    for share in (5, 60):
        world.provider.route(ENV, {old.id: 100 - share, new.id: share})
        assert inside(stub)[0] == old.id, "a canary's steps are of the route"
        weights = {name: one.weight for name, one in world.provider.observe(ENV, []).traffic.groups.items()}
        assert weights == {old.id: 100 - share, new.id: share}
    with pytest.raises(RouterUnreachable, match=f"still sends requests to '{old.id}-0'"):
        world.provider.route(ENV, {new.id: 100})
    answering(stub, new.id)
    world.provider.route(ENV, {new.id: 100})
    assert inside(stub)[0] == new.id
    stub.one("services", "shop-prod")["spec"]["selector"] = {"instar/group": old.id}
    weights = {name: one.weight for name, one in world.provider.observe(ENV, []).traffic.groups.items()}
    assert weights == {old.id: 100, new.id: 100}, "it has requests yet by the Service: nobody ends it"
    world.provider.route(ENV, {new.id: 100})
    assert inside(stub)[0] == new.id
    world.provider.close(ENV)
    assert "shop-prod" not in stub.names("services") and stub.names("httproutes") == []


@pytest.mark.usefixtures("quick")
def test_the_service_comes_and_goes_with_the_word_of_the_definition(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path)
    release, plan = world.release(), RouterPlan.of(ENV, SETTINGS, SERVICE)
    group = world.create(release)
    world.provider.expose(release, [group], plan)
    world.provider.route(ENV, {group.id: 100})
    assert "shop-prod" not in stub.names("services")
    world.settings[ENV] = BESIDE
    assert world.provider.observe(ENV, []).traffic.plan is None, "it is to be there: whoever acts next makes it"
    answering(stub, group.id)
    world.provider.expose(release, [], plan)
    assert inside(stub)[0] == group.id
    world.held = HeldLease(number=2, holder="two")
    world.provider.observe(ENV, [])
    assert stub.one("services", "shop-prod")["metadata"]["annotations"]["instar/lease"] == "2"
    world.settings[ENV] = SETTINGS
    world.provider.expose(release, [], plan)
    assert "shop-prod" not in stub.names("services")
    assert world.provider.observe(ENV, []).traffic.plan == plan.fingerprint


def test_a_service_of_that_name_that_is_somebody_elses_is_left_alone(stub: ClusterStub, tmp_path: Path) -> None:
    world = World(stub, tmp_path, BESIDE)
    stub.put("services", "shop", {"metadata": {"name": "shop-prod"}, "spec": {}})
    with pytest.raises(Refused, match="cannot use the Service 'shop/shop-prod'"):
        world.provider.preflight(ENV, BESIDE, SERVICE, launching=True)
