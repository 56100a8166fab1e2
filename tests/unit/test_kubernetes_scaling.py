"""How many instances run, by an autoscaler: what is written, made, begun with, counted as well, and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.definition import parse
from instar.errors import DefinitionError, Refused
from instar.model.codec import from_json, to_json
from instar.model.definition import Limits
from instar.model.environment import Settings
from instar.model.release import Instance, Release
from instar.model.scaling import Scaling
from instar.providers.kubernetes import preflight
from instar.providers.kubernetes.package import KUBERNETES
from instar.providers.router_plan import RouterPlan

TEXT = """name: shop
image: {{base: scratch}}
service: {{command: [serve], port: 80, {service}}}
environments:
  a: {{listen: ':80', instances: {instances}, {more}}}
"""
SCALED = dataclasses.replace(SETTINGS, scaling=Scaling(min=2, max=6, cpu_percent=50))


def read(instances: str, service: str = "workdir: /", more: str = "preview: header") -> Settings:
    text = TEXT.format(instances=instances, service=service, more=more)
    return Settings.of(parse(text, "f").definition.environments["a"])


def test_bounds_are_written_in_the_place_of_a_number() -> None:
    found = read("{min: 2, max: 10, cpu: 60}")
    assert (found.instances, found.scaling) == (2, Scaling(min=2, max=10, cpu_percent=60))
    assert from_json(Settings, to_json(found)) == found
    plain = read("3")
    assert (plain.instances, plain.scaling) == (3, None)
    assert "scaling" not in to_json(plain)


@pytest.mark.parametrize(
    ("instances", "more", "service", "told"),
    [
        ("{min: 3, max: 2}", "", "", "instances.max: expected at least 3, as 'min' has it, found 2"),
        ("{min: 1}", "", "", "instances: 'max' is missing"),
        ("{min: 0, max: 2}", "", "", "from 1 to 100, found the number 0"),
        ("{min: 1, max: 2, cpu: 0}", "", "", "from 1 to 100, found the number 0"),
        ("{min: 1, max: 2, memory: 1}", "", "", "unknown key 'memory'"),
        ("many", "", "", "expected a whole number from 1 to 100, found 'many'"),
        ("{min: 1, max: 2}", "", "volumes: [{name: data, path: /data}]", "exclusive: one instance at a time"),
        ("{min: 2, max: 9}", "rollout: {strategy: rolling, batch: 3}", "", "expected at most 2, found 3"),
    ],
)
def test_bad_bounds(instances: str, more: str, service: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(instances, service or "workdir: /", more or "preview: header")
    (problem,) = caught.value.problems
    assert told in str(problem)


@pytest.fixture
def world(stub: ClusterStub, tmp_path: Path) -> World:
    return World(stub, tmp_path, SCALED)


def made(world: World, number: int = 1, **more: Any) -> tuple[Instance, Release]:
    own = KUBERNETES.release_settings(dataclasses.replace(SCALED, **more))
    release = world.release(number, provider_settings=own)
    return world.create(release), release


def test_a_release_has_an_autoscaler_that_begins_at_its_least(world: World, stub: ClusterStub) -> None:
    service = dataclasses.replace(SERVICE, limits=Limits(cpus_milli=1_500))
    own = KUBERNETES.release_settings(SCALED)
    world.create(world.release(service=service, provider_settings=own))
    spec = stub.one("horizontalpodautoscalers", "shop-prod-1-1")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-prod-1-1"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    target = {"type": "AverageValue", "averageValue": "750m"}
    assert spec["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    assert stub.one("deployments", "shop-prod-1-1")["spec"]["replicas"] == 2


def test_bounds_are_part_of_a_release(world: World) -> None:
    same = KUBERNETES.release_settings(SCALED)
    assert same == KUBERNETES.release_settings(dataclasses.replace(SCALED, instances=2))
    assert same != KUBERNETES.release_settings(dataclasses.replace(SCALED, scaling=None))


def test_a_release_begins_with_as_many_as_serve_now(world: World, stub: ClusterStub) -> None:
    old, release = made(world)
    world.provider.expose(release, [old], RouterPlan.of(ENV, SCALED, SERVICE))
    world.provider.route(ENV, {old.id: 100})
    stub.one("deployments", old.id)["spec"]["replicas"] = 5
    new, _ = made(world, 2)
    assert stub.one("deployments", new.id)["spec"]["replicas"] == 5
    small, _ = made(world, 3, scaling=Scaling(min=2, max=3))
    assert stub.one("deployments", small.id)["spec"]["replicas"] == 3, "and not more than it may"


def test_one_that_takes_over_is_ready_when_it_has_as_many(world: World, stub: ClusterStub) -> None:
    group, _ = made(world)
    deployment = stub.one("deployments", group.id)
    deployment["spec"]["replicas"] = 5

    def ready(count: int, reason: str) -> int | None:
        deployment["status"] |= {
            "readyReplicas": count,
            "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
        }
        return world.provider.observe(ENV, [group]).groups[0].ready

    assert ready(4, "ReplicaSetUpdated") == 1, "it would have to take over what five do"
    assert ready(5, "NewReplicaSetAvailable") == 5
    assert ready(4, "NewReplicaSetAvailable") == 4, "once it had them, one that is missing is the engine's to make"


def test_what_the_autoscaler_does_is_no_drift_and_what_is_done_to_it_is(world: World, stub: ClusterStub) -> None:
    group, release = made(world)
    from instar.providers.base import Subject

    subject = Subject(instance=group, release=release, image=world.image)
    stub.one("deployments", group.id)["spec"]["replicas"] = 6
    assert world.provider.inspects.inspect([subject]) == ()
    stub.one("horizontalpodautoscalers", group.id)["spec"]["maxReplicas"] = 60
    (found,) = world.provider.inspects.inspect([subject])
    assert found.path == "HorizontalPodAutoscaler shop-prod-1-1: spec.maxReplicas"
    assert (found.expected, found.observed) == ("6", "60")


def test_that_nothing_tells_the_autoscaler_of_load_is_said(world: World, stub: ClusterStub) -> None:
    (told,) = world.provider.preflight(ENV, SCALED, SERVICE, launching=True)
    assert "metrics.k8s.io" in told
    stub.has_metrics = True
    assert world.provider.preflight(ENV, SCALED, SERVICE, launching=True) == ()


def test_a_source_of_figures_that_is_down_keeps_nobody_from_a_deploy(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_PATIENCE_S", 0.0)
    stub.faults = [Fault(503, times=9, fits=lambda method, path: "metrics.k8s.io" in path)]
    (told,) = world.provider.preflight(ENV, SCALED, SERVICE, launching=True)
    assert "cannot look for figures of pods: the cluster says 503" in told


@pytest.mark.parametrize("scaling", [{"min": 0, "max": 2}, {"min": 3, "max": 2}, {"min": 1, "max": 1_000}, [], "many"])
def test_what_somebody_else_wrote_is_no_autoscaler(world: World, stub: ClusterStub, scaling: Any) -> None:
    with pytest.raises(Refused, match=r"kubernetes\.scaling"):
        world.create(world.release(provider_settings={"scaling": scaling}))
    assert stub.names("configmaps") == []


ROLES = """name: shop
image: {{base: scratch}}
roles:
  web: {{command: [serve], port: 80}}
  worker: {{command: [work], {worker}}}
