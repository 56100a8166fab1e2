"""The objects that an environment's doors are: read together, written in an order that loses nothing, and seen to be in
force.

The first one names all others, and is written before one of them is made and after one is gone: so nothing is left that
nobody knows, wherever whoever wrote was killed. Each is applied to the very version that was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from instar.errors import ProviderError, Refused, RouterError, RouterUnreachable
from instar.frozen import dataclass
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.door import Door
from instar.providers.kubernetes.doors import Doors, keys_of, write_order
from instar.providers.kubernetes.fence import Fence
from instar.providers.kubernetes.kinds import ROUTE, SERVICE, SLICE, Kind
from instar.providers.kubernetes.names import FIRST_PART, Names, door_part
from instar.providers.kubernetes.parts import Parts
from instar.providers.kubernetes.route import read_route, require_settled, route, said_otherwise
from instar.providers.kubernetes.selecting import read_service, require_selected, selecting_service
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sight import Sights
from instar.providers.kubernetes.sites import NOBODY
from instar.providers.kubernetes.taking_back import BACK
from instar.threads import at_once
from instar.waiting import Deadline

Object = Mapping[str, Any]
_IN_FORCE_S: Final = 10.0
_LOOK_S: Final = 0.05
_WATCHED_S: Final = 2.0  # then it is asked whether the route is as the watch has it
_AT_ONCE: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The objects that are there, by their parts, and what they say. A first one that was removed says nothing."""

    found: Mapping[str, Object]
    doors: Doors


