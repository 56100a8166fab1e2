"""All doors of an environment as they are written down: each is one object, or several where one cannot hold it.

The first part of a door *leads*: what it says of groups and their weights, the door's other parts say too. So do the
doors of further ports of what the role's own door says, of those groups that have the port. Whoever is killed between
two writes leaves parts that say different things, and the next write makes them agree.

Behind a gateway there can be Services beside the routes, by which others find a role by name. They are no doors: each
selects one group, of those that its role's route has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from instar.errors import RouterError
from instar.frozen import dataclass
from instar.model.roles import FIRST_DOOR
from instar.providers.kubernetes.door import Backend, Door
from instar.providers.kubernetes.names import FIRST_PART, door_part, group_numbers, inside_key, role_inside, role_keys
from instar.providers.kubernetes.sites import Piece, pieces_of
from instar.providers.router_plan import RouterPlan

Exposed = Mapping[str, Backend]  # of a group, by the doors that lead to it


@dataclass(frozen=True, kw_only=True, slots=True)
class Doors:
    """``parts`` by their names, of which FIRST_PART is always there; ``inside`` the Services beside routes by their
    roles' doors."""

    parts: Mapping[str, Door]
    inside: Mapping[str, Door] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Mapping[str, Door]) -> Doors:
        """Return those that these objects are, by the names of their parts."""
        roles = {name: role_inside(door.key) for name, door in objects.items()}
        parts = {name: door for name, door in objects.items() if roles[name] is None}
        return cls(
            parts={FIRST_PART: Door(), **parts},
            inside={role: objects[name] for name, role in roles.items() if role is not None},
        )

    @property
    def objects(self) -> Mapping[str, Door]:
        """All that there is to be written, by the names of the parts."""
        return {**self.parts, **{door_part(door.key): door for door in self.inside.values()}}

    @property
    def first(self) -> Door:
        return self.parts[FIRST_PART]

    @property
    def leads(self) -> Mapping[str, Door]:
        """The first part of each role's own door, by its key."""
        return {door.key: door for name, door in self.parts.items() if _leads(name, door)}

    @property
    def backends(self) -> Mapping[str, Backend]:
        """The groups that are exposed by all doors that lead to them. Where a part says another weight of one than its
        leading part, it is that: neither has a group all of its traffic then, nor is it rid of it."""
        found = {name: one for door in self.leads.values() for name, one in door.backends.items()}
        said = {name: one.weight for name, one in found.items()}
        for door in self.parts.values():
            for name, one in door.backends.items():
                if name in said and one.weight != said[name]:
                    found[name] = replace(found[name], weight=one.weight)
        for name, weight in (one for door in self.inside.values() for one in door.weights.items()):
            if name in said and not said[name]:  # the Service leads to it yet, whatever its share of the routes
                found[name] = replace(found[name], weight=weight)
        return found

    @property
    def weights(self) -> Mapping[str, int]:
        return {name: one.weight for name, one in self.backends.items() if one.weight}

    def is_whole(self, *, inside: bool) -> bool:
        """Tell whether what the first one names is there, no less and no more, of one plan, whatever else is to be."""
        if any(one.is_wiped for one in self.parts.values()) or (self.inside and not inside):
            return False
        objects = self.objects
        named = {FIRST_PART, *self.first.more} == objects.keys()
        return named and {one.plan for one in objects.values()} == {self.first.plan}

    def missing(self, wanted: Collection[str], *, inside: bool) -> tuple[str, ...]:
        """Return the keys of what there is to be, and is not: doors that are ``wanted``, Services beside routes."""
        there = {one.key for one in self.objects.values()}
        return tuple(key for key in keys_of(wanted, inside=inside) if key not in there)

    def serving(self, role: str) -> Mapping[str, int]:
        """Return the groups of a role that have its traffic, with their weights."""
        return self.parts.get(door_part(role), self.first).weights

    def ports(self, group: str) -> Mapping[str, int]:
        """Return the ports of a group by the doors that lead to it."""
        return {door.key: door.backends[group].port for door in self.parts.values() if group in door.backends}

    def planned(self, plan: RouterPlan, find_port: Callable[[str, str], int | None], *, inside: bool = False) -> Doors:
        """Return them as ``plan`` has them, with the groups that they have. ``find_port``: the number of a port of a
        group by its name, None where it has none: a door that is new leads to groups that are there already.
        ``inside``: there is a Service of each role beside the routes."""
        kept: dict[str, Door] = {}
        timeouts = {FIRST_DOOR: plan.request_timeout_ms, **{one.key: one.request_timeout_ms for one in plan.doors}}
        for key, pieces in pieces_of(plan.names, {one.key: one.sites for one in plan.doors}, plan.expected).items():
            before = {name: door for name, door in self.parts.items() if door.key == key}
            for name, piece in placed(key, before, pieces):
                door = before.get(name, Door(key=key))
                kept[name] = replace(
                    door,
                    plan=plan.fingerprint,
                    hosts=piece.hosts,
                    paths=piece.paths,
                    redirect=piece.redirect,
                    request_timeout_ms=timeouts.get(key, 0),
                    maintenance=None if piece.redirect else self.first.maintenance,
                )
        roles = (FIRST_DOOR, *role_keys(one.key for one in plan.doors)) if inside else ()
        found = {role: self.inside.get(role, Door(key=inside_key(role))) for role in roles}
        found = {role: replace(door, plan=plan.fingerprint) for role, door in found.items()}
        return Doors(parts=kept, inside=found)._with_ports(find_port)._aligned()

    def _with_ports(self, find_port: Callable[[str, str], int | None]) -> Doors:
        """Return them with the groups that a door of a further port has not, and its role's own has."""
        leads, parts = self.leads, dict(self.parts)
        for name, door in parts.items():
            role, dot, port = door.key.partition(".")
            lead = leads.get(role)
            if dot and lead is not None and name == door_part(door.key):
                new = {group: find_port(group, port) for group in lead.backends.keys() - door.backends.keys()}
                more = {group: replace(lead.backends[group], port=number) for group, number in new.items() if number}
                parts[name] = door.exposing(more)
        return replace(self, parts=parts)

    def exposing(self, groups: Mapping[str, Exposed]) -> Doors:
        """Return them with further groups that get nothing yet, by those of the doors that there are."""
        return self._each(
            lambda door: door.exposing({group: by[door.key] for group, by in groups.items() if door.key in by})
        )._aligned()

    def as_services(self) -> Doors:
        """Return them as Services can say them, which are reached by their own names alone, whatever they lead to."""
        return self._each(lambda door: replace(door, hosts=(), paths=Door().paths, request_timeout_ms=0))

    def showing(self, ports: Mapping[str, Mapping[str, int]], *, besides: bool = False) -> Doors:
        """Return them with these further ports, by door, of the Services that there are; ``besides`` those that they
        have. Behind a gateway those are beside the routes, and a route shows none."""

        def shown(key: str, door: Door) -> Door:
            return door.showing(ports[key], besides=besides) if key in ports else door

        if not self.inside:
            return self._each(lambda door: shown(door.key, door))
        return replace(self, inside={role: shown(role, door) for role, door in self.inside.items()})

    def leaving_out(self, names: Collection[str]) -> Doors:
        """Return them without these Services beside routes, by the names of their parts."""
        kept = {role: door for role, door in self.inside.items() if door_part(door.key) not in names}
        return replace(self, inside=kept)._aligned()

    def routing(self, weights: Mapping[str, int]) -> Doors:
        """Return them with these weights, and none for any other group. Raises RouterError for one that is unknown."""
        if unknown := sorted(weights.keys() - self.backends.keys()):
            raise RouterError(f"cannot route to '{unknown[0]}': it is not exposed")
        return self._each(lambda door: door.routing(weights))._aligned()

    def without(self, names: Sequence[str]) -> Doors:
        inside = {role: door.without(names) for role, door in self.inside.items()}
        return replace(self._each(lambda door: door.without(names)), inside=inside)._aligned()

    def at(self, ports: Mapping[str, Mapping[str, int]]) -> Doors:
        """Return them with these groups alone, at these ports by door, each with the weight that it has."""
        return self._each(
            lambda door: door.at({group: by[door.key] for group, by in ports.items() if door.key in by})
        )._aligned()

    def serving_by(self, groups: Sequence[str]) -> Doors:
        """Return them with all requests of a role for the first of ``groups`` that its door knows, where no group has
        any: what was lost has nobody's weight."""
        idle = {key: door for key, door in self.leads.items() if not door.weights}
        chosen = {key: next((one for one in groups if one in door.backends), None) for key, door in idle.items()}
        given = {door_part(key): name for key, name in chosen.items() if name is not None}
        each = self.parts.items()
        parts = {part: door.routing({given[part]: 100}) if part in given else door for part, door in each}
        return replace(self, parts=parts)._aligned()

    def previewing(self, targets: Mapping[int, str]) -> Doors:
        return replace(self, parts={**self.parts, FIRST_PART: self.first.previewing(targets)})._aligned()

    def maintained(self, to: tuple[str, int] | None) -> Doors:
        return self._each(lambda door: door if door.redirect else replace(door, maintenance=to))

    def _each(self, changed: Callable[[Door], Door]) -> Doors:
        """Return them with each door changed: not what is beside them, which follows its role's."""
        return replace(self, parts={name: changed(door) for name, door in self.parts.items()})

    def _aligned(self) -> Doors:
        """Return them with all saying of groups what those parts say that lead, and the first one naming all others."""
        leads = self.leads
        parts = {
            name: self._led(door, leads[role]) if name and (role := door.key.partition(".")[0]) in leads else door
            for name, door in self.parts.items()
        }
        inside = {
            role: self._selecting(door, leads[role]) if role in leads else door for role, door in self.inside.items()
        }
        found = Doors(parts=parts, inside=inside)
        more = {name: one.key for name, one in sorted(found.objects.items()) if name}
        return replace(found, parts={**parts, FIRST_PART: replace(found.first, more=more)})

    def _selecting(self, door: Door, lead: Door) -> Door:
        """Return a Service beside the routes of its role, of which ``lead`` is the first: it selects the group that it
        does for as long as that has traffic, and then the one that has most of it: a canary's steps have no part in
        it."""
        weights = lead.weights
        chosen = next((name for name in door.weights if name in weights), None)
        chosen = chosen or max(sorted(weights), key=lambda name: weights[name], default=None)
        backends = {
            name: Backend(port=one.port, weight=100 if name == chosen else 0) for name, one in lead.backends.items()
        }
        return replace(door, backends=backends)

    def _led(self, door: Door, lead: Door) -> Door:
        of_door = self.parts.get(door_part(door.key), door)  # of several parts of a door, the first one's groups
        backends = {
            group: replace(one, weight=lead.backends[group].weight)
            for group, one in of_door.backends.items()
            if group in lead.backends
        }
        return replace(door, backends=backends, previews=self._previews(door, backends))

    def _previews(self, door: Door, backends: Mapping[str, Backend]) -> Mapping[int, str]:
        """Return which groups requests for a previewed release go to by a door: of another role than the first, its
        newest one of that release."""
        if door.key.partition(".")[0] == FIRST_DOOR:
            return {release: name for release, name in self.first.previews.items() if name in backends}
        newest = {release_of(name): name for name in sorted(backends, key=group_numbers)}
        return {release: newest[release] for release in self.first.previews if release in newest}


