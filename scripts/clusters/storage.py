"""Storage that takes snapshots: a driver of CSI whose volumes are folders, with the released programs that have claims
and snapshots made by one. Its data is in a folder that all nodes share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGTERM

from clusters.box import wait_until
from clusters.cluster import Cluster
from clusters.parts import SNAPSHOTTING, STORAGE_DRIVER
from clusters.programs import build

DRIVER = "folders.csi.instar.test"  # as it calls itself
CLASS = "kept"
LATE_CLASS = "kept-late"  # a volume is made when its first pod comes
_PATIENCE_S = 90.0
_CSI_API = "storage.k8s.io/v1"
_SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents"


@contextmanager
def snapshotting(cluster: Cluster) -> Iterator[None]:
    """Have the storage classes CLASS and LATE_CLASS, whose volumes can be kept. The programs are built where they are
    missing; at the end all that was made by them has to be on its way to its end."""
    build(cluster.layout, also=("csi",))
    resources = cluster.layout.programs / "resources/snapshots.yaml"
    cluster.api.kubectl("apply", "--server-side", "-f", str(resources))
    cluster.api.kubectl("wait", "--for", "condition=Established", "crd", "--all", "--timeout", "30s")
    cluster.api.apply(*_objects())
    control, others = cluster.box(0), SNAPSHOTTING
    try:
        for box in cluster.boxes():
            box.start(STORAGE_DRIVER)
        for part in others:
            control.start(part)
        wait_until(lambda: _is_known(cluster), "the driver of storage", _PATIENCE_S, control.node.log(STORAGE_DRIVER))
        yield
        wait_until(lambda: not _left(cluster), "the end of all claims and snapshots", _PATIENCE_S)
    finally:
        for part in others:
            control.end(part, SIGTERM)
        for box in cluster.boxes():
            box.end(STORAGE_DRIVER, SIGTERM)
        cluster.api.kubectl("delete", "storageclass", CLASS, LATE_CLASS)
        cluster.api.kubectl("delete", "volumesnapshotclass", CLASS)


def _objects() -> list[dict[str, object]]:
    name = {"name": CLASS}
    return [
        {
            "apiVersion": _CSI_API,
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {"attachRequired": False, "fsGroupPolicy": "None"},
        },
        {"apiVersion": _CSI_API, "kind": "StorageClass", "metadata": name, "provisioner": DRIVER},
        {
            "apiVersion": _CSI_API,
            "kind": "StorageClass",
            "metadata": {"name": LATE_CLASS},
            "provisioner": DRIVER,
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": name,
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        },
    ]


def _is_known(cluster: Cluster) -> bool:
    """Tell whether the kubelet of each node has taken the driver in."""
    nodes = [cluster.api.find(f"/apis/{_CSI_API}/csinodes/{box.node.name}") or {} for box in cluster.boxes()]
    known = [[one["name"] for one in (node.get("spec") or {}).get("drivers") or ()] for node in nodes]
    return all(DRIVER in names for names in known)


def _left(cluster: Cluster) -> list[str]:
    volumes = (cluster.api.find("/api/v1/persistentvolumes") or {"items": []})["items"]
    snapshots = (cluster.api.find(_SNAPSHOTS) or {"items": []})["items"]
    mine = [one for one in volumes if one["spec"].get("storageClassName") in (CLASS, LATE_CLASS)]
    return [one["metadata"]["name"] for one in (*mine, *snapshots)]
