"""What an instance is as a pod: the image by its digest, read-only, as no root, with what the service asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from instar.errors import ProviderError, Refused
from instar.frozen import dataclass
from instar.model.definition import Health, Service, Volume
from instar.model.image import Image
from instar.model.reference import Reference
from instar.model.release import Instance, Release
from instar.providers.commands import command_of, volumes_of
from instar.providers.kubernetes.names import CONFIGURATION, CONTAINER, GROUP, IMAGE, Names, port_name
from instar.providers.kubernetes.network import network_labels
from instar.providers.kubernetes.pod_settings import PodSettings
from instar.providers.kubernetes.settings import Place, SpreadSettings, TolerationSettings
from instar.providers.kubernetes.stop_signal import USUAL, with_signal

_RUN_BYTES: Final = 16 << 20
SHELL: Final = "/bin/sh"
TOOLBOX: Final = "/run/instar-toolbox"
SECRETS: Final = "/run/secrets"
ARCHITECTURE: Final = "kubernetes.io/arch"
_OVER_NODES: Final = SpreadSettings(label="kubernetes.io/hostname")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """All that a group's objects are made from. ``claims``: the claim that each volume has which is there."""

    names: Names
    group: Instance
    release: Release
    image: Image
    place: Place
    claims: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        return self.release.service

    @property
    def own(self) -> PodSettings:
        return PodSettings.of(self.release)

    @property
    def serves(self) -> bool:
        """Requests can get to it."""
        return self.group.task is None and self.service.port is not None

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return volumes_of(self.group, self.release)

    @property
    def config_name(self) -> str | None:
        return f"{self.group.id}-config" if self.release.configuration.variables else None

    @property
    def secret_name(self) -> str | None:
        return f"{self.group.id}-secrets" if self.release.configuration.secrets else None

    @property
    def annotations(self) -> Mapping[str, str]:
        return {IMAGE: self.release.image, CONFIGURATION: self.release.configuration.digest}


def shell_of(group: Instance) -> str:
    """Return the shell of an instance in which a command is begun: its image's, or a toolbox's that is shown to it."""
    return f"{TOOLBOX}{SHELL}" if _has_toolbox(group) else SHELL


def _has_toolbox(group: Instance) -> bool:
    return group.command is not None and group.command.toolbox


def template(order: Order) -> Mapping[str, Any]:
    """Return a pod's metadata and spec."""
    own, tasked = order.own, order.group.task is not None
    uid, gid = _user(order)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never" if tasked else "Always",
        "terminationGracePeriodSeconds": _grace_s(order),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "fsGroup": gid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {ARCHITECTURE: order.image.config.architecture, **own.node_selector},
        "containers": [_container(order)],
        "volumes": _volumes(order),
    }
    if _signal(order) != USUAL:
        spec["os"] = {"name": "linux"}  # without which no signal can be said
    if own.user_namespaces:
        spec["hostUsers"] = False
    if own.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": own.pull_secret}]
    if own.tolerations:
        spec["tolerations"] = [_toleration(one) for one in own.tolerations]
    if not tasked:
        spec["topologySpreadConstraints"] = [_spread(order, one) for one in own.spread or (_OVER_NODES,)]
    labels = {**order.names.of(order.group), **network_labels(own.network, order.group.id, order.names.ledger)}
    metadata = {"labels": labels, "annotations": {**own.annotations, **order.annotations}}
    return {"metadata": metadata, "spec": spec}


def _container(order: Order) -> Mapping[str, Any]:
    service, release = order.service, order.release
    made: dict[str, Any] = {
        "name": CONTAINER,
        "image": str(Reference(repository=order.place.registry, digest=release.image)),
        "imagePullPolicy": "IfNotPresent",
        "command": _command(order),
        "workingDir": service.workdir,
        "env": _variables(order),
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"], **_added_capabilities(service)},
        },
        "resources": _resources(order),
        "volumeMounts": _mounts(order),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if order.group.attended:
        made |= {"stdin": True}  # from which nothing ever comes
    if order.config_name is not None:
        made["envFrom"] = [{"configMapRef": {"name": order.config_name}}]
    if order.group.task is None:
        made |= _probes(service.health, service.port)
    lifecycle: dict[str, Any] = {}
    if order.serves:
        ports = {CONTAINER: service.port, **{port_name(name): one.port for name, one in service.ports.items()}}
        made["ports"] = [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()]
        if _pre_stop_s(order):
            lifecycle = {"preStop": {"sleep": {"seconds": _pre_stop_s(order)}}}
    if ends := with_signal(lifecycle, _signal(order)):
        made["lifecycle"] = ends
    return made


def _command(order: Order) -> list[str]:
    """Return what the pod's first process is: of one in which a command is begun later, a shell, which waits."""
    if order.group.attended:
        return [shell_of(order.group), "-c", "read -r _"]
    return list(command_of(order.group, order.release))


