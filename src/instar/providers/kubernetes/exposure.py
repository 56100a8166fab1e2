"""By which doors the groups of a release are reached, and at which ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from instar.errors import RouterError
from instar.model.environment import Settings
from instar.model.release import Instance, Release
from instar.model.roles import FIRST_DOOR
from instar.providers.doors import Ports
from instar.providers.kubernetes.door import Backend
from instar.providers.kubernetes.doors import NONE, Doors, Exposed, placed
from instar.providers.kubernetes.names import door_part, inside_key, role_keys
from instar.providers.kubernetes.route import asked_path
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sites import pieces_of
from instar.providers.router_state import RoutedTarget, Target


def exposed(release: Release, role: str, *, asked: bool) -> Exposed:
    """Return what leads to a group of ``role`` by each door; ``asked``: a gateway can pass questions on to it."""
    ports = Ports.of(release, role)
    if ports is None:
        raise RouterError(f"cannot send requests to role '{role}' of release {release.number}: it has no port")
    path = asked_path(release.services[role]) if asked else None
    return {door: Backend(port=number, asked=path) for door, number in {ports.door: ports.port, **ports.more}.items()}


def parts_of(settings: Settings, place: Place, there: Callable[[], Doors | None]) -> Iterator[str]:
    """Yield the parts that an environment is to have, as many of each door as it takes, by the names that they get
    beside those that are ``there``, which is asked when the first one is."""
    if place.gateway is None:
        yield from map(door_part, (FIRST_DOOR, *settings.doors))
        return
    known = there() or NONE
    for key, found in pieces_of(settings.names, {key: door.sites for key, door in settings.doors.items()}).items():
        before = {name: door for name, door in known.parts.items() if door.key == key}
        yield from (name for name, _ in placed(key, before, found))
    if place.inside:
        yield from map(door_part, map(inside_key, (FIRST_DOOR, *role_keys(settings.doors))))


def targets(doors: Doors | None) -> tuple[RoutedTarget, ...]:
    """Return the groups that requests go to, as the objects have them."""
    if doors is None:
        return ()
    return tuple(
        RoutedTarget(target=_target(name, doors.ports(name)), weight=one.weight, sessions=0, up=True)
        for name, one in doors.backends.items()
    )


def wanted(names: Sequence[str], ports: Mapping[str, Ports], doors: Doors | None) -> tuple[Target, ...]:
    """Return how requests are to go to groups, by those of the doors that there are."""
    there = {FIRST_DOOR} if doors is None else {door.key for door in doors.parts.values()}
    found = ((name, ports[name]) for name in names if name in ports)
    each = ((name, {own.door: own.port, **own.more}) for name, own in found)
    return tuple(_target(name, {key: number for key, number in those.items() if key in there}) for name, those in each)


def by_door(target: Target) -> Mapping[str, int]:
    """Return the ports of a target by the doors that lead to it; none where those are gone."""
    return {door: port for door, port in {target.door: target.port, **target.ports}.items() if port}


def ports_of(release: Release, groups: Sequence[Instance]) -> Mapping[str, Mapping[str, int]]:
    """Return the ports of groups of a release by all doors that may lead to them, the oldest group of a role first."""
    each = ((one.id, Ports.of(release, one.role)) for one in sorted(groups, key=lambda one: one.serial))
    return {name: {own.door: own.port, **own.more} for name, own in each if own is not None}


def _target(name: str, ports: Mapping[str, int]) -> Target:
    """A group's own door is that of its role."""
    own = next((key for key in sorted(ports, key=lambda key: ("." in key, key))), FIRST_DOOR)
    more = {key: number for key, number in ports.items() if key != own}
    return Target(name=name, address=name, port=ports.get(own, 0), door=own, ports=more)
