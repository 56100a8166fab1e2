"""An environment's traffic in a cluster: read, changed as a whole, and seen to be in force.

Each change is applied to the very versions that were read, so that of two who change it at once one is told so.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from instar.errors import Refused, RouterError, RouterUnreachable
from instar.frozen import dataclass
from instar.model.release import Served
from instar.model.roles import FIRST_DOOR
from instar.providers.base import Traffic
from instar.providers.kubernetes import checks, door_drift
from instar.providers.kubernetes.answers import Changed
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.comparison import Difference, other_writers
from instar.providers.kubernetes.door import Door
from instar.providers.kubernetes.door_objects import DoorObjects, Standing
from instar.providers.kubernetes.doors import NONE, Doors, Exposed
from instar.providers.kubernetes.fence import Fence
from instar.providers.kubernetes.figures import Counted
from instar.providers.kubernetes.kinds import POD, SERVICE
from instar.providers.kubernetes.names import FIRST_PART, GROUP, Names, door_part, port_name, role_inside
from instar.providers.kubernetes.originals import altered
from instar.providers.kubernetes.route import is_unresolved
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sight import Sights
from instar.providers.kubernetes.taking_back import require_hands, without_others
from instar.providers.router_plan import RouterPlan
from instar.threads import at_once

_TRIES: Final = 4
_AT_ONCE: Final = 8
_ERRORS: Final = range(500, 600)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A group in the traffic. Nobody knows how many requests are in flight; ``served`` where somebody counts them."""

    weight: int
    up: bool
    port: int = 0
    sessions: int | None = None
    served: Served | None = None