def _variables(order: Order) -> list[Mapping[str, Any]]:
    environment, service = order.release.environment, order.service
    port = {} if service.port is None else {"PORT": str(service.port)}
    port |= {f"PORT_{name.upper().replace('-', '_')}": str(one.port) for name, one in service.ports.items()}
    own = {
        "INSTAR_SERVICE": environment.service,
        "INSTAR_ENVIRONMENT": environment.name,
        "INSTAR_RELEASE": str(order.release.number),
        **({"INSTAR_ROLE": order.group.role} if order.group.role else {}),
    }
    home = {} if "HOME" in order.image.config.env else {"HOME": "/tmp"}  # noqa: S108  all that may be written to
    config = order.release.configuration.variables
    secret = order.release.configuration.secrets_as_variables
    plain = {name: text for name, text in {**home, **port}.items() if name not in config and name not in secret}
    pod = {"name": "INSTAR_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    keys = ({"name": name, "valueFrom": {"secretKeyRef": {"name": order.secret_name, "key": name}}} for name in secret)
    return [*({"name": name, "value": text} for name, text in {**plain, **own}.items()), *keys, pod]


def _probes(health: Health, port: int | None) -> Mapping[str, Any]:
    """Return how the engine knows that a pod is well: at its start, for its traffic, and when it hangs for good."""
    question = _question(health, port)
    if question is None:
        return {}
    period = _seconds(health.interval_ms)
    often = {**question, "periodSeconds": period, "timeoutSeconds": _seconds(health.timeout_ms)}
    patience = max(3, math.ceil(health.deadline_ms / 1000 / period))
    return {
        "startupProbe": {**often, "failureThreshold": patience},
        "readinessProbe": {**often, "failureThreshold": 3},
        "livenessProbe": {**often, "failureThreshold": patience},
    }


def _question(health: Health, port: int | None) -> Mapping[str, Any] | None:
    match health.kind:
        case "http":
            host = {"name": "Host", "value": health.host}
            return {"httpGet": {"path": health.path or "/", "port": port, "httpHeaders": [host]}}
        case "tcp":
            return {"tcpSocket": {"port": port}}
        case "command":
            return {"exec": {"command": list(health.command or ())}}
        case _:
            return None


def _resources(order: Order) -> Mapping[str, Any]:
    limits, requests = order.service.limits, order.own.requests
    cpus = min(requests.cpus_milli or max(1, limits.cpus_milli // 10), limits.cpus_milli)
    memory = min(requests.memory_bytes or limits.memory_bytes, limits.memory_bytes)
    return {
        "limits": {"cpu": processors(limits.cpus_milli), "memory": str(limits.memory_bytes)},
        "requests": {"cpu": processors(cpus), "memory": str(memory)},
    }


def processors(milli: int) -> str:
    """Return a number of processors as the API gives it back: in its shortest form."""
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _volumes(order: Order) -> list[Mapping[str, Any]]:
    service = order.service
    memory = {"tmp": service.tmp.size_bytes, "run": _RUN_BYTES, "shm": service.shm_bytes}
    made: list[Mapping[str, Any]] = [
        {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}} for name, size in memory.items()
    ]
    if order.secret_name is not None:
        made.append({"name": "secrets", "secret": {"secretName": order.secret_name, "defaultMode": 0o440}})
    for volume in order.volumes:
        claim = {"claimName": order.claims.get(volume.name) or order.names.claim(volume.name)}
        made.append({"name": f"volume-{volume.name}", "persistentVolumeClaim": claim})
    if _has_toolbox(order.group):
        if order.place.toolbox is None:
            raise Refused(
                f"cannot run a command in '{order.group.id}' with a toolbox: there is no image for one",
                hint="name one with a static shell by its digest: kubernetes.toolbox, and deploy; or leave it away",
            )
        made.append({"name": "toolbox", "image": {"reference": order.place.toolbox, "pullPolicy": "IfNotPresent"}})
    return made


def _mounts(order: Order) -> list[Mapping[str, Any]]:
    paths = {"tmp": "/tmp", "run": "/run", "shm": "/dev/shm"}  # noqa: S108  where they are inside
    made: list[Mapping[str, Any]] = [{"name": name, "mountPath": path} for name, path in paths.items()]
    if order.secret_name is not None:
        made.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    if _has_toolbox(order.group):
        made.append({"name": "toolbox", "mountPath": TOOLBOX, "readOnly": True})
    return [*made, *({"name": f"volume-{one.name}", "mountPath": one.path} for one in order.volumes)]


def _spread(order: Order, over: SpreadSettings) -> Mapping[str, Any]:
    return {
        "maxSkew": over.skew,
        "topologyKey": over.label,
        "whenUnsatisfiable": "DoNotSchedule" if over.required else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {GROUP: order.group.id}},
    }


def _toleration(one: TolerationSettings) -> Mapping[str, Any]:
    """Return a toleration as the API has it: without a value it is of any."""
    made: dict[str, Any] = {"operator": "Exists" if one.value is None else "Equal"}
    said = {"key": one.taint_key, "value": one.value, "effect": one.effect}
    made |= {name: text for name, text in said.items() if text is not None}
    return made if one.stay_ms is None else {**made, "tolerationSeconds": _seconds(one.stay_ms)}


def _added_capabilities(service: Service) -> Mapping[str, Any]:
    added = [name.upper().removeprefix("CAP_") for name in service.capabilities]
    return {"add": added} if added else {}


def _user(order: Order) -> tuple[int, int]:
    uid, _, gid = order.image.config.user.partition(":")
    try:
        numbers = int(uid), int(gid or uid)
    except ValueError:
        raise ProviderError(f"the image's user '{order.image.config.user}' is not a pair of numbers") from None
    if 0 in numbers:
        raise ProviderError("the image's user is root", hint="name another in the definition: image.user")
    return numbers


def _grace_s(order: Order) -> int:
    """Return how long it may take to end: of one whose first process only waits, no longer than it has to."""
    return 1 if order.group.attended else _seconds(order.service.stop.grace_ms) + _pre_stop_s(order)


def _signal(order: Order) -> str:
    """Return what tells it to end: one whose first process only waits has nothing to do at its end."""
    return USUAL if order.group.attended else order.service.stop.signal


def _pre_stop_s(order: Order) -> int:
    return _seconds(order.own.pre_stop_ms) if order.serves and order.own.pre_stop_ms else 0


def _seconds(milliseconds: int) -> int:
    """Return whole seconds, at least one: what an engine counts in."""
    return max(1, math.ceil(milliseconds / 1000))
