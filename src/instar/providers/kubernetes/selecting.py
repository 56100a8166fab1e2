"""Without a Gateway: the environment's Service, reached in the cluster alone, selects the pods of one group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.errors import Refused, RouterError, RouterUnreachable
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.names import EXPOSED, GROUP, PLAN, Names
from instar.providers.kubernetes.objects import PORT
from instar.providers.kubernetes.settings import Place

_NOBODY: Final = "nobody"  # no group is called so: an id ends with two numbers
_SHOWN_PORT: Final = 80


def selecting_service(door: Door, names: Names) -> Mapping[str, Any]:
    """Return the Service that ``door`` is. Raises RouterError where several groups are to share its requests."""
    chosen = list(door.weights)
    if len(chosen) > 1:
        raise RouterError(
            f"cannot share the requests of '{names.environment}' between {', '.join(sorted(chosen))}: a Service "
            "selects one of them",
            hint="name a Gateway in kubernetes.gateway, or roll out by 'strategy: blue-green'",
        )
    exposed = {name: one.port for name, one in sorted(door.backends.items())}
    metadata: dict[str, Any] = {
        "name": names.route,
        "labels": dict(names.all_labels),
        "annotations": {PLAN: door.plan or "", EXPOSED: json.dumps(exposed)},
    }
    if door.version is not None:
        metadata["resourceVersion"] = door.version
    port = {"name": PORT, "port": _SHOWN_PORT, "targetPort": PORT, "protocol": "TCP"}
    selector = {GROUP: chosen[0] if chosen else _NOBODY}
    return {"metadata": metadata, "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]}}


def address_inside(own: Settings, environment: EnvironmentId, settings: Settings) -> str:
    """Return the name and port of the Service of ``environment``, as pods of an environment that is set as ``own`` find
    it. Raises Refused where they do not."""
    place = Place.of(settings)
    if place.gateway is not None:
        raise Refused(
            f"cannot find '{environment}' by name: it is behind a gateway, and no one Service leads to all of it",
            hint="use a name of its 'listen', and say it in 'config'; or leave 'kubernetes.gateway' away there",
        )
    if place.context != Place.of(own).context:
        raise Refused(
            f"cannot find '{environment}' by name: it is in another cluster",
            hint="use a name that both clusters know, and say it in 'config'",
        )
    return f"{environment.service}-{environment.name}.{place.namespace}.svc:{_SHOWN_PORT}"


def read_service(found: Mapping[str, Any]) -> Door:
    """Return what a Service of ours says."""
    metadata, spec = found.get("metadata") or {}, found.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    selected = (spec.get("selector") or {}).get(GROUP)
    backends = {
        name: Backend(port=port, weight=100 if name == selected else 0)
        for name, port in _exposed(annotations.get(EXPOSED)).items()
    }
    return Door(plan=annotations.get(PLAN) or None, backends=backends, version=metadata.get("resourceVersion"))


def require_selected(name: str, slices: Sequence[Mapping[str, Any]], weights: Mapping[str, int]) -> None:
    """Raise RouterUnreachable as long as requests still go to other pods than those of the group that is selected, or
    to none of them."""
    pods = [
        str((one.get("targetRef") or {}).get("name"))
        for each in slices
        for one in each.get("endpoints") or ()
        if (one.get("conditions") or {}).get("ready", True)
    ]
    for group in weights:
        others = [pod for pod in pods if not pod.startswith(f"{group}-")]
        if others or not pods:
            what = f"still sends requests to '{others[0]}'" if others else f"has no pod of '{group}' yet"
            raise RouterUnreachable(f"the Service '{name}' {what}")


def _exposed(text: object) -> Mapping[str, int]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        found = {}
    return {str(name): port for name, port in found.items() if isinstance(port, int)} if isinstance(found, dict) else {}
