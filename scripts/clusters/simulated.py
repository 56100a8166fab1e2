"""Nodes that are not there: kwok says of them, and of the pods that are placed on them, that all is well.

They are tainted, and have a label: pods that are meant for them select and tolerate it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGTERM

from clusters.box import wait_until
from clusters.cluster import Cluster
from clusters.images import ARCHITECTURES
from clusters.parts import SIMULATED
from clusters.programs import build

PODS_OF_A_NODE = 110
_READY_S = 60.0
SELECTED = f", node_selector: [{SIMULATED}=yes], tolerations: [{{key: {SIMULATED}, effect: NoSchedule}}]"


@contextmanager
def simulated_nodes(cluster: Cluster, number: int) -> Iterator[None]:
    """Have so many more nodes; SELECTED, in an environment's section, places instances on them. Their program is built
    where it is missing."""
    names = [f"simulated-{one}" for one in range(number)]
    box = cluster.box(0)
    build(cluster.layout, also=("kwok",))
    try:
        box.start("kwok")
        cluster.api.apply(*(_node(name) for name in names))
        wait_until(lambda: _ready(cluster) == number, f"{number} simulated nodes", _READY_S, box.node.log("kwok"))
        yield
    finally:
        cluster.api.kubectl("delete", "nodes", "--selector", f"{SIMULATED}=yes", "--wait=false")
        box.end("kwok", SIGTERM)


def _node(name: str) -> dict[str, object]:
    labels = {SIMULATED: "yes", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    labels["kubernetes.io/arch"] = ARCHITECTURES[platform.machine()]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {SIMULATED: "yes"}},
        "spec": {"taints": [{"key": SIMULATED, "value": "yes", "effect": "NoSchedule"}]},
        "status": {"allocatable": _ROOM, "capacity": _ROOM},
    }


_ROOM = {"cpu": "64", "memory": "256Gi", "pods": str(PODS_OF_A_NODE)}


def _ready(cluster: Cluster) -> int:
    found = cluster.api.find(f"/api/v1/nodes?labelSelector={SIMULATED}%3Dyes") or {"items": []}
    conditions = [one for node in found["items"] for one in node.get("status", {}).get("conditions", ())]
    return sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
