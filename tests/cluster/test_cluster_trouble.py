"""What goes wrong with clusters can be had of this one: programs that are killed, a node that goes away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import load
import pytest
from cluster_kit import Namespace, wait_for
from clusters.api import condition
from clusters.cluster import Cluster
from clusters.parts import GATEWAY_HTTP, NODE_IS_LOST_S

pytestmark = pytest.mark.alone


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, which is whole again afterwards whatever was done to it."""
    yield cluster
    cluster.up(None)
    assert list(cluster.problems()) == []


@pytest.fixture
def served(namespace: Namespace, hello: Mapping[str, str]) -> Namespace:
    """A namespace in which two pods answer through the gateway."""
    namespace.deploy("web", hello["1"], replicas=2)
    namespace.wait_until_ready("web", 2)
    namespace.route({"web": 1})
    wait_for(lambda: namespace.ask() == "1", "the first answer")
    return namespace


IN_A_ROLLOUT = ("kube-apiserver", "kubelet", "contour")  # killed with requests by test_kubernetes_trouble.py, too


@pytest.mark.parametrize(
    "part", ["containerd", "kube-proxy", "etcd", *(pytest.param(one, marks=pytest.mark.long) for one in IN_A_ROLLOUT)]
)
def test_a_part_that_is_killed_costs_no_request_and_comes_back(whole: Cluster, served: Namespace, part: str) -> None:
    address = whole.layout.control.address
    with load.running(f"http://{address}:{GATEWAY_HTTP}/", "--name", served.host, "--rate", "50") as traffic:
        whole.change_part("kill", 0, [part])
        assert any(part in problem for problem in whole.problems())
        whole.change_part("start", 0, [part])
        wait_for(lambda: list(whole.problems()) == [], f"the cluster's return after {part} was killed")
        report = traffic.stop()
    assert report["failed"] == 0, report


def test_the_gateway_s_process_is_killed_and_serves_again(whole: Cluster, served: Namespace) -> None:
    whole.change_part("kill", 0, ["envoy"])
    assert served.ask() is None
    whole.change_part("start", 0, ["envoy"])
    wait_for(lambda: served.ask() == "1", "an answer by the new process")
    assert served.count(50) == {"1": 50}


def test_a_node_that_goes_away_is_missed_and_comes_back(
    whole: Cluster, namespace: Namespace, hello: Mapping[str, str]
) -> None:
    if whole.size() < 2:
        pytest.skip("the cluster has one node")
    here, away = whole.layout.node(0).name, whole.layout.node(1).name
    namespace.deploy("here", hello["1"], node=here)
    namespace.deploy("away", hello["2"], node=away)
    namespace.wait_until_ready("here")
    namespace.wait_until_ready("away")
    whole.stop_node(1)
    wait_for(
        lambda: condition(whole.api.find(f"/api/v1/nodes/{away}"), "Ready").get("status") == "Unknown",
        "the notice that the node is gone",
        timeout_s=NODE_IS_LOST_S * 3,
    )
    wait_for(lambda: namespace.ready("away") == 0, "the notice that its pod is gone")
    assert namespace.ready("here") == 1
    whole.start_node(1)
    assert list(whole.problems()) == []
    namespace.wait_until_ready("away")
