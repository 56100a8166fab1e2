"""The agent as a Deployment of its own image: it acts by a service account, and keeps nothing that outlives its pod.

Whatever it needs comes from outside: the ledger's address and the key of its secrets from a Secret, what stands in a
machine's file from a ConfigMap. Of several replicas one leads; the others wait to take its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from instar.providers.kubernetes.kinds import DEPLOYMENT
from instar.providers.kubernetes.names import CONTAINER, MANAGED_BY
from instar.providers.kubernetes.settings import Place

NAME: Final = "instar-agent"
AGENTS: Final = 2  # one leads, the other takes its place
LEDGER_SECRET: Final = "instar-ledger"  # noqa: S105  the name of one
_USER: Final = 10001
_METRICS: Final = 9464
_STATE: Final = "/var/lib/instar"
_HOME: Final = f"{_STATE}/home"  # nobody else may write to it, which an empty folder of a pod's does not say
_MACHINE: Final = "/etc/instar-machine"
_LOGIN: Final = "/etc/instar-login"
_PASSWORD_FILE: Final = f"{_HOME}/ledger.pass"
_PREPARE: Final = """\
import os, pathlib, re

os.umask(0o077)
home = pathlib.Path(os.environ["INSTAR_HOME"])
(home / "secrets").mkdir(parents=True, exist_ok=True)
if key := os.environ.get("SECRETS_KEY", "").strip():
    (home / "secrets/key").write_bytes(bytes.fromhex(key))
if password := os.environ.get("PASSWORD", "").rstrip("\\n"):
    (home / "ledger.pass").write_text("*:*:*:*:" + re.sub(r"([:\\\\])", r"\\\\\\1", password) + "\\n")
machine = pathlib.Path("/etc/instar-machine/config.yaml")
if machine.exists():
    (home / "config.yaml").write_text(machine.read_text())
"""


def deployment(place: Place, image: str, replicas: int, account: str) -> Mapping[str, Any]:
    """Return what runs the agent of ``image`` (by its digest) in the environment's namespace, as ``account``."""
    labels = {"app.kubernetes.io/name": NAME}
    metadata = {"name": NAME, "namespace": place.namespace, "labels": {**labels, MANAGED_BY: "kubectl"}}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _pod(place, image, account, labels)},
    }
    return {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "metadata": metadata, "spec": spec}


def _pod(place: Place, image: str, account: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    volumes: list[Mapping[str, Any]] = [
        {"name": "state", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "machine", "configMap": {"name": NAME, "optional": True}},
    ]
    pod: dict[str, Any] = {"serviceAccountName": account}
    if place.pull_secret is not None:
        pod["imagePullSecrets"] = [{"name": place.pull_secret}]
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "login", "secret": {"secretName": place.pull_secret, "items": items}})
    return {
        **pod,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": [spread],
        "initContainers": [_preparing(image)],
        "containers": [_agent(place, image)],
        "volumes": volumes,
    }


def _preparing(image: str) -> Mapping[str, Any]:
    """Return what puts key, password and machine's file where the agent alone can have written them."""
    told = [("SECRETS_KEY", "key"), ("PASSWORD", "password")]
    given = [{"name": name, "valueFrom": _from_secret(part, optional=True)} for name, part in told]
    return {
        "name": "prepare",
        "image": image,
        "command": ["python", "-c", _PREPARE],
        "env": [{"name": "INSTAR_HOME", "value": _HOME}, *given],
        "securityContext": _CONFINED,
        "resources": _RESOURCES,
        "volumeMounts": [*_MOUNTS, {"name": "machine", "mountPath": _MACHINE, "readOnly": True}],
    }


def _agent(place: Place, image: str) -> Mapping[str, Any]:
    alive = {"httpGet": {"path": "/healthz", "port": _METRICS}, "periodSeconds": 10, "failureThreshold": 6}
    login = [{"name": "login", "mountPath": _LOGIN, "readOnly": True}] if place.pull_secret is not None else []
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-m", "instar", "agent", "--metrics", f"0.0.0.0:{_METRICS}"],
        "env": [
            {"name": "INSTAR_HOME", "value": _HOME},
            {"name": "HOME", "value": _HOME},
            {"name": "INSTAR_LEDGER", "valueFrom": _from_secret("address")},
            {"name": "PGPASSFILE", "value": _PASSWORD_FILE},
            *([{"name": "DOCKER_CONFIG", "value": _LOGIN}] if login else []),
        ],
        "ports": [{"name": "metrics", "containerPort": _METRICS}],
        "securityContext": _CONFINED,
        "resources": _RESOURCES,
        "startupProbe": {**alive, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": alive,
        "volumeMounts": [*_MOUNTS, *login],
    }


def _from_secret(key: str, *, optional: bool = False) -> Mapping[str, Any]:
    return {"secretKeyRef": {"name": LEDGER_SECRET, "key": key, **({"optional": True} if optional else {})}}


_CONFINED: Final[Mapping[str, Any]] = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
_RESOURCES: Final[Mapping[str, Any]] = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"memory": "384Mi"},
}
_MOUNTS: Final = ({"name": "state", "mountPath": _STATE}, {"name": "tmp", "mountPath": "/tmp"})  # noqa: S108  the pod's
