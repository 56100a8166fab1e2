"""What of an environment can be printed: its objects, the roles that Instar needs, and a policy that keeps all so.

A Secret is left out of what is printed, and told of in a comment: its values are nobody's to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instar.providers.kubernetes.agent_objects import AGENTS, deployment
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.kinds import ROUTE, SECRET, SERVICE, Kind
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.objects import anchor, claim, group_objects
from instar.providers.kubernetes.pod import Order
from instar.providers.kubernetes.policy import policies
from instar.providers.kubernetes.rights import roles, routes_role
from instar.providers.kubernetes.route import route
from instar.providers.kubernetes.selecting import selecting_service, shown_ports
from instar.providers.kubernetes.settings import Place
from instar.providers.package import PlannedEnvironment, Site
from instar.providers.router_plan import RouterPlan

Object = Mapping[str, Any]


def render(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    """Return the very objects that a deploy would make, tasks before it included, and the route as it would be in the
    end. Tasks after it are made when it has the traffic, and are left out."""
    place = Place.of(planned.settings)
    names = Names(environment=planned.environment, ledger=site.ledger_name() or "00000000")
    assert planned.release is not None
    assert planned.image is not None
    found: list[Object] = []
    for group in planned.groups:
        release = planned.release.of_role(group.role)
        order = Order(names=names, group=group, release=release, image=planned.image, place=place)
        empty = dict.fromkeys(planned.release.configuration.secrets, b"")
        made = group_objects(order, empty)
        claims = (claim(names, volume, place.storage_class) for volume in order.volumes)
        found += [one for one in claims if one not in found]
        found += [anchor(order, made), *(one for _, one in made)]
    if planned.release.service.port is not None:
        found.append(_door(names, place, planned))
    return _files(_in(place.namespace, found))


def rbac(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    place = Place.of(planned.settings)
    return _with_choice(_files(roles(place.namespace, place.gateway)), place)


def agent(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    """Return what it takes to have the agent in the cluster, but for the Secret with the ledger's address."""
    place = Place.of(planned.settings)
    assert planned.given is not None
    image = str(planned.given)
    made = _files([*roles(place.namespace, place.gateway), deployment(place, image, AGENTS, "instar")])
    return _with_choice(made, place)


def _with_choice(files: Mapping[str, str], place: Place) -> Mapping[str, str]:
    """Return the files, of which one says that it may be left away."""
    said = (
        "# it may be left away: by it another HTTPRoute that takes requests for a name is found in other namespaces "
        "than\n"
        f"# '{place.namespace}', where only such of that one are found without it\n"
    )
    end = f"-clusterrole-{routes_role(place.namespace)}.yaml"
    return {name: f"{said}{text}" if name.endswith(end) else text for name, text in files.items()}


def policy(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    return _files(policies(planned.environment, Place.of(planned.settings).namespace))


def _door(names: Names, place: Place, planned: PlannedEnvironment) -> Object:
    assert planned.release is not None
    service = planned.release.service
    plan = RouterPlan.of(planned.environment, planned.settings, service)
    serving = (one for one in planned.groups if one.role == planned.release.role and one.task is None)
    backends = {one.id: Backend(port=service.port or 0, weight=100) for one in serving}
    shown = shown_ports(service) if place.gateway is None else {}
    door = Door(backends=backends, ports=shown).planned(plan)
    if place.gateway is None:
        return _typed(SERVICE, selecting_service(door, names))
    return _typed(ROUTE, route(door, names, place.gateway))


def _typed(kind: Kind, made: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name, **made}


def _in(namespace: str, found: Sequence[Object]) -> Iterator[Object]:
    for one in found:
        name, *rest = one["metadata"].items()
        yield {**one, "metadata": {name[0]: name[1], "namespace": namespace, **dict(rest)}}


def _files(found: Iterator[Object] | Sequence[Object]) -> Mapping[str, str]:
    """Return each object as YAML, by a name of a file that keeps their order."""
    import yaml

    texts: dict[str, str] = {}
    for number, one in enumerate(found, 1):
        kind, name = one["kind"], one["metadata"]["name"]
        file = f"{number:02}-{kind.lower()}-{name}.yaml"
        if kind == SECRET.name:
            texts[file] = f"# the Secret '{name}' with {', '.join(one['data'])} is made by Instar, and not printed\n"
        else:
            texts[file] = yaml.safe_dump(_plain(one), sort_keys=False, allow_unicode=True, width=120)
    return texts


def _plain(value: Any) -> Any:
    """Return it as YAML's writer wants it: without digests and mappings of kinds of our own."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, str) else value
