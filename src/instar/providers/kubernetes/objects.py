"""The objects of a group, as pure functions: they are made once, and never changed.

An *anchor* (a ConfigMap that says what the group is of) owns all others: with it all go. What it says is what was made.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from instar.model.codec import canonical
from instar.model.definition import Volume
from instar.model.digest import Digest
from instar.model.scaling import Scaling
from instar.providers.kubernetes.kinds import (
    AUTOSCALER,
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POLICY,
    SECRET,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from instar.providers.kubernetes.names import ANCHOR, GROUP, OCCURRENCE, PART, VOLUME, Names, job_name, port_name
from instar.providers.kubernetes.network import network_policy
from instar.providers.kubernetes.pod import Order, processors, template
from instar.providers.kubernetes.settings import SMALLEST_CLAIM

Made = tuple[Kind, Mapping[str, Any]]
PORT: Final = "service"


def group_objects(order: Order, secrets: Mapping[str, bytes]) -> tuple[Made, ...]:
    """Return all objects of a group but its anchor, in the order in which they are made: what runs it comes last."""
    made: list[Made] = []
    if order.config_name is not None:
        made.append((CONFIG_MAP, _config(order, order.config_name)))
    if order.secret_name is not None:
        made.append((SECRET, _secret(order, order.secret_name, secrets)))
    if order.serves:
        made.append((SERVICE, _service(order)))
    if (network := order.own.network) is not None:
        metadata = _metadata(order, order.group.id)
        made.append((POLICY, network_policy(order.names, order.group.id, metadata, network, serves=order.serves)))
    if order.group.task is not None:
        return (*made, (JOB, _job(order)))
    scaling = order.own.scaling
    if order.group.members > 1 or (scaling is not None and scaling.max > 1):
        made.append((BUDGET, _budget(order)))
    if scaling is not None:
        made.append((AUTOSCALER, _autoscaler(order, scaling)))
    return (*made, (DEPLOYMENT, _deployment(order)))


def anchor(order: Order, made: tuple[Made, ...]) -> Mapping[str, Any]:
    """Return the owner of all others: of which release they are, and a digest of each as it was made."""
    release = order.release
    data = {
        "group": order.group.id,
        "release": str(release.number),
        "image": release.image,
        "configuration": release.configuration.digest,
        "members": str(order.group.members),
        **({"task": order.group.task} if order.group.task is not None else {}),
        **{f"made.{kind.name}.{one['metadata']['name']}": digest_of(one) for kind, one in made},
    }
    metadata = _metadata(order, order.group.id, {PART: ANCHOR})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data}


def owned(made: Mapping[str, Any], anchor_name: str, uid: str) -> Mapping[str, Any]:
    """Return an object that goes with its anchor."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": anchor_name, "uid": uid, "blockOwnerDeletion": True}
    return {**made, "metadata": {**made["metadata"], "ownerReferences": [owner]}}


def digest_of(made: Mapping[str, Any]) -> str:
    """Return the digest of an object as it is made: of all that is said of it. Of a Secret it would be a digest of its
    values, which a guess can be held against: only its names count."""
    if made.get("kind") == "Secret":
        made = {**made, "data": sorted(made["data"])}
    return str(Digest.of(canonical(made)))


def claim(names: Names, volume: Volume, storage_class: str | None) -> Mapping[str, Any]:
    """Return what keeps a volume: it outlives every release, and has no owner."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce" if volume.access == "exclusive" else "ReadWriteMany"],
        "resources": {"requests": {"storage": str(volume.size_bytes or SMALLEST_CLAIM)}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    metadata = {"name": names.claim(volume.name), "labels": {**names.all_labels, VOLUME: volume.name}}
    return {"apiVersion": "v1", "kind": VOLUME_CLAIM.name, "metadata": metadata, "spec": spec}


def _metadata(order: Order, name: str, labels: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    return {
        "name": name,
        "labels": {**order.names.of(order.group), **(labels or {})},
        "annotations": dict(order.annotations),
    }


def _config(order: Order, name: str) -> Mapping[str, Any]:
    data = dict(order.release.configuration.variables)
    metadata = _metadata(order, name)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data}


def _secret(order: Order, name: str, secrets: Mapping[str, bytes]) -> Mapping[str, Any]:
    data = {key: base64.b64encode(value).decode() for key, value in secrets.items()}
    metadata = _metadata(order, name)
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": True, "type": "Opaque", "data": data,
    }  # fmt: skip


def _service(order: Order) -> Mapping[str, Any]:
    """Return the Service of one group: a route gives it a weight."""
    service = order.service
    ports = [_port(PORT, service.port or 0, service.protocol)]
    ports += [_port(port_name(name), one.port, one.protocol) for name, one in service.ports.items()]
    spec = {"type": "ClusterIP", "selector": {GROUP: order.group.id}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(order, order.group.id), "spec": spec}


def _port(name: str, number: int, protocol: str) -> Mapping[str, Any]:
    made = {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}
    return {**made, "appProtocol": "kubernetes.io/h2c"} if protocol == "h2" else made


def _budget(order: Order) -> Mapping[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {GROUP: order.group.id}}}
    metadata = _metadata(order, order.group.id)
    return {"apiVersion": BUDGET.api_version, "kind": BUDGET.name, "metadata": metadata, "spec": spec}


def _deployment(order: Order) -> Mapping[str, Any]:
    """Return what runs the pods: how many says an autoscaler, where there is one."""
    health = order.service.health
    spec = {
        **({"replicas": order.group.members} if order.own.scaling is None else {}),
        "selector": {"matchLabels": {GROUP: order.group.id}},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": max(1, health.deadline_ms // 1000),
        "template": template(order),
    }
    metadata = _metadata(order, order.group.id)
    return {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "metadata": metadata, "spec": spec}


def beginning(wanted: Mapping[str, Any], order: Order, serving: int) -> Mapping[str, Any]:
    """Return a Deployment as it is made, with as many pods as its release says, or, where an autoscaler says it, as
    many as the one has that has the traffic now (``serving``): fewer could not take it over."""
    scaling = order.own.scaling
    if scaling is None:
        return wanted
    least = order.group.members
    return {**wanted, "spec": {**wanted["spec"], "replicas": min(max(serving, least), max(scaling.max, least))}}


def _autoscaler(order: Order, scaling: Scaling) -> Mapping[str, Any]:
    """Return what says how many pods there are. At least as many as the group was made with: so many it is to have."""
    least, name = order.group.members, order.group.id
    average = processors(order.service.limits.cpus_milli * scaling.cpu_percent // 100 or 1)
    target = {"type": "AverageValue", "averageValue": average}
    spec = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "name": name},
        "minReplicas": least,
        "maxReplicas": max(scaling.max, least),
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    metadata = _metadata(order, name)
    return {"apiVersion": AUTOSCALER.api_version, "kind": AUTOSCALER.name, "metadata": metadata, "spec": spec}


def _job(order: Order) -> Mapping[str, Any]:
    """Return what runs a task once: what fails is told, and tried again by nobody."""
    spec = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": template(order)}
    metadata = _metadata(order, name := job_name(order.group))
    if name != order.group.id:
        metadata = {**metadata, "annotations": {**metadata["annotations"], OCCURRENCE: order.group.task}}
    return {"apiVersion": JOB.api_version, "kind": JOB.name, "metadata": metadata, "spec": spec}
