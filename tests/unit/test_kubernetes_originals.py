"""A group that somebody has changed gets no traffic that it has not: neither a hot one, nor one just launched."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes_values import ENV, SERVICE, WITHOUT_GATEWAY, World

from cluster_stub import ClusterStub
from instar.errors import Refused
from instar.providers.kubernetes.originals import altered
from instar.providers.router_plan import RouterPlan

MADE: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {
        "creationTimestamp": "2026-11-29T12:00:00Z",
        "managedFields": [
            {
                "manager": "instar",
                "operation": "Update",
                "time": "2026-11-29T12:00:00Z",
                "fieldsV1": {"f:spec": {"f:template": {}}},
            }
        ],
    },
    "spec": {"template": {"spec": {"containers": [{"image": "registry.example/shop@sha256:aa"}]}}},
}
ANCHOR = {"data": {"image": "sha256:aa"}}
TEMPLATE = {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}


def written(manager: str, fields: dict[str, Any], at: str = "2026-11-29T13:00:00Z", **more: str) -> dict[str, Any]:
    made = copy.deepcopy(MADE)
    entry = {"manager": manager, "operation": "Update", "time": at, "fieldsV1": fields, **more}
    made["metadata"]["managedFields"].append(entry)
    return made


@pytest.mark.parametrize("manager", ["kubectl-edit", "instar", "kube-controller-manager"])
def test_who_wrote_what_and_when_is_said_also_of_whoever_calls_himself_instar(manager: str) -> None:
    told = f"'{manager}' wrote spec/template/spec of its Deployment at 2026-11-29T13:00:00Z"
    assert altered(written(manager, TEMPLATE), ANCHOR) == told


@pytest.mark.parametrize(
    "found",
    [
        MADE,
        written("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        written("keda", {"f:spec": {"f:replicas": {}}}),
        written("kube-controller-manager", {"f:status": {"f:readyReplicas": {}}}, subresource="status"),
        written("kube-controller-manager", {"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/x": {}}}}),
        written("instar", TEMPLATE, at="2026-11-29T12:00:01Z"),
    ],
)
def test_how_many_pods_there_are_notes_and_the_engines_words_are_no_change(found: dict[str, Any]) -> None:
    assert altered(found, ANCHOR) is None


def test_an_object_that_says_nothing_of_who_wrote_to_it_is_not_believed() -> None:
    made = copy.deepcopy(MADE)
    made["metadata"]["managedFields"] = []
    assert "taken out of it by hand" in str(altered(made, ANCHOR))


def test_a_deployment_that_is_not_as_it_was_at_first_and_names_nobody_is_not_believed() -> None:
    made = copy.deepcopy(MADE)
    made["metadata"]["generation"] = 2
    assert "taken out of it by hand" in str(altered(made, ANCHOR)), "whoever edits it can take their entry out"
    scaled = written("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale")
    scaled["metadata"]["generation"] = 2
    assert altered(scaled, ANCHOR) is None
    status = written("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    status["metadata"]["generation"] = 2
    assert altered(status, ANCHOR) is not None
    to_nothing = copy.deepcopy(made)  # as kubectl scale leaves it: of a number that is 0 an API server says no writer
    to_nothing["spec"]["replicas"] = 0
    assert altered(to_nothing, ANCHOR) is None


def test_another_image_than_the_anchor_says_is_a_change_whoever_made_the_deployment() -> None:
    assert altered(MADE, {"data": {"image": "sha256:bb"}}) == (
        "its Deployment says that its pods run 'registry.example/shop@sha256:aa', and its release is another image"
    )


def edit(stub: ClusterStub, plural: str, name: str) -> None:
    """Do as ``kubectl edit`` does."""
    found = copy.deepcopy(stub.one(plural, name))
    found["metadata"]["managedFields"] += written("kubectl-edit", {"f:spec": {}, "f:data": {}})["metadata"][
        "managedFields"
    ][1:]
    stub.put(plural, "shop", found)


@pytest.mark.parametrize(("plural", "part"), [("deployments", ""), ("configmaps", "-config")])
def test_what_is_read_anyway_says_that_a_group_was_changed(
    world: World, stub: ClusterStub, plural: str, part: str
) -> None:
    release = world.release(config={"A": "b"})
    group = world.create(release)
    before = len(stub.asked)
    assert world.provider.observe(ENV, [group]).groups[0].altered is None
    asked = len(stub.asked) - before
    edit(stub, plural, f"{group.id}{part}")
    before = len(stub.asked)
    told = world.provider.observe(ENV, [group]).groups[0].altered
    assert told is not None
    assert re.fullmatch(r"'kubectl-edit' wrote .* of its (Deployment|ConfigMap) at 2026-11-29T13:00:00Z", told)
    assert len(stub.asked) - before == asked


def test_a_service_that_was_changed_is_seen_while_nobody_sends_anything_to_it(world: World, stub: ClusterStub) -> None:
    group = world.create(world.release())
    edit(stub, "services", group.id)
    assert "of its Service" in str(world.provider.observe(ENV, [group]).groups[0].altered)


def test_a_hot_group_whose_service_was_changed_gets_no_requests(world: World, stub: ClusterStub) -> None:
    hot, active = world.create(world.release(1)), world.create(world.release(2), serial=2)
    world.provider.expose(world.release(), [hot, active], RouterPlan.of(ENV, world.settings[ENV], SERVICE))
    world.provider.route(ENV, {active.id: 100})
    edit(stub, "services", hot.id)
    before = copy.deepcopy(stub.one("httproutes", "shop-prod"))
    for weights in ({hot.id: 100}, {hot.id: 5, active.id: 95}):
        with pytest.raises(Refused, match=f"cannot give '{hot.id}' requests: it is not as it was made") as caught:
            world.provider.route(ENV, weights)
        assert caught.value.retry_after_s is None
        assert f"instar taint shop/prod {hot.id}" in (caught.value.hint or "")
    assert stub.one("httproutes", "shop-prod") == before
    world.provider.route(ENV, {active.id: 100})  # who has them already is drift's affair


@pytest.fixture
def pods_selected(stub: ClusterStub) -> Callable[[str], None]:
    def select(group: str) -> None:
        ready = [{"targetRef": {"name": f"{group}-0"}, "conditions": {"ready": True}}]
        labels = {"kubernetes.io/service-name": "shop-prod"}
        stub.put("endpointslices", "shop", {"metadata": {"name": "x", "labels": labels}, "endpoints": ready})

    return select


def test_without_a_gateway_a_groups_own_service_leads_nowhere(
    stub: ClusterStub, tmp_path: Any, pods_selected: Callable[[str], None]
) -> None:
    world = World(stub, tmp_path, WITHOUT_GATEWAY)
    group = world.create(world.release())
    world.provider.expose(world.release(), [group], RouterPlan.of(ENV, WITHOUT_GATEWAY, SERVICE))
    edit(stub, "services", group.id)
    pods_selected(group.id)
    world.provider.route(ENV, {group.id: 100})
    assert world.provider.observe(ENV, [group]).groups[0].altered is None
