"""What pods use, as a metrics API says it: whose they are, what is no figure, and a cluster that says nothing."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_values import ENV, World

from cluster_stub import ClusterStub, Fault
from instar.model.release import Instance
from instar.model.usage import Measured, Usage
from instar.providers.kubernetes import usage
from instar.providers.kubernetes.names import GROUP
from instar.providers.kubernetes.rights import NEEDED, roles
from instar.providers.kubernetes.usage import quantity

METRICS = "pods.metrics.k8s.io"


@pytest.fixture
def stub(stub: ClusterStub, monkeypatch: pytest.MonkeyPatch) -> ClusterStub:
    monkeypatch.setattr(usage, "_FRESH_S", 0.0)
    stub.has_metrics = True
    return stub


def measured(world: World, *groups: Instance) -> Measured:
    return world.provider.measures.measure(ENV, groups)


def say(stub: ClusterStub, name: str, *containers: Any, **labels: str) -> None:
    """Have the metrics API say what the containers of a pod use, each as (name, cpu, memory) or as it stands."""
    (pod, *_) = [one for (plural, _, found), one in stub.objects.items() if plural == "pods"]
    told = [
        {"name": one[0], "usage": {"cpu": one[1], "memory": one[2]}} if isinstance(one, tuple) else one
        for one in containers
    ]
    metadata = {"name": name, "labels": {**pod["metadata"]["labels"], **labels}}
    stub.put(METRICS, "shop", {"metadata": metadata, "window": "15s", "containers": told})


def own_container(stub: ClusterStub, group: Instance) -> str:
    return str(stub.one("deployments", group.id)["spec"]["template"]["spec"]["containers"][0]["name"])


def test_each_pod_has_its_figures_beside_its_limit(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    own = own_container(stub, group)
    for number, cpu in enumerate(("1500000n", "250m")):
        say(stub, f"{group.id}-5d9c-{number}", (own, cpu, "12Ki"))
    found = measured(world, group)
    assert found.unknown is None
    limit = 256 << 20
    assert {one.name: one.usage for one in found.members} == {
        f"{group.id}-5d9c-0": Usage(processors=pytest.approx(0.0015), memory_bytes=12288, limit_bytes=limit),
        f"{group.id}-5d9c-1": Usage(processors=0.25, memory_bytes=12288, limit_bytes=limit),
    }
    assert {one.group for one in found.members} == {group.id}


def test_a_container_of_somebody_else_s_is_part_of_the_pod_and_has_no_limit_of_ours(
    world: World, stub: ClusterStub
) -> None:
    group = world.create(world.release())
    say(stub, f"{group.id}-a", (own_container(stub, group), "1", "1Mi"), ("mesh", "500m", "1Mi"))
    (one,) = measured(world, group).members
    assert one.usage == Usage(processors=1.5, memory_bytes=2 << 20)


def test_a_pod_is_of_the_group_that_it_is_called_after(world: World, stub: ClusterStub) -> None:
    first, tenth = world.create(world.release(1)), world.create(world.release(10), serial=1)
    own = own_container(stub, first)
    say(stub, f"{tenth.id}-a", (own, "1m", "1Mi"), **{GROUP: first.id})  # a label is whatever somebody has written
    say(stub, f"{first.id}-a", (own, "1m", "1Mi"), **{GROUP: first.id})
    say(stub, "stranger", (own, "1m", "1Mi"), **{GROUP: first.id})
    assert [(one.name, one.group) for one in measured(world, first, tenth).members] == [(f"{first.id}-a", first.id)]
    assert measured(world, tenth).members == ()
    assert measured(world).members == ()


@pytest.mark.parametrize(
    "containers",
    [
        [],
        [7],
        [{"name": "main"}],
        [{"name": "main", "usage": []}],
        [{"name": "main", "usage": {"cpu": 5, "memory": {}}}],
        [("main", "-5m", "1e99Ki")],
        [("main", "many", "")],
    ],
)
def test_what_is_no_figure_is_none(world: World, stub: ClusterStub, containers: list[Any]) -> None:
    group = world.create(world.release())
    say(stub, f"{group.id}-a", *containers)
    (one,) = measured(world, group).members
    assert (one.usage.processors, one.usage.memory_bytes) == (None, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1234567n", 0.001234567),
        ("12u", 12e-6),
        ("5m", 0.005),
        ("2", 2.0),
        ("1.5Gi", 1.5 * (1 << 30)),
        ("128974848", 128974848.0),
        ("129e6", 129e6),
        ("129M", 129e6),
        ("64Ki", 65536.0),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "-1", "x", "1Kib", "1e999", "9" * 30, "1 Ki", "٣", "NaN", "inf", None, 5, ["1"]])
def test_what_is_no_quantity(text: object) -> None:
    assert quantity(text) is None


def test_a_cluster_without_a_metrics_api_says_nothing_and_why(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    stub.has_metrics = False
    found = measured(world, group)
    assert found.members == () and "nothing in the cluster says what pods use (metrics.k8s.io)" in (found.unknown or "")


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (503, "the server is currently unable to handle the request", "the cluster says 503"),
        (403, 'pods.metrics.k8s.io is forbidden: User "me" cannot list resource', "instar kubernetes rbac ENV"),
    ],
)
def test_a_metrics_api_that_refuses_keeps_nothing_from_being_shown(
    world: World, stub: ClusterStub, status: int, message: str, told: str
) -> None:
    group = world.create(world.release())
    body = {"kind": "Status", "message": message}
    stub.faults.append(Fault(status, body, times=9, fits=lambda method, path: "metrics.k8s.io" in path))
    stub.faults.append(Fault(200, times=9, fits=lambda method, path: path == "/readyz"))
    found = measured(world, group)
    assert found.members == () and told in (found.unknown or "")


def test_an_answer_is_taken_again_for_a_moment(
    world: World, stub: ClusterStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_FRESH_S", 60.0)
    group = world.create(world.release())
    asked = len(stub.asked)
    for _ in range(5):
        measured(world, group)
    assert len(stub.asked) == asked + 2


def test_the_right_to_it_is_printed_and_none_that_a_deploy_insists_on() -> None:
    rule = {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]}
    assert any(rule in role.get("rules", ()) for role in roles("shop", None))
    assert not any(one.group == "metrics.k8s.io" for one in NEEDED)