environments:
  a: {{listen: ':80', roles: {{{roles}}}}}
"""


def of_roles(roles: str, worker: str = "workdir: /") -> Settings:
    text = ROLES.format(roles=roles, worker=worker)
    return Settings.of(parse(text, "f").definition.environments["a"])


def test_each_role_may_have_bounds_of_its_own() -> None:
    found = of_roles("worker: {instances: {min: 2, max: 8, cpu: 50}}")
    assert found.is_scaled and found.scaling is None
    worker, web = found.of_role("worker"), found.of_role("web")
    assert (worker.instances, worker.scaling) == (2, Scaling(min=2, max=8, cpu_percent=50))
    assert (web.instances, web.scaling) == (1, None)
    assert from_json(Settings, to_json(found)) == found
    plain = of_roles("worker: {instances: 3}")
    assert not plain.is_scaled and "scaling" not in str(to_json(plain))


@pytest.mark.parametrize(
    ("roles", "worker", "told"),
    [
        ("worker: {instances: {min: 3, max: 2}}", "", "instances.max: expected at least 3"),
        ("worker: {instances: {min: 1, max: 2}}", "volumes: [{name: data, path: /data}]", "one instance at a time"),
        ("worker: {instances: {min: 1}}", "", "'max' is missing"),
    ],
)
def test_bad_bounds_of_a_role(roles: str, worker: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        of_roles(roles, worker or "workdir: /")
    (problem,) = caught.value.problems
    assert told in str(problem)


def test_the_release_of_each_role_has_the_autoscaler_of_that_role(world: World, stub: ClusterStub) -> None:
    settings = of_roles("worker: {instances: {min: 2, max: 8, cpu: 50}}")
    own = KUBERNETES.release_settings(settings)
    web, worker = (
        dataclasses.replace(one, configuration=dataclasses.replace(one.configuration, role=role))
        for role in ("web", "worker")
        for one in (world.release(provider_settings=own),)
    )
    world.provider.create(world.group(web, members=1), web, world.image)
    assert stub.names("horizontalpodautoscalers") == []
    world.provider.create(world.group(worker, serial=2), worker, world.image)
    spec = stub.one("horizontalpodautoscalers", "shop-prod-1-2")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], stub.names("poddisruptionbudgets")) == (2, 8, ["shop-prod-1-2"])
