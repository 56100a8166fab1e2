"""How much nodes and pods use, as most clusters have it: by the released metrics-server, behind the API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGTERM

from clusters.box import wait_until
from clusters.cluster import Cluster
from clusters.layout import Layout
from clusters.parts import METRICS, METRICS_PORT
from clusters.programs import build

_API = "v1beta1.metrics.k8s.io"
_NAME = {"name": METRICS, "namespace": "kube-system"}
_PATIENCE_S = 120.0


@contextmanager
def measuring(cluster: Cluster) -> Iterator[None]:
    """Have ``metrics.k8s.io`` served, with figures of each node. The program is built where it is missing."""
    box = cluster.box(0)
    build(cluster.layout, also=("metrics",))
    try:
        box.start(METRICS)
        cluster.api.apply(*_objects(cluster.layout))
        log = box.node.log(METRICS)
        wait_until(lambda: _measured(cluster) == len(list(cluster.boxes())), "figures of each node", _PATIENCE_S, log)
        yield
    finally:
        cluster.api.kubectl("delete", "apiservice", _API, "--ignore-not-found")
        box.end(METRICS, SIGTERM)
        cluster.api.kubectl("delete", "service", METRICS, "-n", _NAME["namespace"], "--ignore-not-found")


def _objects(layout: Layout) -> list[dict[str, object]]:
    port = {"name": "https", "port": 443, "targetPort": METRICS_PORT}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": _NAME, "spec": {"ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**_NAME, "labels": {"kubernetes.io/service-name": METRICS}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [layout.control.address]}],
            "ports": [{"name": "https", "port": METRICS_PORT, "protocol": "TCP"}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _API},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": _NAME,
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def _measured(cluster: Cluster) -> int:
    found = cluster.api.find("/apis/metrics.k8s.io/v1beta1/nodes") or {"items": []}
    return len(found.get("items") or ())
