"""Whether a cluster's storage takes snapshots: a storage class has a driver, and that one a VolumeSnapshotClass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from instar.errors import ComponentMissing, Refused
from instar.providers.kubernetes.kinds import SNAPSHOT_CLASS, STORAGE_CLASS, VOLUME_SNAPSHOT, Kind

Object = Mapping[str, Any]
_USUAL: Final = "storageclass.kubernetes.io/is-default-class"
_USUAL_SNAPSHOTS: Final = "snapshot.storage.kubernetes.io/is-default-class"
_OR_NONE: Final = "; or leave 'snapshot: true' of the volume away"


class Asked(Protocol):
    """What is asked of the API."""

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None: ...

    def find_list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...] | None: ...

    def text(self, path: str, what: str, *, absent: bool = False) -> bytes | None: ...


def snapshot_class(api: Asked, storage_class: str | None, *, defined: bool = False) -> str:
    """Return by which VolumeSnapshotClass volumes of a storage class (None: the cluster's default one) are kept.
    ``defined``: the volume has ``snapshot: true``, by which it is asked.

    Raises ComponentMissing where the cluster has no such kinds, Refused where that storage takes no snapshots, what the
    API raises where that may not be asked.
    """
    or_none = _OR_NONE if defined else ""
    if api.text(f"/apis/{VOLUME_SNAPSHOT.api_version}", "look for VolumeSnapshots", absent=True) is None:
        raise ComponentMissing(
            f"cannot keep what volumes hold: the cluster has no VolumeSnapshots ({VOLUME_SNAPSHOT.api_version})",
            hint="have its kinds and controller installed (kubernetes-csi/external-snapshotter) with a driver of CSI "
            f"that takes snapshots{or_none}",
        )
    name, driver = _driver(api, storage_class, or_none)
    known = api.find_list(SNAPSHOT_CLASS, "", {}) or ()
    found = [one for one in known if one.get("driver") == driver]
    usual = [one for one in found if _says(_USUAL_SNAPSHOTS)(one)]
    if not found:
        others = ", ".join(sorted({str(one.get("driver")) for one in known})) or "none"
        raise Refused(
            f"cannot keep what volumes of the storage class '{name}' hold: no VolumeSnapshotClass is of its driver "
            f"'{driver}'; those that there are, are of: {others}",
            hint=f"name another in kubernetes.storage_class, for a volume that is not there yet{or_none}",
        )
    if len(found) > 1 and len(usual) != 1:
        names = ", ".join(sorted(one["metadata"]["name"] for one in found))
        raise Refused(
            f"cannot tell by which VolumeSnapshotClass volumes of '{name}' are kept: there are {names}",
            hint=f"mark one: kubectl annotate volumesnapshotclass NAME {_USUAL_SNAPSHOTS}=true",
        )
    return str((usual or found)[0]["metadata"]["name"])


def waits_for_pods(api: Asked, storage_class: str | None) -> bool:
    """Tell whether a claim of that class is given its storage only when a pod is to have it."""
    found = api.find(STORAGE_CLASS, None, storage_class) if storage_class else None
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def _driver(api: Asked, storage_class: str | None, or_none: str) -> tuple[str, str]:
    """Return a storage class's name, and its driver."""
    if storage_class is None:
        usual = next(filter(_says(_USUAL), api.find_list(STORAGE_CLASS, "", {}) or ()), None)
        if usual is None:
            raise Refused(
                "cannot keep what volumes hold: the cluster has no default storage class, and none is named",
                hint=f"name one whose driver takes snapshots in kubernetes.storage_class{or_none}",
            )
        return str(usual["metadata"]["name"]), str(usual.get("provisioner"))
    found = api.find(STORAGE_CLASS, None, storage_class) if storage_class else None
    if found is None:
        raise Refused(
            f"cannot keep what volumes of the storage class '{storage_class}' hold: there is no such class",
            hint=f"only a driver's volumes can be kept{or_none}",
        )
    return storage_class, str(found.get("provisioner"))


def _says(annotation: str) -> Callable[[Object], bool]:
    return lambda one: (one["metadata"].get("annotations") or {}).get(annotation) == "true"
