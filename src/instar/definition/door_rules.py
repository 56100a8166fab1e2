"""The rules of doors: how the ports of a service are reached, in each of its environments. ``rules`` asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from instar.definition.address_forms import HEADER, INTERNAL
from instar.definition.problems import Mark, Problems, listed, nearest
from instar.definition.section import Reading, blame, readings
from instar.definition.shapes import FAILED
from instar.definition.source import Listing, Node
from instar.definition.source import Mapping as MapNode
from instar.model.roles import SERVICE

ALONE: Final = ""  # of what is written without a door


def written(one: Reading) -> Mapping[str, Any]:
    """Return what an environment listens at, by door as it is written: a list, or FAILED."""
    listen = one.get("listen")
    return listen if isinstance(listen, dict) else {ALONE: listen}


def nodes(one: Reading) -> Iterator[tuple[str, Any, Node]]:
    """Yield each address, word or section of ``listen``, with the key of its door, and where it stands."""
    node = one.node_of("listen")
    for door, listen in written(one).items():
        at = node.entries[door] if door != ALONE and isinstance(node, MapNode) else node
        key = f"listen.{door}" if door != ALONE else "listen"
        yield from ((key, *one) for one in zip(() if listen is FAILED else listen, _items(at), strict=False))


def addresses(one: Reading) -> Iterator[tuple[str, str, Mark]]:
    """Yield every socket of an environment: its key, the address, and where that stands."""
    for key, address, where in nodes(one):
        if isinstance(address, Reading):
            inner, node = address.get("address"), address.node_of("address")
            for each, at in zip(() if inner is FAILED else inner, _items(node), strict=False):
                yield from [(key, each, at.mark)] if each is not FAILED else []
        elif address not in (FAILED, INTERNAL):
            yield key, address, where.mark
    preview = one.get("preview")
    if preview not in (None, FAILED, HEADER):
        yield "preview", preview, one.node_of("preview").mark


def _items(node: Node) -> list[Node]:
    return node.items if isinstance(node, Listing) else [node]


def sections(one: Reading) -> list[Reading]:
    """Return the sections of ``listen``, of all doors."""
    return [section for listen in written(one).values() for section in readings(listen)]


def of_first(one: Reading, service: Reading) -> Any:
    """Return what is listened at for the port of ``service``: a list, none, or FAILED."""
    known = written(one)
    return known[ALONE] if ALONE in known else known.get(_role(service), ())


def speaks_http(one: Reading, service: Reading, known: Mapping[str, Reading]) -> bool:
    """Tell whether any door leads to a port that speaks http, or nobody can tell. ``known``: the roles, none where
    there is but the ``service``."""
    doors = written(one)
    if service.get("protocol") != "tcp" or FAILED in doors.values():
        return True
    return any(_protocol(known.get(door.partition(".")[0], service), door) != "tcp" for door in doors)


def _protocol(role: Reading, door: str) -> Any:
    port = door.partition(".")[2]
    if not port:
        return role.get("protocol")
    named = role.get("ports")
    spoken = named.get(port) if isinstance(named, dict) else None
    return spoken.get("protocol") if isinstance(spoken, Reading) else "http"


def ports(reading: Reading, problems: Problems) -> None:
    """Further ports go with a first one, and each is another."""
    named, first = reading.get("ports"), reading.get("port")
    if named is FAILED or not named or first is FAILED:
        return
    if first is None:
        blame(reading, "ports", problems, "these are further ones; say the first as 'port', which is checked")
        return
    taken = {first: "the first one's"}
    for name, one in named.items():
        number = one.get("port") if isinstance(one, Reading) else one
        if number is FAILED:
            continue
        if number in taken:
            blame(reading, "ports", problems, f"'{name}' is port {number}, which is {taken[number]} already")
        taken.setdefault(number, f"'{name}'s")


def environment(one: Reading, service: Reading, known: Mapping[str, Reading], problems: Problems) -> None:
    """Each door is of a port that there is. ``known``: the roles, none where there is but the ``service``."""
    listen = one.get("listen")
    if not isinstance(listen, dict):
        if listen not in (FAILED, ()):
            _require_all(one, {}, service, known, problems)
        return
    roles = dict(known) or {SERVICE: service}
    for door, wanted in listen.items():
        role, _, port = door.partition(".")
        trouble = _trouble(roles, role, port)
        if trouble is None and door != _role(service):
            trouble = _unfit(roles[role], port, wanted)
        if trouble is not None:
            node = one.node_of("listen")
            at = node.entries[door] if isinstance(node, MapNode) else node
            problems.add(at.key_mark or at.mark, f"{one.path}.listen.{door}: {trouble}")
    first = _role(service)
    if service.get("port") not in (None, FAILED) and first not in listen:
        blame(one, "listen", problems, f"'{first}' is missing: say where its port is reached, or '{first}: {INTERNAL}'")
    _require_all(one, listen, service, known, problems)


def _require_all(
    one: Reading, listen: Mapping[str, Any], service: Reading, known: Mapping[str, Reading], problems: Problems
) -> None:
    """Each role with a port has a door, besides the first, which is asked for elsewhere."""
    for role, reading in known.items():
        if role != _role(service) and reading.get("port") not in (None, FAILED) and role not in listen:
            shown = f"'{{{_role(service)}: …, {role}: {{https: [{role}.example]}}}}'"
            blame(one, "listen", problems, f"'{role}' is missing: it has a port; say where that is reached, as {shown}")


def _trouble(roles: Mapping[str, Reading], role: str, port: str) -> str | None:
    if role not in roles:
        near = nearest(role, roles)
        advice = f"did you mean '{near}'?" if near else f"expected {listed(roles)}"
        return f"there is no role '{role}'; {advice}"
    if roles[role].get("port") is None:
        return f"'{role}' has no port to send requests to; add {roles[role].path}.port, or remove this"
    named = roles[role].get("ports")
    if not port or named is FAILED or port in named:
        return None
    near = nearest(port, named)
    advice = f"did you mean '{near}'?" if near else f"add it to {roles[role].path}.ports, or remove this"
    return f"'{role}' has no port '{port}'; {advice}"


def _unfit(role: Reading, port: str, wanted: Any) -> str | None:
    """Return what a door of a further port, or of another role, can't be."""
    if wanted is FAILED:
        return None
    if INTERNAL in wanted and port:
        told = "or no door at all (" if port else "("
        return f"only the first port is found by name; give it an address, {told}it is '{role.path}.port')"
    found = {key for section in readings(wanted) for key in section.values}
    for key in ("hsts", "client_ca"):
        if key in found:
            return f"'{key}' holds for all names of an environment; say it at the first port's"
    named = role.get("ports")
    spoken = (named.get(port) if isinstance(named, dict) else None) if port else role
    if found - {"address"} and isinstance(spoken, Reading) and spoken.get("protocol") == "tcp":
        return "only requests of http can come by name, and the port is of tcp; give it an address: 127.0.0.1:9000"
    return None


def _role(service: Reading) -> str:
    return service.path.partition("roles.")[2] or SERVICE
