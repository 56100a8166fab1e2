"""What of an environment's section its pods are made of: part of a release, and as unchanged as the release is.

It is kept in the release's configuration without what is as it is by default, so that a key that is new makes no new
release of a definition that does not use it. What a default means must therefore never change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.definition.cluster_forms import CONFINING, OBJECT_NAME, OWN
from instar.frozen import dataclass
from instar.model.codec import to_json
from instar.model.environment import Settings
from instar.model.release import Release
from instar.model.scaling import Scaling
from instar.providers.kubernetes.network import ReleaseNetwork, release_network
from instar.providers.kubernetes.settings import (
    PRE_STOP_MS,
    KubernetesSettings,
    RequestSettings,
    SpreadSettings,
    TolerationSettings,
    checked,
    checked_number,
    checked_optional,
    checked_section,
    unfit,
)

_WORD: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY: Final = rf"([a-z0-9.-]{{1,253}}/)?{_WORD}"
_LABELLED: Final = rf"{_KEY}=({_WORD})?"
_OF_PODS: Final = (
    "pull_secret",
    "node_selector",
    "tolerations",
    "annotations",
    "spread",
    "requests",
    "user_namespaces",
    "pre_stop_ms",
)
_MOST: Final = 100
_BY_ROLE: Final = "role_scaling"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodSettings:
    """Each value is of a form that it may have."""

    pull_secret: str | None = None
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[TolerationSettings, ...] = ()
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spread: tuple[SpreadSettings, ...] = ()
    requests: RequestSettings = RequestSettings()
    user_namespaces: bool = False
    pre_stop_ms: int = PRE_STOP_MS
    network: ReleaseNetwork | None = None
    scaling: Scaling | None = None

    @classmethod
    def of(cls, release: Release) -> PodSettings:
        """Return those of a release. Raises Refused for what no definition could have said."""
        found = release.configuration.provider_settings
        requests = _section(found.get("requests") or {}, "requests")
        return cls(
            pull_secret=checked_optional(found.get("pull_secret"), "pull_secret", OBJECT_NAME),
            node_selector=dict(
                checked(one, "node_selector", _LABELLED).split("=", 1) for one in _listed(found, "node_selector")
            ),
            tolerations=tuple(_toleration(one) for one in _listed(found, "tolerations")),
            annotations=_annotations(found.get("annotations") or {}),
            spread=tuple(_spread(one) for one in _listed(found, "spread")),
            requests=RequestSettings(
                cpus_milli=checked_number(requests.get("cpus_milli"), "requests.cpus"),
                memory_bytes=checked_number(requests.get("memory_bytes"), "requests.memory"),
            ),
            user_namespaces=found.get("user_namespaces") is True,
            pre_stop_ms=checked_number(found.get("pre_stop_ms", PRE_STOP_MS), "pre_stop") or 0,
            network=ReleaseNetwork.of(release),
            scaling=_scaling(_of_roles(found).get(release.role) or found.get("scaling")),
        )


def release_settings(settings: Settings) -> Mapping[str, Any]:
    """Return what a release keeps of an environment's settings: what is not as it is by default."""
    usual = to_json(KubernetesSettings(registry="", namespace=""))
    found = settings.provider_settings
    own = {name: found[name] for name in _OF_PODS if name in found and found[name] != usual[name]}
    by_role = {name: to_json(one.scaling) for name, one in settings.roles.items() if one.scaling is not None}
    more = {"network": release_network(settings), "scaling": to_json(settings.scaling), _BY_ROLE: by_role or None}
    return {**own, **{name: one for name, one in more.items() if one is not None}}


def _toleration(one: Any) -> TolerationSettings:
    found = _section(one, "tolerations")
    effect = found.get("effect")
    if effect is not None and effect not in _EFFECTS:
        raise unfit("tolerations.effect", effect)
    return TolerationSettings(
        taint_key=checked_optional(found.get("taint_key"), "tolerations.key", _KEY),
        value=checked_optional(found.get("value"), "tolerations.value", rf"({_WORD})?"),
        effect=effect,
        stay_ms=checked_number(found.get("stay_ms"), "tolerations.stay"),
    )


def _spread(one: Any) -> SpreadSettings:
    found = _section(one, "spread")
    return SpreadSettings(
        label=checked(found.get("label"), "spread.label", _KEY),
        skew=max(1, checked_number(found.get("skew", 1), "spread.skew") or 1),
        required=found.get("required") is True,
    )


def _scaling(found: Any) -> Scaling | None:
    made = checked_section(Scaling, found, "scaling")
    if made is not None and not (1 <= made.min <= made.max <= _MOST and 1 <= made.cpu_percent <= _MOST):
        raise unfit("scaling", found)
    return made


def _of_roles(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return _section(found.get(_BY_ROLE) or {}, "scaling")


def _annotations(found: Any) -> Mapping[str, str]:
    for name, value in _section(found, "annotations").items():
        checked(name, "annotations", _KEY)
        if not isinstance(value, str) or name.startswith((OWN, *CONFINING)):
            raise unfit(f"annotations.{name}", value)
    return dict(found)


def _listed(found: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = found.get(key) or []
    if not isinstance(value, list | tuple):
        raise unfit(key, value)
    return value


def _section(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise unfit(key, value)
    return value
