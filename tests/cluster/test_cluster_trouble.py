"""What goes wrong with clusters can be had of this one: programs that are killed. A node: test_cluster_life.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import load
import pytest
from cluster_kit import Namespace, wait_for
from clusters.cluster import Cluster
from clusters.parts import GATEWAY_HTTP

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
