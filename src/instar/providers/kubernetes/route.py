"""The environment's HTTPRoute: weights behind a Gateway. Source: gateway.networking.k8s.io/v1."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from instar.errors import RouterError, RouterUnreachable
from instar.model.definition import Service
from instar.providers.kubernetes.annotations import annotation_json, whole
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.kinds import GATEWAY
from instar.providers.kubernetes.names import (
    DOORS,
    FIRST_PART,
    MAINTENANCE,
    PLAN,
    REDIRECTS,
    Names,
    door_part,
    group_numbers,
    role_inside,
)

HEADER: Final = "X-Instar-Release"
ASKED: Final = "X-Instar-Route"  # of our own questions: what about
VERSION: Final = "version"
_NOWHERE: Final = ".instar.invalid"  # RFC 6761: no such name leads anywhere
_MOST_RULES: Final = 16  # of an HTTPRoute
MOST_ROUTES: Final = 200  # of an environment
_MOST_PARTS: Final = 2 * MOST_ROUTES  # with those that go while others come
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?|/")
_LONGEST_PATH: Final = 256
_PART_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_RELEASE: Final = re.compile(r"[0-9]{1,18}")
_MOST_WEIGHT: Final = 1_000_000  # HTTPBackendRef.weight
_MOST_PORT: Final = 65_535


def route(door: Door, names: Names, gateway: tuple[str, str], part: str = "") -> Mapping[str, Any]:
    """Return the HTTPRoute that ``door`` is behind a Gateway (namespace, name): ``part`` of the environment's."""
    paths = [{"path": {"type": "PathPrefix", "value": one}} for one in door.paths]
    rules = [
        {"matches": _asking(paths, HEADER, str(release))} | _sending(door, {name: 1})
        for release, name in sorted(door.previews.items())
    ]
    rules += [*_group_rules(door, _MOST_RULES - len(rules) - 2), *_version_rule(door, names, paths)]
    shares = {name: 0 if door.maintenance else one.weight for name, one in door.backends.items()}
    main: dict[str, Any] = {
        "matches": paths,
        **(_sending(door, shares) if door.redirect is None else _sent_on(door.redirect)),
    }
    annotations = {PLAN: door.plan or "", **({DOORS: json.dumps(dict(sorted(door.more.items())))} if door.more else {})}
    if door.maintenance is not None:
        service, port = door.maintenance
        annotations[MAINTENANCE] = json.dumps({"service": service, "port": port, "weights": dict(door.weights)})
        main["backendRefs"] = [*main.get("backendRefs", ()), {"name": service, "port": port, "weight": 1}]
    namespace, name = gateway
    parent = {"group": GATEWAY.group, "kind": GATEWAY.name, "namespace": namespace, "name": name}
    spec: dict[str, Any] = {"parentRefs": [parent], "rules": [*rules, main]}
    if door.hosts:
        spec["hostnames"] = list(door.hosts)
    metadata: dict[str, Any] = {
        "name": names.route_of(part),
        "labels": dict(names.all_labels),
        "annotations": annotations,
    }
    if door.version is not None:
        metadata["resourceVersion"] = door.version
    return {"metadata": metadata, "spec": spec}


def _sent_on(to: tuple[str, str | None]) -> Mapping[str, Any]:
    """Return the rule that sends requests to another name, at the path that they ask for: for good, which is 301 there
    (308 is of no version of the API's that all gateways know)."""
    host, scheme = to
    redirect = {**({"scheme": scheme} if scheme else {}), "hostname": host, "statusCode": 301}
    return {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}


def _read_redirect(rule: Mapping[str, Any]) -> tuple[str, str | None] | None:
    found = [one.get("requestRedirect") or {} for one in rule.get("filters") or ()]
    host = found[0].get("hostname") if found else None
    return (str(host), found[0].get("scheme")) if host else None


def version_mark(names: Names) -> str:
    """Return how the versions of an environment's route begin, and no other's."""
    whose = f"{names.ledger} {names.environment}"
    return f"{hashlib.sha256(whose.encode()).hexdigest()[:8]}-"


def version_host(names: Names, answers: str) -> str:
    """Return the host that whoever asks for the version is sent to: it says that, and no more."""
    return f"{version_mark(names)}{answers}{_NOWHERE}"


def asked_path(service: Service) -> str:
    """Return the path at which a group is asked through the gateway: of its health check where that is a plain one."""
    path = service.health.path if service.health.kind == "http" else None
    fits = path is not None and len(path) <= _LONGEST_PATH and _PATH.fullmatch(path)
    return path if path is not None and fits else "/"


def _group_rules(door: Door, most: int) -> list[dict[str, Any]]:
    """Return the rules by which each group is asked for itself, of the newest ones where there is no room for all."""
    asked = sorted((group_numbers(name), name) for name, one in door.backends.items() if one.asked is not None)
    made = []
    for _, name in asked[-most:] if most > 0 else ():
        one = door.backends[name]
        match = {
            "path": {"type": "Exact", "value": one.asked},
            "headers": [{"name": ASKED, "value": name}],
            "method": "GET",  # as Instar asks: nobody writes to a release that has no traffic
        }
        made.append({"matches": [match], "backendRefs": [{"name": name, "port": one.port, "weight": 1}]})
    return made


