"""The rules between the roles of a definition, and between them and its environments; ``rules`` asks for them."""

from __future__ import annotations

from typing import Any

from instar.definition import schedule_rules
from instar.definition.layers import Settled
from instar.definition.problems import Problems, listed, nearest
from instar.definition.section import Reading, blame, readings
from instar.definition.shapes import FAILED

_WITHOUT_PORT = "the role has no port, so there is no candidate that could be asked; 'health' says how it is well"


def definition(reading: Reading, problems: Problems) -> None:
    """A service has one process, or several roles; each of these goes with the others."""
    roles = _of(reading)
    if "roles" not in reading.values or reading.get("roles") is FAILED:
        return
    if "service" in reading.values:
        advice = "make what is in 'service' one of the 'roles', or remove these"
        problems.add(reading.node_of("roles").mark, f"roles: a service has 'service' or 'roles'; {advice}")
        return
    if not reading.get("roles"):
        problems.add(reading.node_of("roles").mark, "roles: expected one role or more, such as 'web: {command: […]}'")
    _check_volumes(roles, problems)
    _check_said_once(roles, "data", problems)
    for one in roles.values():
        if one.get("port") is None and "smoke" in one.values:
            blame(one, "smoke", problems, _WITHOUT_PORT)
        if one.get("port") not in (None, FAILED) and "with" in one.values:
            blame(one, "with", problems, "the role has a port: it gets its traffic as 'rollout' says; remove it")
        alone(one, one, one.get("instances"), problems)


def first(reading: Reading) -> Reading | None:
    """Return the section of what requests go to: the service, or the first of the roles; None where it can't be
    read."""
    if "roles" not in reading.values:
        service = reading.get("service")
        return service if isinstance(service, Reading) else None
    roles = list(_of(reading).values())
    return next((one for one in roles if one.get("port") not in (None, FAILED)), next(iter(roles), None))


def holding_in(one: Reading, reading: Reading, problems: Problems) -> Reading:
    """Return the definition as it holds in an environment, which may have instances run otherwise."""
    node = one.node
    if not isinstance(node, Settled) or (node.service is None and node.roles is None):
        return reading
    values, found = dict(reading.values), Problems(problems.file)
    for key, said in (("service", node.service), ("roles", node.roles)):
        if said is not None:
            values[key] = reading.section.keys[key].shape.read(said, key, found)
    one.own = Reading(reading.section, reading.node, "", values)
    definition(one.own, found)
    known = set(problems)
    for mark, message in found:  # what is said in no environment is wrong only here, unless it is already
        here = "" if mark in node.layered or (mark, message) in known else f", in '{one.path}'"
        problems.add(mark, message + here)
    return one.own


def environment(one: Reading, reading: Reading, problems: Problems) -> None:
    """What an environment says of roles is about roles that there are."""
    asked, known = one.get("roles"), _of(reading)
    if reading.get("roles") is not FAILED:
        schedule_rules.environment(one, list(known) if "roles" in reading.values else [], problems)
    if "roles" in one.values and "roles" not in reading.values:
        blame(one, "roles", problems, "the definition has no 'roles', but one 'service'; remove it")
        return
    if known and "instances" in one.values:
        shown = next(iter(known))
        advice = f"say of which role, such as 'roles: {{{shown}: {{instances: 2}}}}'"
        blame(one, "instances", problems, f"there are several roles; {advice}")
    for name, own in asked.items() if isinstance(asked, dict) and reading.get("roles") is not FAILED else ():
        if name not in known:
            near = nearest(name, known)
            advice = f"did you mean '{near}'?" if near else f"expected {listed(known)}"
            problems.add(own_mark(one, name), f"{one.path}.roles: there is no role '{name}'; {advice}")
        elif name in known and isinstance(own, Reading):
            if "with" in own.values and known[name].get("port") not in (None, FAILED):
                blame(own, "with", problems, "the role has a port: it gets its traffic as 'rollout' says; remove it")
            alone(known[name], own, bound_of(own.get("instances"), "max"), problems)


def bound_of(found: Any, bound: str) -> Any:
    """Return how many instances are said, of an autoscaler's the least ("min") or the most ("max")."""
    return found.get(bound) if isinstance(found, Reading) else found


def instances(one: Reading, service: Reading) -> Any:
    """Return how many instances an environment has of its first role, whose section is ``service``."""
    _, _, role = service.path.partition("roles.")
    asked = one.get("roles")
    own = asked.get(role) if isinstance(asked, dict) else None
    return own.get("instances") if isinstance(own, Reading) and "instances" in own.values else service.get("instances")


def own_mark(one: Reading, name: str) -> tuple[int, int]:
    """Return where an environment speaks of a role."""
    node = one.node_of("roles")
    found = getattr(node, "entries", {}).get(name)
    return node.mark if found is None else found.key_mark or found.mark


def by_name(reading: Reading) -> dict[str, Reading]:
    """Return the roles, as far as they could be read; none where there is but the service."""
    return _of(reading)


def _of(reading: Reading) -> dict[str, Reading]:
    found = reading.get("roles")
    return {name: one for name, one in found.items() if isinstance(one, Reading)} if isinstance(found, dict) else {}


def _check_volumes(roles: dict[str, Reading], problems: Problems) -> None:
    """A volume is the same for all roles, and an exclusive one belongs to one of them."""
    taken: dict[str, tuple[str, Reading]] = {}
    for role, one in roles.items():
        for volume in readings(one.get("volumes")):
            name = volume.get("name")
            if name is FAILED:
                continue
            other, before = taken.setdefault(name, (role, volume))
            if other == role:
                continue
            if "exclusive" in (volume.get("access"), before.get("access")):
                advice = "write 'access: shared' in both where each can work beside the other"
                blame(
                    volume, "name", problems, f"role '{other}' has volume '{name}' too, and it is exclusive; {advice}"
                )
            elif volume.get("size") != before.get("size") and FAILED not in (volume.get("size"), before.get("size")):
                blame(volume, "name", problems, f"role '{other}' has volume '{name}' too, of another 'size'")


def _check_said_once(roles: dict[str, Reading], key: str, problems: Problems) -> None:
    said = [(name, one) for name, one in roles.items() if key in one.values]
    for _, one in said[1:]:
        blame(one, key, problems, f"it is about the whole release, and role '{said[0][0]}' says it already; remove it")


def alone(role: Reading, says: Reading, count: Any, problems: Problems) -> None:
    """Refuse several instances of what has an exclusive volume, where ``says`` has how many there are."""
    if count in (None, FAILED) or count <= 1:
        return
    for volume in readings(role.get("volumes")):
        if volume.get("access") == "exclusive":
            advice = f"volume '{volume.get('name')}' is exclusive: one instance at a time (or 'access: shared')"
            blame(says, "instances", problems, f"expected 1, found {count}; {advice}")
            return