class EnvironmentTraffic:
    """The HTTPRoutes, or the selecting Service, of one environment."""

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
        self._fence = fence
        self._sights = sights
        self._api = api
        self._names = names
        self._place = place
        self._wanted = wanted
        self._objects = DoorObjects(api, names, place, fence, sights, wanted, report)

    def look(self, ready: Mapping[str, int], count: Callable[[Mapping[str, int]], Counted] | None = None) -> Traffic:
        """Return where requests go; ``ready``: how many pods of each group answer; ``count``: says by
        their ports what groups have answered. A plan that the Gateway has not taken up, or refuses, is not in force."""
        standing = self._objects.find()
        if standing is None:
            return Traffic()
        doors = standing.doors
        plan, settled = self._in_force(standing)
        missing = self._unmade_doors(doors)
        unmade = tuple(missing.values()) if plan is not None else ()
        plan = plan if all(self._objects.is_taken(door_part(key)) for key in missing) else None
        groups = {
            name: Share(weight=one.weight, up=ready.get(name, 0) > 0, port=one.port)
            for name, one in doors.backends.items()
        }
        previewed = doors.first.previews
        traffic = Traffic(running=True, plan=plan, groups=groups, previewed=previewed, counts=count is not None)
        traffic = replace(traffic, settled=settled, unmade=unmade, unfound=dict(self._unfound(missing)))
        if count is None or not groups:
            return traffic
        counted = count({name: one.port for name, one in groups.items()})
        shares = {name: replace(one, served=counted.served.get(name)) for name, one in groups.items()}
        return replace(traffic, groups=shares, uncounted=counted.trouble)

    def _in_force(self, standing: Standing) -> tuple[str | None, bool]:
        """Return which plan is in force, None where that is not so of each part that there is, and whether no request
        goes by older weights any more."""
        doors = standing.doors
        plan, settled = doors.first.plan if doors.is_whole(inside=self._place.inside) else None, True
        objects = doors.objects
        for part, found in standing.found.items():
            door = objects[part]
            try:
                self._objects.require_in_force(part, found, door)
                if self._objects.is_asked(part, door):
                    sight = self._sights.of(part)
                    plan = None if sight.look(door) == "older" else plan
                    settled = sight.is_settled(door) and settled
            except (RouterError, RouterUnreachable):
                plan = None
        return plan, settled

    def services(self, names: Sequence[str], traffic: Traffic) -> Mapping[str, Mapping[str, Any] | None]:
        """Return groups' Services; None is one that is gone: no Gateway sends it requests any more, and one refuses all
        that is new of a route that names it. Nobody is asked of those whose Gateway says that all is there."""
        if self._place.gateway is None:
            return {}
        return self._services([name for name in names if traffic.plan is None or name not in traffic.groups])

    def expose(
        self,
        groups: Mapping[str, Exposed],
        plan: RouterPlan | None,
        shown: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Have groups there without traffic; ``shown``: which further ports each door's Service has from now on, by
        ``plan``, and else besides those that it has, which whoever has the traffic may need."""

        def changed(doors: Doors | None) -> Doors:
            if doors is None and plan is None:
                raise RouterError(f"cannot expose groups of '{self._names.environment}': nothing takes its requests")
            known = doors or NONE
            planned = known if plan is None else self._planned(known, plan, self._port_of)
            if self._place.has_services:
                planned = planned.showing(shown, besides=plan is None)
            return planned.exposing(groups)

        self._change(changed, lost=plan is not None)

    def _planned(self, doors: Doors, plan: RouterPlan, find_port: Callable[[str, str], int | None]) -> Doors:
        planned = doors.planned(plan, find_port, inside=self._place.inside)
        return planned.as_services() if self._place.gateway is None else planned

    def route(self, weights: Mapping[str, int]) -> float | None:
        """Give requests to these groups alone; return the seconds until that was seen to be in force."""
        began = time.monotonic()

        def changed(doors: Doors | None) -> Doors | None:
            if doors is None:
                if weights:
                    raise RouterError(f"cannot route for '{self._names.environment}': nothing takes its requests")
                return None
            if self._place.gateway is not None:
                self._require_fit(doors, weights)
            return doors.routing(weights)

        is_there = self._change(changed, wait=bool(weights), moves=True)
        return time.monotonic() - began if is_there else None

    def _require_fit(self, doors: Doors, weights: Mapping[str, int]) -> None:
        """Raise for a group that is to get a share of what others have now: RouterUnreachable where the gateway does
        not reach it by one of the doors, Refused where somebody has changed its Service."""
        asks: list[Callable[[], None]] = []
        groups: set[str] = set()
        for part, door in doors.parts.items():
            new = sorted(weights.keys() & door.backends.keys() - door.weights.keys()) if door.weights else []
            groups.update(new)
            if new and self._objects.is_asked(part, door):
                asks.append(
                    functools.partial(self._sights.of(part).require_reached, door, new, self._answering_so(door))
                )
        if groups:
            at_once(lambda ask: ask(), (lambda: self._require_as_made(sorted(groups)), *asks), at_most=_AT_ONCE)

    def withdraw(self, names: Sequence[str]) -> None:
        def changed(doors: Doors | None) -> Doors | None:
            if doors is None or not any(door.backends.keys() & set(names) for door in doors.objects.values()):
                return None
            return doors.without(names)

        self._change(changed, wait=False)

    def preview(self, targets: Mapping[int, str]) -> None:
        self._change(lambda doors: None if doors is None else doors.previewing(targets))

    def doors(self) -> Doors | None:
        """Return what the objects say; None where there is none."""
        standing = self._objects.find()
        return None if standing is None else standing.doors

    def differences(self, sites: Sequence[str], keys: Sequence[str] = (FIRST_DOOR,)) -> Iterator[Difference]:
        """Yield what of the objects is not what Instar makes of what they say, and who else has written to them;
        ``sites``: the names that doors of these ``keys`` may have. Another is open for as long as a rollout runs."""
        standing = self._objects.find(lost=True)
        if standing is not None:
            yield from door_drift.of_names(self._objects, standing, self._unmade_doors(standing.doors))
            yield from door_drift.of_objects(self._objects, standing, sites, keys)

    def _unfound(self, missing: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the roles whose Service, by which others find them, is ``missing``, and why."""
        for key, why in missing.items():
            if self._objects.kind(door_part(key)) == SERVICE:
                inside = role_inside(key)
                role, dot, _ = key.partition(".") if inside is None else (inside, "", "")
                yield from () if dot else ((role, why),)

    def _unmade_doors(self, doors: Doors) -> Mapping[str, str]:
        """Return the doors that there are to be and are not, by their keys, and why."""
        return {key: self._unmade(key) for key in doors.missing(self._wanted, inside=self._place.inside)}

    def _unmade(self, key: str) -> str:
        part = door_part(key)
        why = "cannot be made: somebody else has its name" if self._objects.is_taken(part) else "is yet to be made"
        return f"the {self._objects.kind(part).name} {_whose(key)} {why}"

    def restore(
        self,
        plan: RouterPlan,
        ports: Mapping[str, Mapping[str, int]],
        serving: Sequence[str] = (),
        shown: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Have it be as ``plan`` has it, with those of ``ports`` (by door) that it has, and their weights; what hands
        wrote to it is taken back. What was lost leads to one of ``serving``, its Service at the further ports that are
        ``shown`` too. Raises RouterError where somebody else applies it."""

        def changed(doors: Doors | None) -> Doors:
            before = doors or NONE
            if (
                before.first.maintenance != self._place.maintenance
            ):  # of somebody else's making, for a Service of theirs
                before = before.maintained(None)
            others = [name for name in before.backends if name not in ports]
            planned = self._planned(before.without(others), plan, lambda group, port: None).at(ports)
            if shown is not None and self._place.has_services:
                planned = planned.showing(shown)
            return planned.serving_by(serving)

        self._fence.claim()
        for last in (*[False] * (_TRIES - 1), True):
            try:
                self._take_back(changed)
                break
            except Changed:  # its gateway writes to its status just then
                if last:
                    raise
        self._change(changed, always=True, lost=True)

    def _take_back(self, changed: Callable[[Doors | None], Doors]) -> None:
        """Take back what hands wrote, of all that is there. Raises Changed when it was written to meanwhile."""
        standing = self._objects.find(lost=True)
        self._objects.admit(standing)
        if standing is None:
            self._fence.admit(None)
            return
        after, before = changed(standing.doors).objects, standing.doors.objects
        for part, found in standing.found.items():
            if any(other_writers(found)):
                require_hands(found, self._objects.kind(part).name)
                made, taken = self._objects.force(standing, part, after.get(part, before[part]))
                name = self._objects.name(part)
                self._api.merge(self._objects.kind(part), self._place.namespace, name, without_others(made, taken))

    def maintain(self, to: tuple[str, int] | None) -> None:
        """Send all requests but those for a preview to a Service, or (None) to the groups again."""
        if not self._change(lambda doors: None if doors is None else doors.maintained(to)):
            raise RouterError(
                f"cannot change the maintenance of '{self._names.environment}': nothing takes its requests"
            )

    def close(self) -> None:
        self._fence.claim()
        self._objects.remove()

    def _change(
        self,
        changed: Callable[[Doors | None], Doors | None],
        *,
        wait: bool = True,
        always: bool = False,
        moves: bool = False,
        lost: bool = False,
    ) -> bool:
        """Apply a change, and return when it is in force; None is left as it is: there is nothing, and False is
        returned. Who else changed it in between makes it be read again.

        What only takes away does not ``wait``: a gateway that is gone keeps no environment from being destroyed. Only
        what ``moves`` requests waits for pods that take them: who serves may have none that is ready. ``lost``: where
        the first object is gone, it begins with what is there of the others."""
        seen: list[Standing | None] = []
        for last in (*[False] * (_TRIES - 1), True):
            standing = self._objects.find(lost=lost)
            seen.append(standing)
            self._objects.admit(standing)
            before = None if standing is None else standing.doors
            after = changed(before)
            if after is None:
                return False
            if standing is None or FIRST_PART not in standing.found:
                self._fence.admit(None)
            there = () if standing is None or self._place.gateway is None else standing.found.values()
            if any(map(is_unresolved, there)):
                after = after.without(tuple(self._missing(after.backends.keys() - after.weights.keys())))
            self._require_known(after)
            if after == before and standing is not None and not always:
                break
            if self._fence.claim():
                continue
            try:
                standing = self._objects.write(standing, after, always=always)
                break
            except Changed:
                if last:
                    raise
        assert standing is not None
        if wait:
            self._objects.await_in_force(standing, self._objects.turned(seen[0], standing) if moves else ())
        return True

    def _missing(self, names: Collection[str]) -> frozenset[str]:
        """Return the groups that have no Service."""
        return frozenset(name for name, one in self._services(names).items() if one is None)

    def _services(self, names: Iterable[str]) -> Mapping[str, Mapping[str, Any] | None]:
        return {name: self._api.find(SERVICE, self._place.namespace, name) for name in names}

    def _require_as_made(self, names: Sequence[str]) -> None:
        """Raise Refused for a group that is to get requests by a Service which somebody has changed."""
        for name, found in self._services(names).items():
            told = None if found is None else altered(found)
            if told is not None:
                raise Refused(
                    f"cannot give '{name}' requests: it is not as it was made: {told}",
                    hint="the traffic is where it was; to have it made anew: "
                    f"instar taint {self._names.environment} {name} --why …",
                )

    def _port_of(self, group: str, port: str) -> int | None:
        """Return the number of a group's further port, as its Service has it."""
        found = self._api.find(SERVICE, self._place.namespace, group) or {}
        ports = {one.get("name"): one.get("port") for one in (found.get("spec") or {}).get("ports") or ()}
        number = ports.get(port_name(port))
        return number if isinstance(number, int) else None

    def _require_known(self, doors: Doors) -> None:
        """Raise RouterError rather than send requests to a Service that the section does not name: it stands in an
        annotation, which somebody else may have written."""
        for part, door in doors.parts.items():
            if door.maintenance not in (None, self._place.maintenance):
                raise RouterError(
                    f"cannot change the {self._objects.kind(part).name} '{self._objects.name(part)}': it says that "
                    f"its maintenance is the Service '{door.maintenance[0]}', which kubernetes.maintenance does not "
                    "name",
                    hint=f"who wrote that: kubectl get --show-managed-fields; then: instar maintenance "
                    f"{self._names.environment} off",
                )

    def _answering_so(self, door: Door) -> Callable[[str, str], bool]:
        """Return what tells whether a pod of a group answers a path with an error of its own, asked through the
        cluster's API at the port that ``door`` leads to."""
        namespace = self._place.namespace

        def answers_so(group: str, path: str) -> bool:
            pods = self._api.list(POD, namespace, {GROUP: group})
            if group not in door.backends or not pods:
                return False
            proxied = POD.path(namespace, f"{pods[0]['metadata']['name']}:{door.backends[group].port}", "proxy")
            headers = {"X-Forwarded-Host": next(iter(door.hosts), "localhost")}
            return checks.status(self._api, f"{proxied}{path}", headers) in _ERRORS

        return answers_so


def _whose(key: str) -> str:
    """Return how people are told of a door, or of a Service beside the routes of a role."""
    inside = role_inside(key)
    role, _, port = (key if inside is None else inside).partition(".")
    return " ".join((f"of role '{role}'" if role else "of the first role", *((f"and port '{port}'",) if port else ())))
