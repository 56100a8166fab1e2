"""Whether an object is still as it was made: all that was said of it is so, and nothing was added where it counts.

What a cluster adds by itself (defaults, status, addresses, tolerations) is not a difference. Lists are what was said,
whole: another container, variable, volume or port is one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import Refused
from instar.frozen import dataclass
from instar.providers.kubernetes.kinds import VOLUME_CLAIM, Kind

_ADDED: Final = frozenset({"tolerations", "clusterIPs", "ipFamilies", "topologySpreadConstraints"})
_ENGINE: Final = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver")
_OWN: Final = ("instar",)
_SHOWN: Final = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    path: str
    expected: str
    observed: str


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[Difference]:
    """Yield where ``found`` is not as ``wanted`` says."""
    if wanted == found:  # most of most objects, of which there may be thousands
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for name, value in wanted.items():
            yield from differences(value, found.get(name), f"{path}.{name}" if path else str(name))
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str) and isinstance(found, Sequence):
        if len(wanted) != len(found) and path.rpartition(".")[2] not in _ADDED:
            yield Difference(path=path, expected=f"{len(wanted)} of them", observed=_listed(found))
        for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
    elif wanted != found and not _is_nothing(wanted, found):
        yield Difference(path=path, expected=_shown(wanted), observed=_shown(found))


_BY_DEFAULT: Final = {
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "serviceAccountName": "default",
}
_BY_THE_CLUSTER: Final = frozenset(
    ("nodeName", "serviceAccount", "priority", "priorityClassName", "preemptionPolicy", "tolerations", "overhead")
)
_CONTAINER_DEFAULTS: Final = frozenset(("terminationMessagePath", "resizePolicy"))
_SEEN_APART: Final = frozenset(("ephemeralContainers", "initContainers", "hostNetwork", "hostPID", "hostIPC"))


def added_to_pod(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield what a pod's spec says beyond its template and what the engine and nodes add to each (the names above)."""
    for name, usual in _BY_DEFAULT.items():
        if name not in wanted and found.get(name) not in (None, usual):
            yield Difference(path=name, expected=usual, observed=_shown(found[name]))
    known = {*wanted, *_BY_DEFAULT, *_BY_THE_CLUSTER, *_SEEN_APART}
    yield from _added(found, known, "")
    for number, (one, other) in enumerate(zip(wanted["containers"], found.get("containers") or (), strict=False)):
        yield from _added(other, {*one, *_CONTAINER_DEFAULTS}, f"containers[{number}].")
        context, real = one.get("securityContext") or {}, other.get("securityContext") or {}
        yield from _added(real, set(context), f"containers[{number}].securityContext.")


def _added(found: Mapping[str, Any], known: Collection[str], path: str) -> Iterator[Difference]:
    for name in sorted(found.keys() - set(known)):
        if found[name] not in (None, False, 0, "", [], {}):
            yield Difference(path=f"{path}{name}", expected="nothing", observed=_shown(found[name]))


def require_as_made(kind: Kind, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise Refused for an object of a group that was there before and is not what would have been made: its labels
    say that it is ours, and anybody can write labels. How many pods there are, and what a claim or an anchor says of
    what an older version made, is nobody's lie."""
    if kind == VOLUME_CLAIM:
        return
    metadata, spec, data = (wanted.get(part) or {} for part in ("metadata", "spec", "data"))
    said = {
        "metadata": {"labels": metadata.get("labels") or {}, "ownerReferences": metadata.get("ownerReferences") or []},
        "spec": {name: one for name, one in spec.items() if name != "replicas"},
        "data": {name: one for name, one in data.items() if not name.startswith("made.")},
    }
    differing = list(differences(said, found))
    if not differing and "template" in spec:
        pod = found["spec"]["template"]["spec"]
        differing += added_to_pod(spec["template"]["spec"], pod)
        differing += _added(pod, pod.keys() - _SEEN_APART, "spec.template.spec.")
    if differing:
        name = metadata.get("name")
        raise Refused(
            f"cannot use the {kind.name} '{name}', which was there before: it is not as Instar makes it, in "
            f"'{differing[0].path}'",
            hint=f"it was left as it is; who wrote it: kubectl get {kind.plural} {name} -o yaml --show-managed-fields",
        )


def other_writers(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield who besides Instar and the engine has written to an object: not to its status, or its number of pods."""
    yield from (str(entry.get("manager")) for entry in other_entries(found))


def other_entries(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what an object says of those writers: by whom, when, how, and which fields."""
    for entry in (found.get("metadata") or {}).get("managedFields") or ():
        if entry.get("subresource") is None and str(entry.get("manager")) not in (*_OWN, *_ENGINE):
            yield entry


def added_to_rules(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield what rules of a route do besides sending requests on: another header, a mirror, a rewritten path."""
    rules = [(each.get("spec") or {}).get("rules") or () for each in (wanted, found)]
    for number, (one, other) in enumerate(zip(*rules, strict=False)):
        for key in sorted(other.keys() - one.keys() - {"name", "backendRefs"}):
            yield Difference(path=f"spec.rules[{number}].{key}", expected="nothing", observed=_shown(other[key]))
        for backend in other.get("backendRefs") or ():
            if backend.get("filters"):
                path = f"spec.rules[{number}].backendRefs.filters"
                yield Difference(path=path, expected="nothing", observed=_shown(backend["filters"]))


def _is_nothing(wanted: Any, found: Any) -> bool:
    """An API leaves away what is false, zero or empty by default."""
    return found is None and (wanted is False or wanted == 0 or wanted in ("", [], {}))


def _listed(found: Sequence[Any]) -> str:
    names = [str(one.get("name", one)) if isinstance(one, Mapping) else str(one) for one in found]
    return _shown(f"{len(found)}: {', '.join(names)}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return " ".join((value if isinstance(value, str) else json.dumps(value, default=str)).split())[:_SHOWN]
