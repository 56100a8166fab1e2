"""What a pod says beyond its template: what the engine and nodes add to each is known, all else is told."""

from __future__ import annotations

from typing import Any

import pytest

from instar.providers.kubernetes.comparison import added_to_pod
from instar.providers.kubernetes.names import GROUP, TAINTED
from instar.providers.kubernetes.pods import taken_out

WANTED: dict[str, Any] = {
    "restartPolicy": "Always",
    "containers": [{"name": "service", "image": "x", "securityContext": {"privileged": False}}],
}
INJECTED: dict[str, Any] = {
    **WANTED,
    "nodeName": "node-0",
    "serviceAccount": "default",
    "serviceAccountName": "default",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "priority": 0,
    "preemptionPolicy": "PreemptLowerPriority",
    "tolerations": [{"key": "node.kubernetes.io/not-ready"}],
    "containers": [{**WANTED["containers"][0], "terminationMessagePath": "/dev/termination-log"}],
}


def found(**changed: Any) -> list[tuple[str, str]]:
    return [(one.path, one.observed) for one in added_to_pod(WANTED, {**INJECTED, **changed})]


def test_what_every_pod_is_given_is_no_difference() -> None:
    assert found() == []
    assert found(hostNetwork=False, activeDeadlineSeconds=None) == []


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"serviceAccountName": "admin"}, "serviceAccountName"),
        ({"dnsPolicy": "Default"}, "dnsPolicy"),
        ({"activeDeadlineSeconds": 5}, "activeDeadlineSeconds"),
        ({"hostAliases": [{"ip": "10.0.0.1"}]}, "hostAliases"),
        ({"containers": [{**WANTED["containers"][0], "lifecycle": {"postStart": {}}}]}, "containers[0].lifecycle"),
        (
            {"containers": [{"name": "service", "image": "x", "securityContext": {"runAsUser": 1}}]},
            "containers[0].securityContext.runAsUser",
        ),
    ],
)
def test_all_else_is_told(changed: dict[str, Any], path: str) -> None:
    assert [where for where, _ in found(**changed)] == [path]


def test_what_is_there_is_told_as_the_cluster_writes_it() -> None:
    assert found(hostUsers=True, dnsPolicy="Default") == [("dnsPolicy", "Default"), ("hostUsers", "true")]
    assert found(hostAliases=[{"ip": "10.0.0.1"}]) == [("hostAliases", '[{"ip": "10.0.0.1"}]')]


@pytest.mark.parametrize(
    ("name", "labels", "told"),
    [
        ("shop-prod-1-1-7d-a", {}, True),
        ("shop-prod-1-1-7d-a", {GROUP: "shop-prod-1-1"}, False),
        ("shop-prod-1-1-7d-a", {TAINTED: "shop-prod-1-1"}, False),
        ("shop-prod-1-10-7d-a", {}, False),
    ],
)
def test_a_pod_that_lost_its_group_s_label_is_told_of(name: str, labels: dict[str, str], told: bool) -> None:
    pod = {"metadata": {"name": name, "labels": labels}}
    assert [one.member for one in taken_out("shop-prod-1-1", pod)] == ([name] if told else [])