def as_asked(made: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a route that was made with no methods in the rules of which ``found`` has none either: an older Instar
    wrote it so. Whoever else takes them away has written to it, which is seen apart."""
    there = (found.get("spec") or {}).get("rules") or ()
    rules = list(made["spec"]["rules"])
    for number, (rule, other) in enumerate(zip(rules, there, strict=False)):
        if not any(match.get("method") for match in other.get("matches") or ()):
            matches = [{key: one for key, one in match.items() if key != "method"} for match in rule["matches"]]
            rules[number] = {**rule, "matches": matches}
    return {**made, "spec": {**made["spec"], "rules": rules}}


def _asking(paths: Sequence[Mapping[str, Any]], header: str, value: str) -> list[Mapping[str, Any]]:
    return [{**path, "headers": [{"name": header, "value": value}]} for path in paths]


def _version_rule(door: Door, names: Names, paths: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    if door.answers is not None:
        to = {"hostname": version_host(names, door.answers), "statusCode": 302}
        yield {
            "matches": _asking(paths, ASKED, VERSION),
            "filters": [{"type": "RequestRedirect", "requestRedirect": to}],
        }


def said_otherwise(made: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an HTTPRoute that shares requests just so, and is another version to whoever reads it: its backends in the
    other order, or the weight of the only one."""
    spec = made["spec"]
    rules = [
        {**rule, "backendRefs": _turned(rule["backendRefs"])} if "backendRefs" in rule else rule
        for rule in spec["rules"]
    ]
    return {**made, "spec": {**spec, "rules": rules}}


def _turned(backends: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of an only one that gets nothing there is no other way to say so."""
    if len(backends) > 1:
        return list(reversed(backends))
    return [{**one, "weight": one["weight"] + 1 if one["weight"] else 0} for one in backends]


def read_route(found: Mapping[str, Any], key: str = "") -> Door:
    """Return what an HTTPRoute of ours, of the door ``key``, says: what it has besides is drift, and found there."""
    metadata, spec = found.get("metadata") or {}, found.get("spec") or {}
    rules = spec.get("rules") or []
    previews: dict[int, str] = {}
    main: Mapping[str, Any] = {}
    asked, answers = _questions(rules)
    for rule in rules:
        release = _previewed(rule)
        if release is None:
            main = main if _asks_about(rule) else rule
        elif refs := rule.get("backendRefs"):
            previews[release] = str(refs[0].get("name"))
    annotations = metadata.get("annotations") or {}
    maintenance, weights = _maintained(annotations.get(MAINTENANCE))
    if maintenance not in {(one.get("name"), one.get("port")) for one in main.get("backendRefs") or ()}:
        maintenance = None  # somebody wrote that there alone: Instar would send requests to a Service of theirs
    backends = {
        str(one.get("name")): Backend(
            port=int(one.get("port") or 0),
            weight=int(one.get("weight", 1)) if maintenance is None else weights.get(str(one.get("name")), 0),
            asked=asked.get(str(one.get("name"))),
        )
        for one in main.get("backendRefs") or ()
        if maintenance is None or (one.get("name"), one.get("port")) != maintenance
    }
    return Door(
        key=key,
        more={} if key else further_parts(found),
        plan=annotations.get(PLAN) or None,
        hosts=tuple(spec.get("hostnames") or ()),
        paths=tuple((one.get("path") or {}).get("value") or "/" for one in main.get("matches") or [{}]),
        request_timeout_ms=_milliseconds((main.get("timeouts") or {}).get("request")),
        backends=backends,
        previews=previews,
        maintenance=maintenance,
        redirect=_read_redirect(main) if key == REDIRECTS else None,
        version=metadata.get("resourceVersion"),
        answers=answers,
    )


def further_parts(found: Mapping[str, Any]) -> Mapping[str, str]:
    """Return which parts an environment has besides its first route, by their names, and of which doors they are: none
    where more are said than there can be, each of which would be asked for."""
    said = annotation_json(said_parts(found))
    if len(said) > _MOST_PARTS:
        return {}
    return {part: key for part, key in said.items() if isinstance(key, str) and _is_part_of(part, key)}


def said_parts(found: Mapping[str, Any]) -> object:
    """Return the words of a first route about its further ones; None where it has none."""
    return ((found.get("metadata") or {}).get("annotations") or {}).get(DOORS)


def _is_part_of(part: str, key: str) -> bool:
    """Tell whether a name is one that Instar gives to a route of a door: an annotation may be anybody's."""
    number = part.rpartition(".")[2]
    has_numbers = role_inside(key) is None and _PART_NUMBER.fullmatch(number)
    known = {door_part(key), *([door_part(key, int(number))] if has_numbers else [])}
    return part in known - {FIRST_PART}


def require_settled(found: Mapping[str, Any], gateway: tuple[str, str]) -> None:
    """Raise RouterUnreachable as long as the Gateway has not taken up what an HTTPRoute says, RouterError where it
    refuses it: then it does what it did."""
    metadata = found.get("metadata") or {}
    name, generation = metadata.get("name"), metadata.get("generation") or 0
    seen = [one for one in (found.get("status") or {}).get("parents") or () if _is_of(one, metadata, gateway)]
    taken = {
        one.get("type"): one
        for parent in seen
        for one in parent.get("conditions") or ()
        if (one.get("observedGeneration") or 0) >= generation
    }
    where = f"the Gateway '{'/'.join(gateway)}'"
    accepted, resolved = taken.get("Accepted"), taken.get("ResolvedRefs")
    if accepted is None:
        raise RouterUnreachable(f"{where} has not taken up the HTTPRoute '{name}' yet")
    if accepted.get("status") != "True":
        raise RouterError(
            f"{where} refuses the HTTPRoute '{name}': {accepted.get('message') or accepted.get('reason')}",
            hint="its listeners say which names, and routes of which namespaces, it takes: kubectl describe gateway",
        )
    if resolved is not None and resolved.get("status") != "True" and read_route(found).weights:
        raise RouterUnreachable(f"{where} cannot send requests of '{name}' yet: {resolved.get('message')}")


def is_unresolved(found: Mapping[str, Any]) -> bool:
    """Tell whether a Gateway says of an HTTPRoute that something is not there which it sends requests to."""
    parents = (found.get("status") or {}).get("parents") or ()
    told = [one for parent in parents for one in parent.get("conditions") or () if one.get("type") == "ResolvedRefs"]
    return any(one.get("status") == "False" for one in told)


def _maintained(text: object) -> tuple[tuple[str, int] | None, Mapping[str, int]]:
    """Return what a route in maintenance sends requests to, and the weights that it has after it."""
    found = annotation_json(text)
    service, port, weights = found.get("service"), whole(found.get("port"), _MOST_PORT), found.get("weights")
    if not isinstance(service, str) or port is None or not isinstance(weights, dict):
        return None, {}
    each = ((name, whole(weight, _MOST_WEIGHT)) for name, weight in weights.items())
    return (service, port), {name: weight for name, weight in each if weight is not None}


def _sending(door: Door, shares: Mapping[str, int]) -> dict[str, Any]:
    """Return what a rule does: an empty one answers that there is nobody."""
    made: dict[str, Any] = {}
    if shares:
        made["backendRefs"] = [
            {"name": name, "port": door.backends[name].port, "weight": weight}
            for name, weight in sorted(shares.items())
        ]
    if door.request_timeout_ms:
        made["timeouts"] = {"request": _duration(door.request_timeout_ms)}
    return made


def _is_of(parent: Mapping[str, Any], metadata: Mapping[str, Any], gateway: tuple[str, str]) -> bool:
    asked = parent.get("parentRef") or {}
    return (asked.get("namespace") or metadata.get("namespace"), asked.get("name")) == gateway


def _previewed(rule: Mapping[str, Any]) -> int | None:
    for match in rule.get("matches") or ():
        for header in match.get("headers") or ():
            value = str(header.get("value"))
            if str(header.get("name")).lower() == HEADER.lower() and _RELEASE.fullmatch(value):
                return int(value)
    return None


def _asks_about(rule: Mapping[str, Any]) -> str | None:
    """Return what a rule answers questions of ours about: VERSION, or a group; None: it is no such rule."""
    headers = (header for match in rule.get("matches") or () for header in match.get("headers") or ())
    return next((str(one.get("value")) for one in headers if str(one.get("name")).lower() == ASKED.lower()), None)


def _questions(rules: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, str], str | None]:
    """Return at which path each group is asked for itself, and which version the route says that it is."""
    paths: dict[str, str] = {}
    version = None
    for rule in rules:
        about = _asks_about(rule)
        if about == VERSION:
            filters = rule.get("filters") or [{}]
            host = str((filters[0].get("requestRedirect") or {}).get("hostname") or "")
            version = host.removesuffix(_NOWHERE).rpartition("-")[2] if host.endswith(_NOWHERE) else None
        elif about is not None:
            path = ((rule.get("matches") or [{}])[0].get("path") or {}).get("value")
            paths |= {about: path} if isinstance(path, str) and _PATH.fullmatch(path) else {}
    return paths, version


def _duration(milliseconds: int) -> str:
    """Return it as the API has it, of which no number has more than five digits. Source: Gateway API, GEP-2257."""
    text, left = "", milliseconds
    for unit, each in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, each)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _milliseconds(text: object) -> int:
    """Return what the API's duration says ("1m30s"), as Instar writes it; 0: none is said."""
    units = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
    parts = re.findall(r"([0-9]{1,5})(ms|h|m|s)", text) if isinstance(text, str) else []
    return sum(int(number) * units[unit] for number, unit in parts)
