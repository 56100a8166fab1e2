"""What has to hold before an environment is rolled out to a cluster: each that does not is one clear sentence.

Nothing is made: what could be made is asked of the API without doing it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from instar.errors import ComponentMissing, ProviderError, Refused, SourceUnreachable
from instar.model.definition import Service
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.reference import Reference
from instar.model.release import EnvironmentId
from instar.providers.kubernetes.answers import Forbidden
from instar.providers.kubernetes.api import Api, Object
from instar.providers.kubernetes.claims import counting
from instar.providers.kubernetes.kinds import (
    ACCESS_REVIEW,
    GATEWAY,
    NAMESPACE,
    ROUTE,
    RULES_REVIEW,
    SECRET,
    VOLUME_CLAIM,
    Kind,
)
from instar.providers.kubernetes.names import FIRST_PART, Names
from instar.providers.kubernetes.parts import Parts
from instar.providers.kubernetes.refusals import unfit
from instar.providers.kubernetes.rights import NEEDED, SNAPSHOTS, Right
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.signing import Signing
from instar.providers.kubernetes.storage import snapshot_class
from instar.providers.kubernetes.taking_back import require_nobody_else
from instar.registry.registries import Registries
from instar.threads import at_once
from instar.waiting import Deadline, retry

T = TypeVar("T")
OLDEST: Final = (1, 30)  # preStop.sleep and native validation of what is applied are on by default from here
_ASKED_AT_ONCE: Final = 8
_PATIENCE_S: Final = 5.0


def require_fit(
    environment: EnvironmentId,
    settings: Settings,
    services: Mapping[str, Service],
    known: Mapping[EnvironmentId, Settings],
) -> None:
    """Raise Refused with all that is asked for and a cluster can't give; nothing is asked. ``services``: by role;
    ``known``: the environments that there are."""
    found = [one.told for one in dict.fromkeys(unfit(environment, settings, services, known))]
    if found:
        told = found[0] if len(found) == 1 else "".join(f"\n  {one}" for one in found)
        raise Refused(f"cannot run '{environment}' on a cluster: {told}")


class _Patient:
    """An API that is asked again for a moment where it gives no answer."""

    def __init__(self, api: Api) -> None:
        self.server = api.server
        self._api = api

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        return with_patience(lambda: self._api.find(kind, namespace, name))

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...]:
        return with_patience(lambda: self._api.list(kind, namespace, labels))

    def find_list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...] | None:
        return with_patience(lambda: self._api.find_list(kind, namespace, labels))

    def text(self, path: str, what: str, *, absent: bool = False) -> bytes | None:
        return with_patience(lambda: self._api.text(path, what, absent=absent))

    def create(self, kind: Kind, namespace: str | None, wanted: Object) -> Object:
        return with_patience(lambda: self._api.create(kind, namespace, wanted))


def patient(api: Api) -> _Patient:
    """Return an API that is asked again for a moment: for many calls of which all have to come out well."""
    return _Patient(api)


def with_patience(ask: Callable[[], T]) -> T:
    """Return what ``ask`` does, asked again for a moment where a cluster gives no answer."""
    return retry(ask, Deadline.after(_PATIENCE_S), longest_pause_s=_PATIENCE_S)


def require_registry(registries: Registries, place: Place) -> None:
    """Raise what a push would, such as that a registry is without TLS: it is asked for an image that nobody has. One
    that is away for a while is waited for when it is pushed to."""
    with contextlib.suppress(SourceUnreachable):
        registries.has(Reference(repository=place.registry, digest=Digest.of(b"")))


def look(
    api: Api,
    names: Names,
    place: Place,
    services: Sequence[Service],
    signing: Signing,
    parts: Iterable[str] = (FIRST_PART,),
) -> tuple[str, ...]:
    """Ask the cluster; return what is worth knowing. ``parts``: of the routes that there are to be. Raises
    ProviderError, ComponentMissing, Refused."""
    return _looked(_Patient(api), names, place, services, signing, parts)


def _looked(
    api: _Patient, names: Names, place: Place, services: Sequence[Service], signing: Signing, parts: Iterable[str]
) -> tuple[str, ...]:
    _require_new_enough(api)
    lacking = _require_namespace(api, names.environment, place)
    _require_rights(api, names.environment, place, lacking)
    if place.gateway is not None:
        _require_gateway(api, place.gateway)
    for part in parts:
        _require_free(api, names, place, part)
    if place.pull_secret is not None and api.find(SECRET, place.namespace, place.pull_secret) is None:
        raise Refused(
            f"cannot find the Secret '{place.pull_secret}' in '{place.namespace}', by which images are to be pulled",
            hint=f"kubectl create secret docker-registry {place.pull_secret} --namespace {place.namespace} …",
        )
    _require_snapshots(api, names, place, services, signing)
    warnings = (text for service in services for text in _volume_warnings(api, names, place, service))
    return tuple(dict.fromkeys(warnings))


def _require_snapshots(
    api: _Patient, names: Names, place: Place, services: Sequence[Service], signing: Signing
) -> None:
    """Raise what keeps volumes that are to be kept (``snapshot: true``) from that, before anything is made."""
    kept = [volume for service in services for volume in service.volumes if volume.snapshot]
    if not kept:
        return
    _require_these(api, names.environment, place, SNAPSHOTS)
    found = counting(api.list(VOLUME_CLAIM, place.namespace, names.labels) if names.ledger else (), signing)
    for volume in kept:
        claim = found.get((names.environment, volume.name))
        has = place.storage_class if claim is None else (claim.get("spec") or {}).get("storageClassName")
        snapshot_class(api, has, defined=True)


def _volume_warnings(api: _Patient, names: Names, place: Place, service: Service) -> Iterator[str]:
    """Say which volumes are there already, and not of the class that is asked for: nobody can change that."""
    for volume in service.volumes if place.storage_class is not None else ():
        found = api.find(VOLUME_CLAIM, place.namespace, names.claim(volume.name))
        if found is not None:
            names.require_own(VOLUME_CLAIM.name, found)
            has = (found.get("spec") or {}).get("storageClassName")
            if has != place.storage_class:
                yield (
                    f"volume '{volume.name}' stays in the storage class '{has}', and not '{place.storage_class}': a "
                    "volume keeps the class that it was made with"
                )


def _require_new_enough(api: _Patient) -> None:
    found = _json(api.text("/version", "ask which version the cluster is"))
    numbers = [re.match(r"\d{1,6}", str(found.get(part, ""))) for part in ("major", "minor")]
    version = tuple(int(one[0]) for one in numbers if one)
    if len(version) != len(OLDEST):
        raise ProviderError(f"cannot tell which version '{api.server}' is: it says '{found.get('gitVersion')}'")
    if version < OLDEST:
        raise ComponentMissing(
            f"cannot use the cluster '{api.server}': it is Kubernetes {found.get('gitVersion')}",
            hint=f"Instar needs {'.'.join(map(str, OLDEST))} or newer",
        )


def _require_namespace(api: _Patient, environment: EnvironmentId, place: Place) -> tuple[Right, ...]:
    """Raise Refused where the namespace is not there; return the right that these credentials lack to tell."""
    try:
        found = api.find(NAMESPACE, None, place.namespace)
    except Forbidden:
        return (Right(verb="get", resource=NAMESPACE.plural),)
    if found is None:
        raise Refused(
            f"cannot find the namespace '{place.namespace}' in the cluster '{api.server}'",
            hint=f"kubectl create namespace {place.namespace}; "
            f"then its roles: instar kubernetes rbac {environment.name} | kubectl apply -f -",
        )
    return ()


def _require_rights(api: _Patient, environment: EnvironmentId, place: Place, lacking: Sequence[Right]) -> None:
    """Ask for every right at once, so that all that is missing is told at once, with those that are known to be
    ``lacking``: for those alone of which the cluster does not say, in one answer, that these credentials have them."""
    needed = [one for one in NEEDED if place.gateway is not None or one.group != GATEWAY.group]
    _require_these(api, environment, place, needed, lacking)


def _require_these(
    api: _Patient, environment: EnvironmentId, place: Place, needed: Sequence[Right], lacking: Sequence[Right] = ()
) -> None:
    rules = _rules(api, place.namespace)
    wanted = [one for one in needed if one.of_gateway or not one.is_in(rules)]
    has = at_once(lambda one: _has(api, place, one), wanted, at_most=8)
    missing = [*lacking, *(one for one, granted in zip(wanted, has, strict=True) if not granted)]
    if missing:
        raise ProviderError(
            f"cannot work in the namespace '{place.namespace}': these credentials may not {_listed(missing, place)}",
            hint=f"the roles that have it: instar kubernetes rbac {environment.name} | kubectl apply -f -",
        )


def _rules(api: _Patient, namespace: str) -> Sequence[Mapping[str, Any]]:
    """Return what the cluster says that these credentials may do; nothing where it does not know all that forbids."""
    review = {"apiVersion": RULES_REVIEW.api_version, "kind": RULES_REVIEW.name, "spec": {"namespace": namespace}}
    try:
        status = api.create(RULES_REVIEW, None, review).get("status")
    except ProviderError:  # who may not ask so may ask for each
        return []
    rules = status.get("resourceRules") if isinstance(status, Mapping) and not status.get("incomplete") else None
    return [one for one in rules if isinstance(one, Mapping)] if isinstance(rules, list) else []


def _listed(rights: Sequence[Right], place: Place) -> str:
    """Return "create, delete secrets; get gateways in 'gateways'": the verbs of each resource."""
    verbs: dict[str, list[str]] = {}
    for one in rights:
        where = f" in '{place.gateway[0]}'" if one.of_gateway and place.gateway is not None else ""
        verbs.setdefault(f"{one.resource_name}{where}", []).append(one.verb)
    return "; ".join(f"{', '.join(those)} {resource}" for resource, those in verbs.items())


def _has(api: _Patient, place: Place, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    asked = {
        **(
            {"namespace": place.namespace}
            if not right.of_gateway or place.gateway is None
            else _of_gateway(place.gateway)
        ),
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": part,
    }
    spec = {"resourceAttributes": asked}
    review = {"apiVersion": ACCESS_REVIEW.api_version, "kind": ACCESS_REVIEW.name, "spec": spec}
    return bool((api.create(ACCESS_REVIEW, None, review).get("status") or {}).get("allowed"))


def _of_gateway(gateway: tuple[str, str]) -> Mapping[str, str]:
    """The role that has it is for this very one."""
    namespace, name = gateway
    return {"namespace": namespace, "name": name}


def _require_gateway(api: _Patient, gateway: tuple[str, str]) -> None:
    namespace, name = gateway
    if api.text(f"/apis/{ROUTE.api_version}", "look for the Gateway API", absent=True) is None:
        raise ComponentMissing(
            f"cannot find the Gateway API ({ROUTE.api_version}) in the cluster '{api.server}'",
            hint="install it with a gateway of your choice; or without kubernetes.gateway: a Service, blue-green",
        )
    if api.find(GATEWAY, namespace, name) is None:
        raise Refused(
            f"cannot find the Gateway '{namespace}/{name}'",
            hint="kubectl get gateways --all-namespaces shows which there are: kubernetes.gateway names one",
        )


def _require_free(api: _Patient, names: Names, place: Place, part: str) -> None:
    """The name of a route, or of a Service, is ours, or nobody's."""
    parts = Parts(names, place)
    kind, name = parts.kind(part), parts.name(part)
    found = api.find(kind, place.namespace, name)
    if found is not None and names.ledger:
        names.require_own(kind.name, found)
        require_nobody_else(found, kind.name)
    elif found is not None:
        raise Refused(
            f"cannot use the {kind.name} '{place.namespace}/{name}': it is there already, and not Instar's",
            hint="it was left as it is; name the environment otherwise, or move that object away",
        )


def _json(data: bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
