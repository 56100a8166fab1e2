"""An environment's Services, reached in the cluster alone, each select the pods of one group: without a Gateway they
are its doors, behind one they are what others find by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from instar.errors import Refused, RouterError, RouterUnreachable
from instar.model.environment import Settings
from instar.model.release import EnvironmentId, Release
from instar.model.roles import FIRST_DOOR, door_of
from instar.providers.kubernetes.annotations import annotation_json, whole
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.names import (
    DOORS,
    EXPOSED,
    GROUP,
    OWN_PORT,
    PLAN,
    PORTS,
    Names,
    door_part,
    inside_key,
    port_name,
    role_inside,
)
from instar.providers.kubernetes.objects import PORT
from instar.providers.kubernetes.settings import Place

_NOBODY: Final = "nobody"  # no group is called so: an id ends with two numbers
SHOWN_PORT: Final = 80
_MOST_PORT: Final = 65_535


def selecting_service(door: Door, names: Names, part: str = "") -> Mapping[str, Any]:
    """Return the Service that ``door`` is: ``part`` of where the environment's requests come in. Raises RouterError
    where several groups are to share its requests."""
    chosen = list(door.weights)
    if len(chosen) > 1:
        raise RouterError(
            f"cannot share the requests of '{names.environment}' between {', '.join(sorted(chosen))}: a Service "
            "selects one of them",
            hint="name a Gateway in kubernetes.gateway, or roll out by 'strategy: blue-green'",
        )
    exposed = {name: one.port for name, one in sorted(door.backends.items())}
    said = {name: json.dumps(dict(sorted(those.items()))) for name, those in _said(door) if those}
    metadata: dict[str, Any] = {
        "name": names.service_of(part),
        "labels": dict(names.all_labels),
        "annotations": {PLAN: door.plan or "", EXPOSED: json.dumps(exposed), **said},
    }
    if door.version is not None:
        metadata["resourceVersion"] = door.version
    further = door.key.partition(".")[2] if role_inside(door.key) is None else ""
    ports = [_port(PORT, SHOWN_PORT, port_name(further) if further else PORT)]
    ports += [_port(name, number, PORT if name == OWN_PORT else name) for name, number in sorted(door.ports.items())]
    selector = {GROUP: chosen[0] if chosen else _NOBODY}
    return {"metadata": metadata, "spec": {"type": "ClusterIP", "selector": selector, "ports": ports}}


def _said(door: Door) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return (PORTS, door.ports), (DOORS, door.more)


def shown_ports(release: Release) -> Mapping[str, Mapping[str, int]]:
    """Return by which numbers Services lead to the pods of ``release`` besides the first, by door, and by the names of
    their ports: a role's to further ones by their own, and to that of a service of tcp by its own too; a further port's
    to that one alone."""
    found = {}
    for role, service in release.services.items():
        door = door_of(role, release.role)
        own = {OWN_PORT: service.port} if service.protocol == "tcp" and service.port else {}
        further = {name: {port_name(name): one.port} for name, one in service.ports.items()}
        found[door] = own | {name: number for one in further.values() for name, number in one.items()}
        found |= {f"{door}.{name}": one for name, one in further.items()}
    return {
        door: {name: number for name, number in those.items() if number != SHOWN_PORT} for door, those in found.items()
    }


def _port(name: str, number: int, target: str) -> Mapping[str, Any]:
    return {"name": name, "port": number, "targetPort": target, "protocol": "TCP"}


def address_inside(own: Settings, environment: EnvironmentId, settings: Settings, role: str | None = None) -> str:
    """Return the name and port of the Service of ``environment``, or of another ``role`` of it than the first, as pods
    of an environment that is set as ``own`` find it. Raises Refused where they do not."""
    place = Place.of(settings)
    if not place.has_services:
        raise Refused(
            f"cannot find '{environment}' by name: it is behind a gateway, and has no Service beside its route",
            hint="say 'kubernetes: {inside: true}' there, and deploy it; or use a name of its 'listen', by 'config'",
        )
    if place.context != Place.of(own).context:
        raise Refused(
            f"cannot find '{environment}' by name: it is in another cluster",
            hint="use a name that both clusters know, and say it in 'config'",
        )
    names = Names(environment=environment, ledger="")
    return f"{names.service_of(door_part(inside_key(role or FIRST_DOOR)))}.{place.namespace}.svc:{SHOWN_PORT}"


def read_service(found: Mapping[str, Any], key: str = "", more: Mapping[str, str] | None = None) -> Door:
    """Return what a Service of ours, of the door ``key``, says; ``more``: which parts the first one names."""
    metadata, spec = found.get("metadata") or {}, found.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    selected = (spec.get("selector") or {}).get(GROUP)
    backends = {
        name: Backend(port=port, weight=100 if name == selected else 0)
        for name, port in _exposed(annotations.get(EXPOSED)).items()
    }
    ports = _exposed(annotations.get(PORTS))
    plan, version = annotations.get(PLAN) or None, metadata.get("resourceVersion")
    return Door(key=key, more=more or {}, plan=plan, backends=backends, ports=ports, version=version)


def require_selected(
    name: str, slices: Sequence[Mapping[str, Any]], weights: Mapping[str, int], *, needs_pods: bool
) -> None:
    """Raise RouterUnreachable as long as requests still go to other pods than those of the group that is selected, or
    (``needs_pods``) to none of them."""
    pods = [
        str((one.get("targetRef") or {}).get("name"))
        for each in slices
        for one in each.get("endpoints") or ()
        if (one.get("conditions") or {}).get("ready", True)
    ]
    for group in weights:
        others = [pod for pod in pods if not pod.startswith(f"{group}-")]
        if others or (needs_pods and not pods):
            what = f"still sends requests to '{others[0]}'" if others else f"has no pod of '{group}' yet"
            raise RouterUnreachable(f"the Service '{name}' {what}")


def _exposed(text: object) -> Mapping[str, int]:
    ports = ((name, whole(port, _MOST_PORT)) for name, port in annotation_json(text).items())
    return {name: port for name, port in ports if port is not None}
