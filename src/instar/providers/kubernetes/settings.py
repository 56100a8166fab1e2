"""The section ``kubernetes`` of an environment, and what of it an environment's objects follow from.

What is in the ledger may have been written by somebody else, or by another version: it is looked at again here before
it becomes part of a path or an object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final, Literal, TypeVar

from instar.definition.cluster_forms import BY_DIGEST, CONTEXT, NAMESPACE, OBJECT_NAME, PROMETHEUS
from instar.errors import Refused
from instar.frozen import dataclass
from instar.model.codec import from_json
from instar.model.declaration import key
from instar.model.environment import Settings
from instar.model.reference import Repository, repository

T = TypeVar("T")
PRE_STOP_MS: Final = 5_000
LABEL: Final = NAMESPACE  # of a host's name, which a group's is too
SMALLEST_CLAIM: Final = 1 << 30  # bytes, of a volume of which no size is said
_EVIDENCE_MS: Final = 3_600_000

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """The Gateway (gateway.networking.k8s.io) that requests come in by."""

    name: str = field(metadata=key("The name of the Gateway.", "namespace"))
    namespace: str | None = field(default=None, metadata=key("The namespace that it is in.", "namespace",
        default_about="the environment's own"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSettings:
    """What the scheduler keeps free for an instance."""

    cpus_milli: int | None = field(default=None, metadata=key("Processors, at most `service.limits.cpus`.", low=1,
        high=1_024_000, default_about="a tenth of `service.limits.cpus`"))
    memory_bytes: int | None = field(default=None, metadata=key("Memory, at most `service.limits.memory`.",
        low=1 << 20, default_about="all of `service.limits.memory`"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TolerationSettings:
    """A taint of nodes that instances may be placed in spite of."""

    taint_key: str | None = field(default=None, metadata=key("The key of the taint.", "label of a node", name="key",
        default_about="any taint"))
    value: str | None = field(default=None, metadata=key("The value of the taint.", "value of a label",
        default_about="any value"))
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = field(default=None, metadata=key(
        "The effect of the taint.", default_about="any effect"))
    stay_ms: int | None = field(default=None, metadata=key(
        "How long an instance stays on a node that gets a taint of `NoExecute`, in whole seconds.", low=1_000,
        default_about="for good"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SpreadSettings:
    """Over which nodes the instances of a release are spread."""

    label: str = field(metadata=key(
        "Nodes with the same value of this label count as one, such as `topology.kubernetes.io/zone`.",
        "label of a node"))
    skew: int = field(default=1, metadata=key("How many more may be in one than in another.", low=1, high=100))
    required: bool = field(default=False, metadata=key(
        "Whether an instance that would be one too many is rather not placed at all."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Prometheus:
    """Who is asked for figures of requests, and for which: templates with `$namespace`, `$group` and `$port`."""

    url: str = field(metadata=key("Where Prometheus, or what speaks as it does, is asked.", "Prometheus"))
    requests: str | None = field(default=None, metadata=key(
        "A query for how many requests a group has answered, a counter: `$group` is its Service, in `$namespace`, at "
        "`$port`.", "query", default_about="Envoy's figure, as Contour names it"))
    failed: str | None = field(default=None, metadata=key("A query for how many of them failed, likewise.", "query",
        default_about="Envoy's answers of 5xx"))
    response_ms: str | None = field(default=None, metadata=key(
        "A query for how long all of them took together, in milliseconds, likewise.", "query", name="response_ms",
        default_about="Envoy's figure"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceService:
    """What answers in the place of an environment's instances while they are worked on."""

    service: str = field(metadata=key("The name of a Service of that namespace.", "namespace"))
    port: int = field(default=80, metadata=key("Its port.", low=1, high=65_535))


@dataclass(frozen=True, kw_only=True, slots=True)
class KubernetesSettings:
    """Where an environment is in a cluster."""

    registry: str = field(metadata=key(
        "The repository that images are pushed to, by digest, and that the cluster's nodes pull them from.",
        "repository"))
    namespace: str = field(metadata=key("The namespace that all objects are in. It has to be there.", "namespace"))
    context: str | None = field(default=None, metadata=key(
        "The context of the kubeconfig (`KUBECONFIG`, else `~/.kube/config`).", "context",
        default_about="inside a cluster that one, by its service account; else the kubeconfig's current context"))
    gateway: GatewaySettings | None = field(default=None, metadata=key(
        "The Gateway that requests come in by.", default_about="none: a Service that is reached in the cluster alone"))
    inside: bool = field(default=False, metadata=key(
        "Whether there is a Service beside the Gateway's routes too, for each role with a door, by which other "
        "environments find this one (`uses`): it leads to the release that has the traffic.",
        default_about="without a gateway there always is"))
    prometheus: Prometheus | None = field(default=None, metadata=key(
        "Who is asked for figures of requests by `rollout.analysis`.", default_about="nobody: its checks alone count"))
    maintenance: MaintenanceService | None = field(default=None, metadata=key(
        "The Service that `instar maintenance ENV on` sends requests to.",
        default_about="none: a gateway has no page of its own"))
    senders: tuple[str, ...] = field(default=(), metadata=key(
        "Who may send requests to pods that `network.allow` is said of, besides pods of the gateway's namespace and "
        "environments that name this one there: namespaces (of the gateway's own pods, if that is another one), and "
        "networks (the API server's, which smoke checks ask by). Part of a release.", "sender", unique=True,
        expected="a list of namespaces and networks, such as [envoy-system, 10.0.0.0/24]"))
    pull_secret: str | None = field(default=None, metadata=key(
        "The Secret of that namespace by which nodes pull images. Part of a release.", "object's name",
        default_about="none"))
    node_selector: tuple[str, ...] = field(default=(), metadata=key(
        "Labels that a node has to have. Part of a release, as all that its pods are made of.", "labelled", unique=True,
        expected="a list of labels, such as [disk=ssd]"))
    tolerations: tuple[TolerationSettings, ...] = field(default=(), metadata=key(
        "Taints of nodes that instances may be placed in spite of. Part of a release."))
    annotations: Mapping[str, str] = field(default_factory=dict, metadata=key(
        "Annotations of the pods. Part of a release.", "plain value", names="annotation",
        expected="a section of names and values, such as {prometheus.io/scrape: 'true'}"))
    spread: tuple[SpreadSettings, ...] = field(default=(), metadata=key(
        "Over which nodes instances are spread. Part of a release.", default_about="over nodes, as far as it can be"))
    requests: RequestSettings = field(default=RequestSettings(), metadata=key(
        "What the scheduler keeps free for each instance. Part of a release."))
    user_namespaces: bool = field(default=False, metadata=key(
        "Whether instances have a user namespace of their own (`hostUsers: false`); nodes have to be able to. Part of "
        "a release."))
    storage_class: str | None = field(default=None, metadata=key(
        "The storage class of the service's volumes. One that is there keeps the class that it was made with.",
        "object's name",
        default_about="the cluster's default one"))
    pre_stop_ms: int = field(default=PRE_STOP_MS, metadata=key(
        "How long an instance that is told to end by the cluster answers on, until nobody sends it requests any more. "
        "Part of a release.", low=0, high=120_000))
    toolbox: str | None = field(default=None, metadata=key(
        "An image with a shell, by its digest: what `instar shell --toolbox` opens beside an instance without one, and "
        "`instar run --toolbox` waits by.",
        "image by its digest", default_about="none"))
    evidence_ms: int = field(default=_EVIDENCE_MS, metadata=key(
        "How long a pod that was tainted is kept as evidence once another serves in its place.",
        low=0, high=30 * 86_400_000))