class DoorObjects:
    """Of one environment."""

    def __init__(
        self,
        api: Api,
        names: Names,
        place: Place,
        fence: Fence,
        sights: Sights,
        wanted: Collection[str] = (),
        report: Callable[[str], None] = lambda warning: None,
    ) -> None:
        """``wanted``: the keys of the doors that it is to have besides the first."""
        self._api = api
        self._names = names
        self._place = place
        self._fence = fence
        self._sights = sights
        self._wanted = wanted
        self._parts = Parts(names, place)
        self._report = report
        self._to_be = {door_part(key): key for key in keys_of(wanted, inside=place.inside)}

    def find(self, *, lost: bool = False) -> Standing | None:
        """Return what is there, and is to be, whether the first one names it or not; None where there is nothing.
        ``lost``: also where the first one is gone."""
        first = self._find(FIRST_PART)
        if first is None and not lost:
            return None
        named = tuple(self._parts.further(first)) if first is not None else ()
        others = tuple(part for part in self._to_be if part not in (FIRST_PART, *named))
        found = at_once(self._find, named, at_most=_AT_ONCE), at_once(self._find_own, others, at_most=_AT_ONCE)
        each = zip((FIRST_PART, *named, *others), (first, *found[0], *found[1]), strict=True)
        there = {part: one for part, one in each if one is not None}
        return self._standing(there) if there else None

    def kind(self, part: str) -> Kind:
        return self._parts.kind(part)

    def name(self, part: str) -> str:
        return self._parts.name(part)

    def named(self, part: str) -> str:
        """Return how people are told of a part."""
        return f"{self.kind(part).name} {self.name(part)}"

    def made(self, part: str, door: Door) -> Object:
        gateway = self._place.gateway
        if gateway is None or self.kind(part) == SERVICE:
            return selecting_service(door, self._names, part)
        return route(door, self._names, gateway, part)

    def admit(self, standing: Standing | None) -> None:
        """Raise LeaseLost where a part was claimed under a newer lease."""
        for found in standing.found.values() if standing is not None else ():
            self._fence.admit(found)

    def write(self, standing: Standing | None, after: Doors, *, always: bool = False) -> Standing:
        """Have the objects be as ``after``, where they differ; ``always``: also where they do not seem to. Raises
        Changed where one is not as it was read: what was written before that is there then. What is beside routes, and
        whose name somebody else has, is left out with a warning: it keeps no door from where it is to lead."""
        found = dict(standing.found) if standing is not None else {}
        before = dict(standing.doors.objects) if standing is not None else {}
        unread = after.objects.keys() - found.keys() - {FIRST_PART}
        taken = frozenset(part for part in unread if self.is_taken(part))
        for part in sorted(taken):
            self._report(
                f"{self.named(part)} is somebody else's, and left as it is: nobody finds the role by that name"
            )
        after = after.leaving_out(taken) if taken else after
        for part in unread - taken:  # it may be there yet
            there = self._find(part)
            if there is not None:
                self._fence.admit(there)
                found[part] = there
        objects = after.objects
        if FIRST_PART not in found:  # it is written first then, and names all others
            before.pop(FIRST_PART, None)
        more = {**(before[FIRST_PART].more if FIRST_PART in before else {}), **after.first.more}
        if FIRST_PART in before and more.keys() - before[FIRST_PART].more.keys():
            before[FIRST_PART] = replace(before[FIRST_PART], more=more)
            found[FIRST_PART] = self._apply(FIRST_PART, before[FIRST_PART], found)
        wanted = {**objects, FIRST_PART: replace(after.first, more=more)}
        for part in dict.fromkeys((*(() if FIRST_PART in before else (FIRST_PART,)), *write_order(before, after))):
            if always or before.get(part) != wanted[part]:
                found[part] = self._apply(part, wanted[part], found)
        gone = found.keys() - objects.keys()
        for part in gone:
            self._fence.admit(found[part])
            self._api.delete(self.kind(part), self._place.namespace, self.name(part), only=found.pop(part))
        if more != after.first.more:
            found[FIRST_PART] = self._apply(FIRST_PART, after.first, found)
        return self._standing(found)

    def force(self, standing: Standing, part: str, door: Door) -> tuple[Object, Object]:
        """Have a part be as ``door``, whoever has written to it; return what was made of it, and as it is then."""
        made = self.made(part, self._renewed(part, door, standing.found))
        return made, self._api.apply(self.kind(part), self._place.namespace, made, force=True)

    def remove(self) -> None:
        """Take all away, the first one last, which names the others: those too that it does not name, as where somebody
        removed it."""
        standing = self.find()
        known = {} if standing is None else standing.found
        for part in sorted(known, reverse=True):
            self._fence.admit(known[part])
            name = self.name(part)
            self._api.delete(self.kind(part), self._place.namespace, name, only=known[part])
        for kind, found in self._strays(known):
            self._fence.admit(found)
            self._api.delete(kind, self._place.namespace, str(found["metadata"]["name"]), only=found)

    def _strays(self, known: Collection[str]) -> Iterator[tuple[Kind, Object]]:
        """Yield the environment's routes that are there yet, as far as they may be listed, and the Services that it can
        have, but those that were ``known``. What has its labels and a name that Instar gives to none is somebody
        else's: anybody can write labels."""
        if self._place.gateway is not None:
            yield from ((ROUTE, one) for one in self._routes())
        for part in (one for one in self._parts.services(self._wanted) if one not in known):
            service = self._api.find(SERVICE, self._place.namespace, self.name(part))
            if service is not None and self._names.owns(service):
                yield SERVICE, service

    def _routes(self) -> Iterator[Object]:
        try:
            routes = self._api.list(ROUTE, self._place.namespace, self._names.labels)
        except ProviderError as error:
            if error.retry_after_s is not None:
                raise
            routes = ()
        yield from (one for one in routes if self._names.is_route(str(one["metadata"]["name"])))

    def turned(self, before: Standing | None, standing: Standing) -> tuple[str, ...]:
        """Return which Services lead to another group than ``before``."""
        known: Mapping[str, Door] = {} if before is None else before.doors.objects
        led = {part: known[part].weights.keys() for part in known}
        parts = standing.doors.objects.items()
        return tuple(
            part for part, door in parts if self.kind(part) == SERVICE and door.weights.keys() != led.get(part, set())
        )

    def await_in_force(self, standing: Standing, turned: Sequence[str] = ()) -> None:
        """Return once all are in force. A Service is so once it leads to no pod of another group; those of ``turned``
        once they have one of theirs too. Raises RouterUnreachable, RouterError."""
        deadline = Deadline.after(_IN_FORCE_S)
        seen = {}
        for part, key in self._keys(standing.found).items():
            needs_pods = part in turned
            seen[part] = self._accepted(part, key, standing.found[part], deadline, needs_pods=needs_pods)
        for part, door in self._standing(seen).doors.objects.items():
            if self.is_asked(part, door):
                self._sights.of(part).wait(door)

    def is_asked(self, part: str, door: Door) -> bool:
        """Tell whether a gateway can be asked about a part: it is a route, by which somebody is to get there."""
        return self.kind(part) == ROUTE and door.hosts != (NOBODY,)

    def require_in_force(self, part: str, found: Object, door: Door) -> None:
        """Raise RouterUnreachable, RouterError where a gateway does not do what a route says."""
        if self._place.gateway is not None and self.is_asked(part, door):
            require_settled(found, self._place.gateway)

    def _require_led(self, part: str, door: Door, *, needs_pods: bool) -> None:
        """Raise RouterUnreachable as long as a Service leads to pods that it does not select."""
        if self.kind(part) == SERVICE and door.weights:
            labels = {"kubernetes.io/service-name": self.name(part)}
            slices = self._api.list(SLICE, self._place.namespace, labels)
            require_selected(self.name(part), slices, door.weights, needs_pods=needs_pods)

    def is_taken(self, part: str) -> bool:
        """Tell whether a part is a Service beside routes, and somebody else has its name."""
        if not self._is_beside(part):
            return False
        found = self._api.find(SERVICE, self._place.namespace, self.name(part))
        return found is not None and not self._names.owns(found)

    def _is_beside(self, part: str) -> bool:
        return self._place.gateway is not None and self.kind(part) == SERVICE

    def _find(self, part: str) -> Object | None:
        """Return a part, if it is there; of a door, raise Refused where it is somebody else's."""
        if self._is_beside(part):
            return self._find_own(part)
        found = self._api.find(self.kind(part), self._place.namespace, self.name(part))
        if found is not None:
            self._names.require_own(self.kind(part).name, found)
        return found

    def _find_own(self, part: str) -> Object | None:
        """Return a part if it is there and is not somebody else's."""
        found = self._api.find(self.kind(part), self._place.namespace, self.name(part))
        return found if found is not None and self._names.owns(found) else None

    def _standing(self, found: Mapping[str, Object]) -> Standing:
        return Standing(found=found, doors=Doors.of(dict(self._read(found))))

    def _read(self, found: Mapping[str, Object]) -> Iterator[tuple[str, Door]]:
        keys = self._keys(found)
        yield from ((part, self._door(part, one, keys[part])) for part, one in found.items())

    def _keys(self, found: Mapping[str, Object]) -> Mapping[str, str]:
        """Return of which door each part is, as the first one says, and else as it is to be."""
        named = self._parts.further(found[FIRST_PART]) if FIRST_PART in found else {}
        known = {**self._to_be, **named}
        return {part: known.get(part, "") for part in found}

    def _door(self, part: str, found: Object, key: str) -> Door:
        if self.kind(part) == ROUTE:
            return read_route(found, key)
        return read_service(found, key, self._parts.further(found) if part == FIRST_PART else None)

    def _apply(self, part: str, door: Door, found: Mapping[str, Object]) -> Object:
        try:
            made = self.made(part, self._renewed(part, door, found))
            return self._api.apply(self.kind(part), self._place.namespace, made)
        except Refused as error:
            raise Refused(error.message, hint=BACK) from error

    def _renewed(self, part: str, door: Door, found: Mapping[str, Object]) -> Door:
        version = found[part]["metadata"].get("resourceVersion") if part in found else None
        return replace(door, version=version).renewed()

    def _accepted(self, part: str, key: str, found: Object, deadline: Deadline, *, needs_pods: bool) -> Object:
        """Return a part, of the door ``key``, as it is once it is accepted."""
        while True:
            door = self._door(part, found, key)
            try:
                self.require_in_force(part, found, door)
                self._require_led(part, door, needs_pods=needs_pods)
                return found
            except RouterUnreachable:
                if deadline.is_over:
                    self._say_again(part, found, door)
                    raise
            found = self._newer(part, found, deadline)

    def _newer(self, part: str, found: Object, deadline: Deadline) -> Object:
        """Return a part as it is when somebody has written to it, or after a moment. Raises RouterError."""
        soon, name = Deadline.after(_LOOK_S), self.name(part)
        if self.kind(part) == ROUTE:  # of a Service other objects say what is in force
            version, within_s = found["metadata"].get("resourceVersion") or "", min(_WATCHED_S, deadline.left_s)
            for what, seen in self._api.watch(self.kind(part), self._place.namespace, version, within_s, name=name):
                if what != "DELETED":
                    self._names.require_own(self.kind(part).name, seen)
                    return seen
                break
        time.sleep(soon.left_s)
        again = self._find(part)
        if again is None:
            raise RouterError(f"the {self.kind(part).name} '{name}' was removed by somebody")
        return again

    def _say_again(self, part: str, found: Object, door: Door) -> None:
        """Have the gateway take up a route anew: one that could not write its status down, since the API was away or
        what it had read was old, does not try again until the route is another version."""
        if self.kind(part) != ROUTE:
            return
        said = said_otherwise(self.made(part, self._renewed(part, door, {part: found})))
        now = self._api.apply(self.kind(part), self._place.namespace, said)
        self._apply(part, door, {part: now})
