"""What of an environment can be printed: its objects, the roles that Instar needs, and a policy that keeps all so.

A Secret is left out of what is printed, and told of in a comment: its values are nobody's to read. What a deploy makes
is for review alone: it says so itself, to tools that apply whatever is in a repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import InstarError
from instar.model.release import Release
from instar.providers.doors import Ports, roles_of
from instar.providers.kubernetes.agent_objects import AGENTS, deployment
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.claims import claim_names, claims_near, require_none_hidden
from instar.providers.kubernetes.doors import NONE
from instar.providers.kubernetes.exposure import exposed
from instar.providers.kubernetes.kinds import ROUTE, SECRET, SERVICE, Kind
from instar.providers.kubernetes.kubeconfig import find_config
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.objects import anchor, claim, group_objects
from instar.providers.kubernetes.parts import Parts
from instar.providers.kubernetes.pod import Order
from instar.providers.kubernetes.policy import policies
from instar.providers.kubernetes.rights import roles, routes_role
from instar.providers.kubernetes.route import route
from instar.providers.kubernetes.selecting import selecting_service, shown_ports
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.signing import Signing
from instar.providers.package import PlannedEnvironment, Site
from instar.providers.router_plan import router_plan

Object = Mapping[str, Any]
NOT_APPLIED: Final = {  # Source: Argo CD, "Resource Hooks"; Flux, kustomize-controller
    "argocd.argoproj.io/hook": "Skip",
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
}
_ABOUT: Final = (
    "For review: a deploy makes these, once, and moves the weights. Whoever applies them has it refused the next time.",
    "Argo CD and Flux skip them by their annotations, which what is made has not (docs/kubernetes.md, With GitOps).",
)


def render(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    """Return the very objects that a deploy would make, tasks before it included, and the route as it would be in the
    end. What is made later, tasks after it and those by the clock, is told of. A cluster is asked which claims volumes
    have."""
    place = Place.of(planned.settings)
    names = Names(environment=planned.environment, ledger=site.ledger_name() or "00000000")
    assert planned.release is not None
    assert planned.image is not None
    claims, unknown = _claims(site, names, place, planned.release)
    found: list[Object] = []
    for group in planned.groups:
        release = planned.release.of_role(group.role)
        order = Order(names=names, group=group, release=release, image=planned.image, place=place, claims=claims)
        empty = dict.fromkeys(planned.release.configuration.secrets, b"")
        made = group_objects(order, empty)
        first = (one for one in order.volumes if claims.get(one.name, names.claim(one.name)) == names.claim(one.name))
        found += [one for volume in first if (one := claim(names, volume, place.storage_class)) not in found]
        found += [anchor(order, made), *(one for _, one in made)]
    if planned.release.service.port is not None:
        found += _doors(names, place, planned)
    if site.ledger_name() is None:
        unknown = ("There is no ledger yet: its mark, instar/ledger, will be another one.",)
    about = "".join(f"# {line}\n" for line in (*_ABOUT, *_made_later(planned.release), *unknown))
    return {"00-about.yaml": about, **_files(_in(place.namespace, map(_for_review, found)))}


def _made_later(release: Release) -> Iterator[str]:
    """Say what is not there though the definition has it."""
    if any(service.after for service in release.services.values()):
        yield "Tasks after the release (after) are Jobs too, made once it has the traffic: they are not in this."
    schedule = release.configuration.schedule
    if schedule:
        yield f"Of the schedule ({', '.join(sorted(schedule))}) a Job is made whenever one is due: none is in this."


def _claims(site: Site, names: Names, place: Place, release: Release) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return the claim that each volume of an environment has, by its name, and what is to be said where that could not
    be asked."""
    volumes = [one for service in release.services.values() for one in service.volumes]
    if not volumes or site.ledger_name() is None:
        return {}, ()
    try:
        api = Api(find_config(place.context, site.environ), site.environ)
        signing, near = Signing(site.signing_key), claims_near(api, place.namespace, volumes)
        claims = claim_names(filter(names.owns, near), signing)
        require_none_hidden(near, names, [one.name for one in volumes], signing)
        return claims, ()
    except InstarError as error:
        told = " ".join(error.message.split())
        return {}, (f"Which claims the volumes have, other ones once restored, is not known: {told}",)


def _for_review(made: Object) -> Object:
    """Return an object that tools which apply a repository leave alone."""
    metadata = made["metadata"]
    return {**made, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **NOT_APPLIED}}}


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
        "# it may be left away: by it another's route, or Gateway, that takes requests for a name is found in other "
        f"namespaces\n# than '{place.namespace}', where only such of that one are found without it\n"
    )
    end = f"-clusterrole-{routes_role(place.namespace)}.yaml"
    return {name: f"{said}{text}" if name.endswith(end) else text for name, text in files.items()}


def policy(site: Site, planned: PlannedEnvironment) -> Mapping[str, str]:
    return _files(policies(planned.environment, Place.of(planned.settings).namespace))


def _doors(names: Names, place: Place, planned: PlannedEnvironment) -> Iterator[Object]:
    """Yield what requests come in by, as it is once the release has the traffic."""
    release = planned.release
    assert release is not None
    plan = router_plan(planned.environment, planned.settings, release)
    open_ = {"", *roles_of(planned.settings)}
    found = ((one.id, Ports.of(release, one.role), one.role) for one in planned.groups if one.task is None)
    serving = {
        name: exposed(release, role, asked=place.gateway is not None)
        for name, ports, role in found
        if ports is not None and ports.door in open_
    }
    parts = Parts(names, place)
    doors = NONE.planned(plan, lambda group, port: None, inside=place.inside).exposing(serving)
    doors = doors.routing(dict.fromkeys(serving, 100))
    if place.has_services:
        doors = doors.showing(shown_ports(release))
    for part, door in doors.objects.items():
        if place.gateway is None or parts.kind(part) == SERVICE:
            yield _typed(SERVICE, selecting_service(door, names, part))
        else:
            yield _typed(ROUTE, route(door, names, place.gateway, part))


def _typed(kind: Kind, made: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name, **made}


def _in(namespace: str, found: Iterable[Object]) -> Iterator[Object]:
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
