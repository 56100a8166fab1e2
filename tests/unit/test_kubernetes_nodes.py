"""What keeps a pod from a node, or from its image, is said with what of the settings it is about."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kubernetes_values import ENV, SETTINGS, World

from cluster_stub import ClusterStub, Fault
from instar.providers.kubernetes.causes import last_warnings
from instar.providers.kubernetes.pod_settings import release_settings


@pytest.mark.parametrize(
    ("section", "condition", "told"),
    [
        (
            {"node_selector": ["disk=ssd"]},
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]},
            "0/2 nodes are available (it needs a node with disk=ssd, kubernetes.io/arch=amd64)",
        ),
        (
            {},
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}}}]},
            "401 Unauthorized (without a password: 'kubernetes.pull_secret' names a Secret where the registry wants "
            "one)",
        ),
        (
            {"pull_secret": "login"},
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "403 Forbidden"}}}]},
            "403 Forbidden (with the password of the Secret 'login', which 'kubernetes.pull_secret' names: "
            "kubectl get secret login -n shop -o yaml)",
        ),
    ],
)
def test_what_of_the_settings_a_cluster_speaks_of_is_named(
    world: World, stub: ClusterStub, section: dict[str, Any], condition: dict[str, object], told: str
) -> None:
    stub.pods_are_ready, stub.pod_status = False, condition
    settings = dataclasses.replace(SETTINGS, provider_settings={**SETTINGS.provider_settings, **section})
    group = world.create(world.release(provider_settings=release_settings(settings)))
    assert told in (world.provider.observe(ENV, [group]).groups[0].reason or "")


def test_nodes_of_no_such_architecture_are_told_of_before_anything_is_made(world: World, stub: ClusterStub) -> None:
    def told() -> list[str]:
        world.told.clear()
        world.provider.publish(ENV, world.image)
        return [one.text for one in world.told if one.kind == "warning"]

    wanted = world.image.config.architecture
    assert told() == [], "who sees no node knows nothing"
    for name, architecture in (("one", "s390x"), ("two", "riscv64")):
        stub.put("nodes", "", {"metadata": {"name": name, "labels": {"kubernetes.io/arch": architecture}}})
    assert told() == [
        f"the image is for {wanted}, and the cluster's nodes are riscv64, s390x: its pods wait until there is one of "
        "that kind"
    ]
    stub.faults = [Fault(403, {"message": "no"}, fits=lambda method, path: path.endswith("/nodes"))]
    assert told() == [], "who may not look is not kept from anything"
    stub.put("nodes", "", {"metadata": {"name": "three", "labels": {"kubernetes.io/arch": wanted}}})
    assert told() == []


@pytest.mark.parametrize(
    ("told", "about"),
    [
        ("Failed to pull image: pull access denied", "(without a password: 'kubernetes.pull_secret' names"),
        ("Error: ErrImagePull", "(without a password: 'kubernetes.pull_secret' names"),
        ("0/1 nodes: 1 didn't match Pod's node affinity/selector", "(it needs a node with kubernetes.io/arch="),
    ],
)
def test_an_event_says_so_too_before_a_pod_does(world: World, stub: ClusterStub, told: str, about: str) -> None:
    stub.pods_are_ready = False
    group = world.create(world.release())
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": f"{group.id}-0"}, "message": told}
    stub.put("events", "shop", event)
    reason = world.provider.observe(ENV, [group]).groups[0].reason
    assert reason is not None and reason.startswith(f"{group.id}-0: {told} {about}")


def test_the_cause_of_a_pull_is_said_and_not_that_it_failed() -> None:
    said = ["Failed to pull image: 401 Unauthorized", "Error: ErrImagePull", "Error: ImagePullBackOff"]
    events = [
        {"message": one, "lastTimestamp": f"2026-11-30T12:00:0{second}Z", "involvedObject": {"name": "pod"}}
        for second, one in enumerate(said)
    ]
    assert last_warnings(events) == {"pod": said[0]}
    assert last_warnings(events[1:]) == {"pod": said[2]}
    assert last_warnings([*events, {**events[2], "message": "Readiness probe failed"}]) == {
        "pod": "Readiness probe failed"
    }
