"""What of a definition a cluster refuses, or cannot give, though it is good elsewhere: told by words alone, before
anything is asked or made.

A definition's names become labels, parts of objects' names and of pods' volumes. What the API takes as each was tried
with it: tests/acceptance/test_kubernetes_dry_run.py holds this against a real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from instar.model.definition import Service
from instar.model.doors import Port
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.model.requests import Requests
from instar.model.roles import FIRST_DOOR, path_of_role
from instar.providers.kubernetes.names import Names, door_part, environment_part
from instar.providers.kubernetes.network import unreachable
from instar.providers.kubernetes.route import MOST_ROUTES
from instar.providers.kubernetes.selecting import SHOWN_PORT
from instar.providers.kubernetes.settings import (
    KubernetesSettings,
    Place,
    SpreadSettings,
    TolerationSettings,
    checked_section,
)
from instar.providers.kubernetes.sites import pieces_of
from instar.providers.unfit import Path, Unfit, path_of

_MOST_ANNOTATIONS_BYTES: Final = 256 << 10  # of all of a pod, with their names
_OWN_BYTES: Final = 1 << 10  # of Instar's own among them
_NO_EXECUTE: Final = "NoExecute"


def unfit(
    environment: EnvironmentId,
    settings: Settings,
    services: Mapping[str, Service],
    known: Mapping[EnvironmentId, Settings],
) -> Iterator[Unfit]:
    """Yield all of it. ``services``: how instances run, by role, the first one first. ``known``: the environments that
    there are. Raises Refused for what no definition could have said."""
    place, own = Place.of(settings), path_of(environment)
    yield from _moved(environment, known.get(environment), settings, place)
    unfit_names = tuple(_unfit_names(environment, place))
    yield from unfit_names
    yield from _unfit_volumes(services)
    yield from _matters_of_gateway(own, settings)
    if not unfit_names:  # else no Service could be called so, whose name is advised
        yield from _unfit_doors(own, environment, settings, place, services)
    yield from _unfit_network(own, settings, known)
    yield from _unfit_rollout(own, settings, place)
    for role, service in services.items():
        if place.gateway is None:
            yield from _without_gateway(role, service)
        elif role not in settings.internal_roles:
            yield from _behind_gateway(role, service)
    if not unfit_names and place.gateway is None and any(service.port is not None for service in services.values()):
        yield from _unshared(own, environment, settings, place)
    yield from _unfit_section((*own, "kubernetes"), settings)


def inner_names(environment: EnvironmentId, place: Place, door: str = "") -> tuple[str, ...]:
    """Return by which names the Service of a door is reached in its cluster, where there is no gateway."""
    service = Names(environment=environment, ledger="").service_of(door_part(door))
    name = f"{service}.{place.namespace}.svc"
    return (name, f"{name}.cluster.local")


def _when(found: object, told: str, *path: str | int) -> Iterator[Unfit]:
    """Yield what is wrong where something is ``found``; nothing is where that is false."""
    if found:
        yield Unfit(path=path, told=told)


def _moved(environment: EnvironmentId, before: Settings | None, after: Settings, place: Place) -> Iterator[Unfit]:
    """An environment stays where it is: what runs there would be left behind."""
    if before is None or before.provider != after.provider:
        return
    was = Place.of(before)
    where = f"it is in context '{was.context or 'the current one'}', namespace '{was.namespace}'"
    told = (
        f"'{environment}' cannot move: {where}, {'behind a' if was.gateway else 'without a'} gateway; "
        f"instar destroy {environment} first, or deploy to an environment of another name, and move the name"
    )
    section = (*path_of(environment), "kubernetes")
    yield from _when(was.namespace != place.namespace, told, *section, "namespace")
    yield from _when(was.context != place.context, told, *section, "context")
    yield from _when((was.gateway is None) != (place.gateway is None), told, *section, "gateway")


def _unfit_names(environment: EnvironmentId, place: Place) -> Iterator[Unfit]:
    own = path_of(environment)
    for what, name, path in (("service", environment.service, ("name",)), ("environment", environment.name, own)):
        told = f"the name of the {what}, '{name}', ends with '-', and no label there does; name it otherwise"
        yield from _when(_ends_wrong(name), told, *path)
    own_name = f"{environment.service}-{environment.name}"
    told = (
        f"the name of the environment, '{environment.name}', ends with two numbers, and its Service would be "
        f"'{own_name}', as a release of '{environment_part(own_name)}' may have one: name it otherwise"
    )
    yield from _when(place.has_services and environment_part(own_name) is not None, told, *own)


def _unfit_volumes(services: Mapping[str, Service]) -> Iterator[Unfit]:
    for role, service in services.items():
        for position, volume in enumerate(service.volumes):
            told = (
                f"the name of the volume '{volume.name}' ends with '-', and no object's there does; name it otherwise"
            )
            yield from _when(_ends_wrong(volume.name), told, *path_of_role(role), "volumes", position, "name")


def _matters_of_gateway(own: Path, settings: Settings) -> Iterator[Unfit]:
    names = settings.names
    told = "'accept_proxy' is the gateway's matter; remove it, and name there what is in front of it"
    yield from _when(settings.accept_proxy, told, *own, "accept_proxy")
    told = "'requests' is the gateway's matter; remove it, and bound requests there"
    yield from _when(settings.requests != Requests(), told, *own, "requests")
    told = "'compression' is the gateway's matter; remove it, and have the gateway compress, or the service"
    yield from _when(settings.compression, told, *own, "compression")
    told = "'access_log' is the gateway's matter: it sees the requests, and has a log of its own; remove it"
    yield from _when(settings.access_log, told, *own, "access_log")
    told = "the certificates of its names are the gateway's; remove 'tls'"
    yield from _when(settings.tls.kind != "acme", told, *own, "tls")
    told = "'listen.hsts' is the gateway's matter; remove it, and have the service answer with the header"
    yield from _when(names.hsts_ms, told, *own, "listen", "hsts")
    told = "'listen.client_ca' is the gateway's matter; remove it, and have the gateway ask for certificates"
    yield from _when(names.client_ca, told, *own, "listen", "client_ca")


def _unfit_doors(
    own: Path, environment: EnvironmentId, settings: Settings, place: Place, services: Mapping[str, Service]
) -> Iterator[Unfit]:
    first = _instead(FIRST_DOOR, services) or "name it in 'listen'"
    for address in settings.listen:
        told = f"an address ('{address}') is of one machine; {first}"
        yield Unfit(path=(*own, "listen"), told=told, word=address)
    for key, door in settings.doors.items():
        name, advice = key.lstrip("."), "give it a name: '{https: […]}'"
        if place.gateway is None:
            advice = f"give it the name of its Service: '{{http: [{inner_names(environment, place, key)[0]}]}}'"
        advice = _instead(key, services) or advice
        for address in door.listen:
            told = f"an address of the door '{name}' ('{address}') is of one machine; {advice}"
            yield Unfit(path=(*own, "listen"), told=told, word=address)
    count = sum(map(len, pieces_of(settings.names, {key: one.sites for key, one in settings.doors.items()}).values()))
    told = f"its names and paths need {count} routes, and {MOST_ROUTES} is the most that an environment has"
    yield from _when(place.gateway is not None and count > MOST_ROUTES, told, *own, "listen")
    told = "a preview has no address of its own there; write 'preview: header'"
    yield from _when(settings.preview not in (None, "header"), told, *own, "preview")


def _instead(key: str, services: Mapping[str, Service]) -> str | None:
    """Return what to do about an address of a door of tcp, which has no names; None of another."""
    role, _, port = key.partition(".")
    service = services.get(role) if role else next(iter(services.values()), None)
    spoken: Port | Service | None = None if service is None else service.ports.get(port, service)
    if spoken is None or spoken.protocol != "tcp":
        return None
    return "a port of tcp besides a role's first has no door there; remove it" if port else "write 'internal'"


def _unfit_network(own: Path, settings: Settings, known: Mapping[EnvironmentId, Settings]) -> Iterator[Unfit]:
    network = (*own, "network")
    for position, allow in enumerate(settings.network.allow):
        wrong = allow.names_environment and any(map(_ends_wrong, allow.to.split("/")))
        told = f"'network.allow' names '{allow.to}', and nothing is called so there: a name ends with '-'; remove it"
        yield from _when(wrong, told, *network, "allow", position, "to")
        for told in unreachable(allow, {one: found.provider for one, found in known.items()}):
            yield Unfit(path=(*network, "allow", position, "to"), told=told)
    told = "'network.connections' is of this machine's own table; remove it"
    yield from _when(settings.network.connections, told, *network, "connections")


def _unfit_rollout(own: Path, settings: Settings, place: Place) -> Iterator[Unfit]:
    canary, strategy = settings.rollout.strategy == "canary", (*own, "rollout", "strategy")
    told = "by 'listen: internal' a Service selects one release at a time, behind a gateway too: no share of it moves"
    told = f"{told}; write 'strategy: blue-green'"
    yield from _when(settings.internal and place.gateway is not None and canary, told, *strategy)
    analysis = settings.rollout.analysis
    told = (
        "nobody counts requests there: name a Prometheus in 'kubernetes.prometheus', or add 'rollout.analysis.checks'"
    )
    unseen = analysis is not None and place.prometheus is None and not analysis.checks
    yield from _when(unseen, told, *own, "rollout", "analysis")
    counts = analysis is not None and place.prometheus is not None and place.gateway is not None
    for role in settings.internal_roles if counts else ():
        told = f"the role '{role}' is 'internal': no gateway counts what it is asked, and 'rollout.analysis' would wait"
        yield Unfit(path=(*own, "listen", role), told=f"{told}; give it a name, or take 'analysis' away")


def _behind_gateway(role: str, service: Service) -> Iterator[Unfit]:
    told = "the Gateway API's v1 has no TCPRoute: leave 'kubernetes.gateway' away, and it is a Service of the cluster"
    tcp = service.port is not None and service.protocol == "tcp"
    told = f"a service of tcp has no route behind a gateway, since {told}"
    yield from _when(tcp, told, *path_of_role(role), "protocol")


def _without_gateway(role: str, service: Service) -> Iterator[Unfit]:
    for name, one in service.ports.items() if service.port is not None else ():
        told = f"its port '{name}' is {SHOWN_PORT}, by which its Service shows the first one; give it another number"
        yield from _when(one.port == SHOWN_PORT, told, *path_of_role(role), "ports", name)


def _unshared(own: Path, environment: EnvironmentId, settings: Settings, place: Place) -> Iterator[Unfit]:
    """What a Service, which leads to one release at a time and inside the cluster alone, cannot give."""
    canary = settings.rollout.strategy == "canary"
    told = "without a gateway a Service selects one release at a time: a canary needs 'kubernetes.gateway'"
    yield from _when(canary, told, *own, "rollout", "strategy")
    yield from _when(settings.preview, "a preview needs 'kubernetes.gateway'", *own, "preview")
    others = {key: door.sites for key, door in settings.doors.items()}
    for key, sites in {FIRST_DOOR: settings.first_sites, **others}.items():
        inner, door = inner_names(environment, place, key), key.lstrip(".")
        named, whose = f"{{http: [{inner[0]}]}}", f"the door '{door}'" if door else "it"
        for site in (one for one in sites if one not in inner or one in settings.names.redirect):
            shown = f"{{{door}: {named}}}" if door else named
            told = f"{whose} is reached in the cluster alone, as 'listen: {shown}', and not as '{site}'"
            yield Unfit(path=(*own, "listen"), told=f"without 'kubernetes.gateway' {told}", word=site)


def _ends_wrong(name: str) -> bool:
    return name.endswith("-")


def _unfit_section(section: Path, settings: Settings) -> Iterator[Unfit]:
    own = checked_section(KubernetesSettings, settings.provider_settings, "settings")
    if own is not None:
        yield from _unfit_annotations(section, own)
        yield from _unfit_tolerations(section, own.tolerations)
        yield from _unfit_spread(section, own.spread)


def _unfit_annotations(section: Path, own: KubernetesSettings) -> Iterator[Unfit]:
    size = sum(len(name.encode()) + len(text.encode()) for name, text in own.annotations.items())
    most = _MOST_ANNOTATIONS_BYTES - _OWN_BYTES
    told = f"'kubernetes.annotations' has {size} bytes, and a pod takes {most}"
    yield from _when(size > most, told, *section, "annotations")


def _unfit_tolerations(section: Path, found: tuple[TolerationSettings, ...]) -> Iterator[Unfit]:
    for position, one in enumerate(found):
        path = (*section, "tolerations", position)
        told = f"'kubernetes.tolerations' says 'stay', which is of taints of {_NO_EXECUTE}: add 'effect: {_NO_EXECUTE}'"
        yield from _when(one.stay_ms is not None and one.effect != _NO_EXECUTE, told, *path, "stay")
        told = f"'kubernetes.tolerations' says the value '{one.value}' and no 'key': one without a key is of any taint"
        yield from _when(one.value and one.taint_key is None, told, *path, "value")


def _unfit_spread(section: Path, found: tuple[SpreadSettings, ...]) -> Iterator[Unfit]:
    known = Counter[tuple[str, bool]]()
    for position, one in enumerate(found):
        known[one.label, one.required] += 1
        word = "true" if one.required else "false"
        told = f"'kubernetes.spread' has the label '{one.label}' more than once with 'required: {word}'; remove one"
        yield from _when(known[one.label, one.required] == 2, told, *section, "spread", position, "label")
