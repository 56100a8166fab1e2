"""The section ``kubernetes`` of an environment, and what of it an environment's objects follow from.

What is in the ledger may have been written by somebody else, or by another version: it is looked at again here before
it becomes part of a path or an object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from instar.errors import Refused
from instar.frozen import dataclass
from instar.model.declaration import key
from instar.model.environment import Settings
from instar.model.reference import Repository, repository

LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_WORD: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABELLED: Final = rf"([a-z0-9.-]{{1,253}}/)?{_WORD}=({_WORD})?"
_CONTEXT: Final = r"[^\s\x00-\x1f\x7f]{1,253}"

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """The Gateway (gateway.networking.k8s.io) that requests come in by."""

    name: str = field(metadata=key("The name of the Gateway.", "word"))
    namespace: str | None = field(default=None, metadata=key("The namespace that it is in.", "word",
        default_about="the environment's own"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSettings:
    """What the scheduler keeps free for an instance."""

    cpus_milli: int | None = field(default=None, metadata=key("Processors, at most `service.limits.cpus`.", low=1,
        high=1_024_000, default_about="a tenth of `service.limits.cpus`"))
    memory_bytes: int | None = field(default=None, metadata=key("Memory, at most `service.limits.memory`.",
        low=1 << 20, default_about="all of `service.limits.memory`"))


@dataclass(frozen=True, kw_only=True, slots=True)
class KubernetesSettings:
    """Where an environment is in a cluster."""

    registry: str = field(metadata=key(
        "The repository that images are pushed to, by digest, and that the cluster's nodes pull them from.",
        "repository"))
    namespace: str = field(metadata=key("The namespace that all objects are in. It has to be there.", "word"))
    context: str | None = field(default=None, metadata=key(
        "The context of the kubeconfig (`KUBECONFIG`, else `~/.kube/config`).", "text",
        default_about="inside a cluster that one, by its service account; else the kubeconfig's current context"))
    gateway: GatewaySettings | None = field(default=None, metadata=key(
        "The Gateway that requests come in by.", default_about="none: a Service that is reached in the cluster alone"))
    pull_secret: str | None = field(default=None, metadata=key(
        "The Secret of that namespace by which nodes pull images.", "word", default_about="none"))
    node_selector: tuple[str, ...] = field(default=(), metadata=key(
        "Labels that a node has to have.", "text", unique=True, expected="a list of labels, such as [disk=ssd]"))
    requests: RequestSettings = field(default=RequestSettings(), metadata=key(
        "What the scheduler keeps free for each instance."))
    user_namespaces: bool = field(default=False, metadata=key(
        "Whether instances have a user namespace of their own (`hostUsers: false`); nodes have to be able to."))
    storage_class: str | None = field(default=None, metadata=key(
        "The storage class of the service's volumes.", "word", default_about="the cluster's default one"))
    pre_stop_ms: int = field(default=5_000, metadata=key(
        "How long an instance that is told to end by the cluster answers on, until nobody sends it requests any more.",
        low=0, high=120_000))


# fmt: on


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an environment's objects are, as its settings have it, each value of a form that it may have."""

    registry: Repository
    namespace: str
    context: str | None
    gateway: tuple[str, str] | None  # namespace, name
    pull_secret: str | None
    node_selector: Mapping[str, str]
    request_cpus_milli: int | None
    request_memory_bytes: int | None
    user_namespaces: bool
    storage_class: str | None
    pre_stop_ms: int

    @property
    def cluster(self) -> tuple[str | None, str]:
        """Which cluster and namespace it is: what an environment keeps from its first deploy to its end."""
        return self.context, self.namespace

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Raises Refused for what no definition could have said."""
        found = settings.provider_settings
        gateway, requests = found.get("gateway"), found.get("requests") or {}
        namespace = _name(found.get("namespace"), "namespace")
        return cls(
            registry=_repository(found.get("registry")),
            namespace=namespace,
            context=_optional(found.get("context"), "context", _CONTEXT),
            gateway=None
            if gateway is None
            else (
                _name(gateway.get("namespace") or namespace, "gateway.namespace"),
                _name(gateway.get("name"), "gateway.name"),
            ),
            pull_secret=_optional(found.get("pull_secret"), "pull_secret", rf"{LABEL}(\.{LABEL})*"),
            node_selector=_labels(found.get("node_selector") or ()),
            request_cpus_milli=_number(requests.get("cpus_milli"), "requests.cpus"),
            request_memory_bytes=_number(requests.get("memory_bytes"), "requests.memory"),
            user_namespaces=found.get("user_namespaces") is True,
            storage_class=_optional(found.get("storage_class"), "storage_class", rf"{LABEL}(\.{LABEL})*"),
            pre_stop_ms=_number(found.get("pre_stop_ms", 5_000), "pre_stop") or 0,
        )


def _unfit(key: str, value: object) -> Refused:
    return Refused(
        f"cannot use the environment's settings: kubernetes.{key} is {str(value)[:80]!r}",
        hint="write it as docs/kubernetes.md says, and deploy again",
    )


def _text(value: object, key: str, form: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise _unfit(key, value)
    return value


def _name(value: object, key: str) -> str:
    return _text(value, key, LABEL)


def _optional(value: object, key: str, form: str) -> str | None:
    return None if value is None else _text(value, key, form)


def _number(value: Any, key: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise _unfit(key, value)
    return value


def _labels(value: Any) -> Mapping[str, str]:
    """Return labels by name, as ``[disk=ssd]`` has them."""
    return dict(_text(one, "node_selector", _LABELLED).split("=", 1) for one in value)


def _repository(value: object) -> Repository:
    try:
        return repository(value) if isinstance(value, str) else repository("")
    except ValueError:
        raise _unfit("registry", value) from None