def keys_of(wanted: Collection[str], *, inside: bool) -> tuple[str, ...]:
    """Return the keys of all that there is to be: the first door, those that are ``wanted`` besides, and (``inside``) a
    Service of each role beside them."""
    return (FIRST_DOOR, *wanted, *map(inside_key, (FIRST_DOOR, *role_keys(wanted)) if inside else ()))


NONE: Final = Doors(parts={FIRST_PART: Door()})


def write_order(before: Mapping[str, Door], after: Doors) -> tuple[str, ...]:
    """Return in which order parts are written, so that at no time nobody takes requests for a name that is kept, and
    that who reads that a group is exposed by the part that leads knows that it is so by all others."""
    objects = after.objects
    wanted = frozenset(site for door in objects.values() for site in door.sites)
    taken = {name: door.sites for name, door in before.items()}
    known = {name: door.backends.keys() for name, door in before.items()}
    adds = any(door.backends.keys() - known.get(name, set()) for name, door in objects.items())
    left = sorted(objects, key=lambda name: (adds and _leads(name, objects[name]), name))
    order: list[str] = []
    while left:
        name = next((one for one in left if _may_lose(one, objects[one], taken, wanted)), left[0])
        taken[name] = objects[name].sites
        order.append(name)
        left.remove(name)
    return tuple(order)


