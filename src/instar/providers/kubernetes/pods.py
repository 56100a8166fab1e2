"""Whether a pod is what its release says: its image by the digest that runs, its spec, whose it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from instar.model.drift import Finding
from instar.providers.base import Subject
from instar.providers.kubernetes.comparison import added_to_pod, differences
from instar.providers.kubernetes.names import CONTAINER, GROUP, POD_TEMPLATE, TAINTED
from instar.providers.kubernetes.observation import is_name_of

Object = Mapping[str, Any]
_PRIVILEGE: Final = ("securityContext", "serviceAccountName", "hostNetwork", "hostPID", "hostIPC", "hostUsers")


def pod_findings(subject: Subject, pod: Object, wanted: Object | None) -> Iterator[Finding]:
    """Yield what of a pod is not as its template, None where that is not known any more."""
    group, name, spec = subject.instance, pod["metadata"]["name"], pod.get("spec") or {}
    if pod["metadata"].get("deletionTimestamp") is not None:
        return

    def finding(kind: str, path: str, expected: str, observed: str) -> Finding:
        where = f"{name}: {path}"
        return Finding(instance=group.id, kind=kind, path=where, expected=expected, observed=observed, member=name)

    owners = [one.get("name", "") for one in pod["metadata"].get("ownerReferences") or () if one.get("controller")]
    labels = pod["metadata"].get("labels") or {}
    let_go = TAINTED in labels and POD_TEMPLATE not in labels  # another is made in its place
    if not let_go and not any(is_name_of(str(one), group.id) for one in owners):
        yield finding("object", "its owner", f"the Deployment '{group.id}'", ", ".join(owners) or "nobody")
    for one in spec.get("ephemeralContainers") or ():
        yield finding("process", "ephemeral container", "none", f"'{one.get('name')}' of {one.get('image')}")
    for one in spec.get("initContainers") or ():
        yield finding("process", "init container", "none", f"'{one.get('name')}' of {one.get('image')}")
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        image = str(status.get("imageID") or "").rpartition("@")[2]
        if image and image != subject.release.image:
            yield finding("root", f"the image of '{status.get('name')}'", subject.release.image, image)
    for one in spec.get("containers") or ():
        if not str(one.get("image")).endswith(f"@{subject.release.image}"):
            expected = f"{CONTAINER}@{subject.release.image}"
            yield finding("root", f"the container '{one.get('name')}'", expected, str(one.get("image")))
    if wanted is not None:
        for found in (*differences(wanted["spec"], spec), *added_to_pod(wanted["spec"], spec)):
            kind = "privilege" if any(word in found.path for word in _PRIVILEGE) else "object"
            yield finding(kind, found.path, found.expected, found.observed)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield finding("privilege", field, "False", "True")


def taken_out(group: str, pod: Object) -> Iterator[Finding]:
    """Yield that somebody took a pod out of its group by its label: it runs on, and nobody knows what for."""
    metadata = pod["metadata"]
    labels, name = metadata.get("labels") or {}, str(metadata["name"])
    is_own = name.startswith(f"{group}-") and metadata.get("deletionTimestamp") is None
    if is_own and GROUP not in labels and TAINTED not in labels:
        path = f"{name}: its label {GROUP}"
        yield Finding(instance=group, kind="object", path=path, expected=group, observed="nothing", member=name)


def pod_facts(pod: Object) -> Mapping[str, Any]:
    status = pod.get("status") or {}
    return {
        "pod": pod["metadata"]["name"],
        "node": (pod.get("spec") or {}).get("nodeName"),
        "address": status.get("podIP"),
        "started_at": status.get("startTime"),
        "containers": [
            {key: one.get(key) for key in ("name", "imageID", "containerID", "restartCount")}
            for one in status.get("containerStatuses") or ()
        ],
    }
