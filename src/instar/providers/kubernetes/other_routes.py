"""HTTPRoutes that somebody else made for a name of an environment, at its own Gateway: which of them take requests
from it, whose they are, and since when. They are found and named, and never touched.

Source: gateway.networking.k8s.io/v1, HTTPRouteSpec.hostnames and HTTPRouteRule.matches: the longest name, the exact
path, then the longest one; then a method, most headers, most parameters; then the older route, and its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import ProviderError
from instar.frozen import dataclass
from instar.model.drift import Finding
from instar.providers.kubernetes.answers import Forbidden
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.kinds import GATEWAY, ROUTE
from instar.providers.kubernetes.names import ENVIRONMENT, MANAGED_BY, SERVICE
from instar.providers.kubernetes.settings import Place

Object = Mapping[str, Any]
KIND: Final = "name"  # of findings
_SHOWN: Final = 3
_LONGEST: Final = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherRoute:
    """``takes``: the names and paths of which requests go to it, such as "shop.example/api"."""

    name: str  # NAMESPACE/NAME
    takes: tuple[str, ...]
    whose: str
    made_at: str

    @property
    def taken(self) -> str:
        more = f" and {len(self.takes) - _SHOWN} more" if len(self.takes) > _SHOWN else ""
        return f"{', '.join(self.takes[:_SHOWN])}{more}"

    @property
    def finding(self) -> Finding:
        expected, observed = f"requests for {self.taken} are its own", f"it takes them: {self.whose}, {self.made_at}"
        return Finding(instance=None, kind=KIND, path=f"HTTPRoute {self.name}", expected=expected, observed=observed)

    @property
    def note(self) -> str:
        return (
            f"requests for {self.taken} go to the HTTPRoute '{self.name}' ({self.whose}, {self.made_at}): it was left "
            "as it is"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """All HTTPRoutes that may be looked at. ``unseen``: why not all are, None where they are."""

    routes: Sequence[Object]
    unseen: str | None = None


def listed(api: Api, namespace: str) -> Listed:
    """Return the HTTPRoutes of all namespaces, or of this one alone where no others can be listed."""
    try:
        return Listed(routes=api.list(ROUTE, None, {}))
    except ProviderError as error:
        if error.retry_after_s is not None:
            raise
        why = error
    try:
        own, where = api.list(ROUTE, namespace, {}), f"of other namespaces than '{namespace}'"
    except ProviderError as error:
        if error.retry_after_s is not None:
            raise
        own, where, why = (), "at all", error
    missed = "one of somebody else's that takes requests for its names would not be found"
    if not isinstance(why, Forbidden):
        return Listed(routes=own, unseen=f"HTTPRoutes {where} were not looked at ({why.message}): {missed}")
    role = "the ClusterRole for it is in what instar kubernetes rbac prints"
    return Listed(routes=own, unseen=f"these credentials may not list HTTPRoutes {where}: {missed} ({role})")


def taking(routes: Sequence[Object], own: tuple[str, str], place: Place, sites: Sequence[str]) -> Iterator[OtherRoute]:
    """Yield the routes that take requests for ``sites`` ("shop.example/api"); ``own``: the environment's (namespace,
    name)."""
    mine = next((one for one in routes if _named(one) == own), None)
    for other in routes:
        if _named(other) == own or place.gateway is None or not _is_served(other, place.gateway):
            continue
        older = mine is None or _age(other) < _age(mine)
        takes = tuple(dict.fromkeys(taken for site in sites for taken in _taken(site, other, older=older)))
        if takes:
            made_at = f"made at {(other['metadata'].get('creationTimestamp') or 'a time that is not known')}"
            yield OtherRoute(name="/".join(_named(other)), takes=takes, whose=_whose(other), made_at=made_at)


def _named(route: Object) -> tuple[str, str]:
    metadata = route.get("metadata") or {}
    return str(metadata.get("namespace")), str(metadata.get("name"))


def _age(route: Object) -> tuple[str, str]:
    return str((route.get("metadata") or {}).get("creationTimestamp") or ""), "/".join(_named(route))


def _is_served(route: Object, gateway: tuple[str, str]) -> bool:
    """Tell whether it is for that Gateway, which has not refused it."""
    namespace = _named(route)[0]

    def is_it(parent: Object) -> bool:
        kinds = (parent.get("group", GATEWAY.group), parent.get("kind", GATEWAY.name))
        where = (parent.get("namespace") or namespace, parent.get("name"))
        return kinds == (GATEWAY.group, GATEWAY.name) and where == gateway

    asked = [one for one in (route.get("spec") or {}).get("parentRefs") or () if is_it(one)]
    said = [
        one.get("status")
        for parent in (route.get("status") or {}).get("parents") or ()
        if is_it(parent.get("parentRef") or {})
        for one in parent.get("conditions") or ()
        if one.get("type") == "Accepted"
    ]
    return bool(asked) and not (said and all(one == "False" for one in said))


def _taken(site: str, other: Object, *, older: bool) -> Iterator[str]:
    host, slash, rest = site.partition("/")
    spec = other.get("spec") or {}
    for theirs in spec.get("hostnames") or ():
        longer = host.startswith("*.") and theirs != host and str(theirs).endswith(host[1:])
        if theirs != host and not longer:
            continue
        for match in _matches(spec):
            path = _path_taken(match, f"{slash or '/'}{rest}", wins=longer or older, longer=longer)
            if path is not None:
                yield f"{theirs}{path if path != '/' else ''}"


def _matches(spec: Object) -> Iterator[Object]:
    everything: Object = {}
    for rule in spec.get("rules") or (everything,):
        yield from rule.get("matches") or (everything,)


def _path_taken(match: Object, own: str, *, wins: bool, longer: bool) -> str | None:
    """Return the path of which requests go to a match, of those below ``own``; None: of none. ``wins``: of the same
    one they do; ``longer``: its name is the longer one, which counts before any path."""
    said = match.get("path") or {}
    kind, path = str(said.get("type") or "PathPrefix"), str(said.get("value") or "/")
    if kind == "RegularExpression":  # which of two it is then, each gateway says for itself
        return f"{path} (a regular expression)"
    if kind == "PathPrefix" and longer and _is_below(own, path):
        return own
    if not _is_below(path, own):
        return None
    narrower = any(match.get(key) for key in ("method", "headers", "queryParams"))
    same = kind == "PathPrefix" and path.rstrip("/") == own.rstrip("/")
    if same and not (wins or narrower):
        return None
    return f"{path} (some of them)" if narrower else path


def _is_below(path: str, above: str) -> bool:
    return path.rstrip("/") == above.rstrip("/") or path.startswith(f"{above.rstrip('/')}/")


def _whose(route: Object) -> str:
    """Return whose a route is, as it says itself."""
    metadata = route.get("metadata") or {}
    labels = metadata.get("labels") or {}
    if labels.get(MANAGED_BY) == "instar":
        return f"Instar's, of the environment '{labels.get(SERVICE)}/{labels.get(ENVIRONMENT)}'"
    if MANAGED_BY in labels:
        return f"managed by '{labels[MANAGED_BY]}'"
    writers = [one.get("manager") for one in metadata.get("managedFields") or () if one.get("subresource") is None]
    return f"of '{' '.join(str(writers[0]).split())[:_LONGEST]}'" if writers else "nobody says whose"