def _may_lose(
    name: str, door: Door, taken: Mapping[str, frozenset[tuple[str, str]]], wanted: frozenset[object]
) -> bool:
    """Tell whether another part takes already what this one is not to take any more."""
    others = frozenset(site for other, sites in taken.items() if other != name for site in sites)
    return (taken.get(name, frozenset()) - door.sites) & wanted <= others


def _leads(name: str, door: Door) -> bool:
    return "." not in door.key and name == door_part(door.key)


def placed(key: str, before: Mapping[str, Door], pieces: Sequence[Piece]) -> Iterator[tuple[str, Piece]]:
    """Yield each piece with the part that it is to be: the one that has most of it now, and the first one always."""
    left = list(pieces)
    names = sorted(before, key=lambda name: (len(name), name))
    first = door_part(key)
    for name in dict.fromkeys((first, *names)):
        has = before[name].sites if name in before else frozenset()
        best = max(left, key=lambda piece: len(piece.sites & has), default=None)
        if best is not None and (name == first or best.sites & has):
            left.remove(best)
            yield name, best
    free = (door_part(key, number) for number in range(2, len(before) + len(pieces) + 2))
    new = (name for name in free if name not in before)
    yield from zip(new, left, strict=False)


def release_of(group: str) -> int:
    """Return the number of the release that a group's name says that it is of."""
    return group_numbers(group)[0]
