"""Routes that somebody else made for a name of an environment, at its own Gateway or at one beside it: which of them
take requests from it, whose they are, and since when. They are found and named, and never touched.

Source: gateway.networking.k8s.io/v1, HTTPRouteSpec.hostnames and HTTPRouteRule.matches: the longest name, the exact
path, then the longest one; then a method, most headers, most parameters; then the older route, and its name. GRPCRoutes
are held against HTTPRoutes alike; of connections that a TLSRoute or a TCPRoute takes no gateway sees requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from instar.frozen import dataclass
from instar.model.drift import Finding
from instar.providers.kubernetes.kinds import GATEWAY, GRPC_ROUTE, ROUTE, TCP_ROUTE, TLS_ROUTE, Kind
from instar.providers.kubernetes.names import ENVIRONMENT, MANAGED_BY, SERVICE
from instar.providers.kubernetes.other_listing import Listed, beside, listeners, named
from instar.providers.kubernetes.route import further_parts
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
    kind: str = ROUTE.name

    @property
    def taken(self) -> str:
        more = f" and {len(self.takes) - _SHOWN} more" if len(self.takes) > _SHOWN else ""
        return f"{', '.join(self.takes[:_SHOWN])}{more}"

    @property
    def finding(self) -> Finding:
        expected, observed = f"requests for {self.taken} are its own", f"it takes them: {self.whose}, {self.made_at}"
        return Finding(instance=None, kind=KIND, path=f"{self.kind} {self.name}", expected=expected, observed=observed)

    @property
    def note(self) -> str:
        return (
            f"requests for {self.taken} go to the {self.kind} '{self.name}' ({self.whose}, {self.made_at}): it was "
            "left as it is"
        )


def taking(listed: Listed, own: tuple[str, str], place: Place, sites: Sequence[str]) -> Iterator[OtherRoute]:
    """Yield what takes requests for ``sites`` ("shop.example/api"); ``own``: the environment's first route (namespace,
    name), which says what others are its own."""
    if place.gateway is None:
        return
    others = tuple(beside(listed.gateways, place.gateway))
    served = {place.gateway, *map(named, others)}
    first = next((one for one in listed.routes if named(one) == own), None)
    parts = further_parts(first) if first is not None else ()
    names = {own, *((own[0], f"{own[1]}.{part}") for part in parts)}
    mine = [one for one in listed.routes if named(one) in names]
    calls = ((GRPC_ROUTE, _as_http(one)) for one in listed.grpc)
    for kind, other in (*((ROUTE, one) for one in listed.routes), *calls):
        if (kind == ROUTE and named(other) in names) or not _is_served(other, served):
            continue
        each = ((site, _is_older(other, site, mine)) for site in sites)
        yield from _other(kind, other, (taken for site, older in each for taken in _taken(site, other, older=older)))
    for other in listed.tls:
        if _is_served(other, served):
            yield from _other(TLS_ROUTE, other, _hosts_taken(sites, (other.get("spec") or {}).get("hostnames") or ()))
    for other in listed.tcp:  # of the same gateway no port is one of TCP and one of HTTP
        if _is_served(other, served - {place.gateway}):
            yield from _other(TCP_ROUTE, other, sites)
    for other in others:
        hosts = [one["hostname"] for one in listeners(other) if one.get("hostname")]
        yield from _other(GATEWAY, other, _hosts_taken(sites, hosts))


def _other(kind: Kind, found: Object, takes: Iterable[str]) -> Iterator[OtherRoute]:
    taken = tuple(dict.fromkeys(takes))
    if taken:
        made_at = f"made at {(found['metadata'].get('creationTimestamp') or 'a time that is not known')}"
        name = "/".join(named(found))
        yield OtherRoute(kind=kind.name, name=name, takes=taken, whose=_whose(found), made_at=made_at)


def _hosts_taken(sites: Sequence[str], theirs: Iterable[str]) -> Iterator[str]:
    """Yield the names, and names below one with a wildcard, of which all requests go to who has ``theirs``."""
    for one in map(str, theirs):
        if any(one == host or _is_longer(one, host) for host in (site.partition("/")[0] for site in sites)):
            yield one


def _is_longer(theirs: str, host: str) -> bool:
    """Tell whether a name is one of those that ``host`` stands for with its wildcard."""
    return host.startswith("*.") and theirs != host and theirs.endswith(host[1:])


def _as_http(found: Object) -> Object:
    """Return a GRPCRoute as the HTTPRoute that it is to a gateway: a call is a request for /SERVICE/METHOD.

    Source: GRPCRouteMatch of the Gateway API."""
    spec = found.get("spec") or {}
    rules = [{"matches": [_grpc_match(one) for one in rule.get("matches") or ()]} for rule in spec.get("rules") or ()]
    return {**found, "spec": {**spec, "rules": rules}}


def _grpc_match(match: Object) -> Object:
    called = match.get("method") or {}
    service, method = called.get("service"), called.get("method")
    if called.get("type") == "RegularExpression" or (method and not service):
        path = {"type": "RegularExpression", "value": f"/{service or '.+'}/{method or '.+'}"}
    elif service:
        kind, value = ("Exact", f"/{service}/{method}") if method else ("PathPrefix", f"/{service}")
        path = {"type": kind, "value": value}
    else:
        path = {"type": "PathPrefix", "value": "/"}
    return {"path": path, "headers": match.get("headers") or ()}


def _age(route: Object) -> tuple[str, str]:
    return str((route.get("metadata") or {}).get("creationTimestamp") or ""), "/".join(named(route))


def _is_older(other: Object, site: str, mine: Sequence[Object]) -> bool:
    """Tell whether a route is older than those of the environment's own that have a name."""
    host = site.partition("/")[0]
    having = [one for one in mine if host in ((one.get("spec") or {}).get("hostnames") or (host,))]
    return not having or _age(other) < min(map(_age, having))


def _is_served(route: Object, gateways: Collection[tuple[str, str]]) -> bool:
    """Tell whether it is for one of these Gateways, which has not refused it."""
    namespace = named(route)[0]

    def is_it(parent: Object) -> bool:
        kinds = (parent.get("group", GATEWAY.group), parent.get("kind", GATEWAY.name))
        where = (parent.get("namespace") or namespace, parent.get("name"))
        return kinds == (GATEWAY.group, GATEWAY.name) and where in gateways

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
        longer = _is_longer(str(theirs), host)
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