# fmt: on


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an environment's objects are, as its settings have it, each value of a form that it may have."""

    registry: Repository
    namespace: str
    context: str | None
    gateway: tuple[str, str] | None  # namespace, name
    inside: bool  # there is a Service of each role beside its routes: behind a gateway only
    pull_secret: str | None  # of the next release
    storage_class: str | None
    evidence_ms: int
    toolbox: str | None
    prometheus: Prometheus | None
    maintenance: tuple[str, int] | None  # the name of a Service, and its port

    @property
    def cluster(self) -> tuple[str | None, str]:
        """Which cluster and namespace it is: what an environment keeps from its first deploy to its end."""
        return self.context, self.namespace

    @property
    def has_services(self) -> bool:
        """Whether it is found in its cluster by name: without a gateway it always is."""
        return self.gateway is None or self.inside

    def keeping(self, left: Settings | None) -> Place:
        """Return it with the Services beside routes that a rollout takes away, which stay until the traffic moved."""
        return self if left is None else replace(self, inside=self.gateway is not None and Place.of(left).inside)

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Raises Refused for what no definition could have said."""
        found = settings.provider_settings
        gateway, evidence_ms = found.get("gateway"), checked_number(found.get("evidence_ms"), "evidence")
        namespace = _name(found.get("namespace"), "namespace")
        return cls(
            registry=_repository(found.get("registry")),
            namespace=namespace,
            context=checked_optional(found.get("context"), "context", CONTEXT),
            gateway=None
            if gateway is None
            else (
                _name(gateway.get("namespace") or namespace, "gateway.namespace"),
                _name(gateway.get("name"), "gateway.name"),
            ),
            inside=gateway is not None
            and (found.get("inside") is True or settings.internal or bool(settings.internal_roles)),
            pull_secret=checked_optional(found.get("pull_secret"), "pull_secret", OBJECT_NAME),
            storage_class=checked_optional(found.get("storage_class"), "storage_class", OBJECT_NAME),
            toolbox=checked_optional(found.get("toolbox"), "toolbox", BY_DIGEST),
            evidence_ms=_EVIDENCE_MS if evidence_ms is None else evidence_ms,
            prometheus=_prometheus(found.get("prometheus")),
            maintenance=_maintenance(found.get("maintenance")),
        )


def unfit(key: str, value: object) -> Refused:
    """Return the error of a value that no definition could have said."""
    return Refused(
        f"cannot use the environment's settings: kubernetes.{key} is {str(value)[:80]!r}",
        hint="write it as docs/kubernetes.md says, and deploy again",
    )


def checked(value: object, key: str, form: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise unfit(key, value)
    return value


def _name(value: object, key: str) -> str:
    return checked(value, key, LABEL)


def checked_optional(value: object, key: str, form: str) -> str | None:
    return None if value is None else checked(value, key, form)


def checked_number(value: Any, key: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise unfit(key, value)
    return value


def checked_section(kind: type[T], found: object, key: str) -> T | None:
    """Return a section as what its dataclass is, None where there is none. What its values may be is not looked at."""
    try:
        return None if found is None else from_json(kind, found)
    except ValueError:
        raise unfit(key, found) from None


def _prometheus(found: object) -> Prometheus | None:
    made = checked_section(Prometheus, found, "prometheus")
    if made is None:
        return None
    checked(made.url, "prometheus.url", PROMETHEUS)
    return made


def _maintenance(found: object) -> tuple[str, int] | None:
    made = checked_section(MaintenanceService, found, "maintenance")
    if made is None:
        return None
    if not 0 < made.port < 1 << 16:
        raise unfit("maintenance.port", made.port)
    return _name(made.service, "maintenance.service"), made.port


def _repository(value: object) -> Repository:
    try:
        return repository(value) if isinstance(value, str) else repository("")
    except ValueError:
        raise unfit("registry", value) from None
