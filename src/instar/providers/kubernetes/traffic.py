"""An environment's traffic in a cluster: read, changed as a whole, and seen to be in force.

Each change is applied to the very version that was read, so that of two who change it at once one is told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from instar.errors import Refused, RouterError, RouterUnreachable
from instar.frozen import dataclass
from instar.model.release import Served
from instar.providers.base import Traffic
from instar.providers.kubernetes import checks
from instar.providers.kubernetes.answers import Changed
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.comparison import Difference, added_to_rules, differences, other_writers
from instar.providers.kubernetes.door import Door
from instar.providers.kubernetes.fence import Fence
from instar.providers.kubernetes.figures import Counted
from instar.providers.kubernetes.kinds import POD, ROUTE, SERVICE, SLICE
from instar.providers.kubernetes.names import GROUP, Names
from instar.providers.kubernetes.originals import altered
from instar.providers.kubernetes.route import is_unresolved, read_route, require_settled, route, said_otherwise
from instar.providers.kubernetes.selecting import read_service, require_selected, selecting_service
from instar.providers.kubernetes.settings import Place
from instar.providers.kubernetes.sight import Sight
from instar.providers.kubernetes.taking_back import BACK, require_hands, without_others
from instar.providers.router_plan import RouterPlan
from instar.threads import at_once
from instar.waiting import Deadline

_IN_FORCE_S: Final = 10.0
_LOOK_S: Final = 0.05
_WATCHED_S: Final = 2.0  # then it is asked whether the route is as the watch has it
_TRIES: Final = 4
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
    """The HTTPRoute, or the selecting Service, of one environment."""

    def __init__(self, api: Api, names: Names, place: Place, fence: Fence, sight: Sight) -> None:
        self._fence = fence
        self._sight = sight
        self._api = api
        self._names = names
        self._place = place
        self._kind = SERVICE if place.gateway is None else ROUTE

    def look(self, ready: Mapping[str, int], count: Callable[[Mapping[str, int]], Counted] | None = None) -> Traffic:
        """Return where requests go; ``ready``: how many pods of each group answer; ``count``: says by
        their ports what groups have answered. A plan that the Gateway has not taken up, or refuses, is not in force."""
        found = self._find()
        if found is None:
            return Traffic()
        door = self._read(found)
        settled = True
        try:
            self._require_in_force(found, door, exact=False)
            plan = door.plan
            if self._place.gateway is not None:
                plan = None if self._sight.look(door) == "older" else plan
                settled = self._sight.is_settled(door)
        except (RouterError, RouterUnreachable):
            plan = None
        groups = {
            name: Share(weight=one.weight, up=ready.get(name, 0) > 0, port=one.port)
            for name, one in door.backends.items()
        }
        traffic = Traffic(running=True, plan=plan, groups=groups, previewed=door.previews, counts=count is not None)
        traffic = replace(traffic, settled=settled)
        if count is None or not groups:
            return traffic
        counted = count({name: one.port for name, one in groups.items()})
        shares = {name: replace(one, served=counted.served.get(name)) for name, one in groups.items()}
        return replace(traffic, groups=shares, uncounted=counted.trouble)

    def services(self, names: Sequence[str], traffic: Traffic) -> Mapping[str, Mapping[str, Any] | None]:
        """Return groups' Services; None is one that is gone: no Gateway sends it requests any more, and one refuses all
        that is new of a route that names it. Nobody is asked of those whose Gateway says that all is there."""
        if self._place.gateway is None:
            return {}
        return self._services([name for name in names if traffic.plan is None or name not in traffic.groups])

    def expose(
        self,
        ports: Mapping[str, int],
        plan: RouterPlan | None,
        asked: str | None = None,
        shown: Mapping[str, int] | None = None,
    ) -> None:
        """Have groups there without traffic; ``shown``: which further ports a Service has from now on."""

        def changed(door: Door | None) -> Door:
            if door is None and plan is None:
                raise RouterError(f"cannot expose groups of '{self._names.environment}': nothing takes its requests")
            planned = (door or Door()) if plan is None else (door or Door()).planned(plan)
            if self._place.gateway is None and shown is not None:
                planned = replace(planned, ports=shown)
            return planned.exposing(ports, None if self._place.gateway is None else asked)

        self._change(changed)

    def route(self, weights: Mapping[str, int]) -> float | None:
        """Give requests to these groups alone; return the seconds until that was seen to be in force."""
        began = time.monotonic()

        def changed(door: Door | None) -> Door | None:
            if door is None and weights:
                raise RouterError(f"cannot route for '{self._names.environment}': nothing takes its requests")
            if door is not None and self._place.gateway is not None and door.weights:
                new = sorted(weights.keys() & door.backends.keys() - door.weights.keys())
                asks: tuple[Callable[[], None], ...] = (
                    lambda: self._require_as_made(new),
                    lambda: self._sight.require_reached(door, new, self._answers_so),
                )
                at_once(lambda ask: ask(), asks, at_most=len(asks))
            return None if door is None else door.routing(weights)

        is_there = self._change(changed, wait=bool(weights))
        return time.monotonic() - began if is_there else None

    def withdraw(self, names: Sequence[str]) -> None:
        def changed(door: Door | None) -> Door | None:
            return door.without(names) if door is not None and door.backends.keys() & set(names) else None

        self._change(changed, wait=False)

    def preview(self, targets: Mapping[int, str]) -> None:
        self._change(lambda door: None if door is None else door.previewing(targets))

    def door(self) -> Door | None:
        """Return what the object says; None where there is none."""
        found = self._find()
        return None if found is None else self._read(found)

    def differences(self, sites: Sequence[str]) -> Iterator[Difference]:
        """Yield what of the object is not what Instar makes of what it says, and who else has written to it;
        ``sites``: the names that it may have."""
        found = self._find()
        if found is None:
            return
        where = f"{self._kind.name} {self._names.route}"
        door, hosts = self._read(found), {site.partition("/")[0] for site in sites}
        made = self._made(door)
        for one in (*differences(made, found), *added_to_rules(made, found)):
            yield replace(one, path=f"{where}: {one.path}")
        if self._kind == ROUTE and not hosts >= set(door.hosts):
            told = ", ".join(sorted(hosts)) or "none"
            yield Difference(path=f"{where}: hostnames", expected=told, observed=", ".join(door.hosts))
        for who in sorted(set(other_writers(found))):
            yield Difference(
                path=f"{where}: managedFields", expected="nobody else writes to it", observed=f"'{who}' has"
            )

    def restore(self, plan: RouterPlan, ports: Mapping[str, int]) -> None:
        """Have it be as ``plan`` has it, with those of ``ports`` that it has, and their weights; what hands wrote to it
        is taken back. Raises RouterError where somebody else applies it."""

        def changed(door: Door | None) -> Door:
            before = door or Door()
            if before.maintenance != self._place.maintenance:  # of somebody else's making, for a Service of theirs
                before = replace(before, maintenance=None)
            others = [name for name in before.backends if name not in ports]
            return before.without(others).planned(plan).at(ports)

        self._fence.claim()
        for last in (*[False] * (_TRIES - 1), True):
            try:
                self._take_back(changed)
                break
            except Changed:  # its gateway writes to its status just then
                if last:
                    raise
        self._change(changed, always=True)

    def _take_back(self, changed: Callable[[Door | None], Door]) -> None:
        """Take back what hands wrote, of all that is there. Raises Changed when it was written to meanwhile."""
        found = self._find()
        self._fence.admit(found)
        if found is not None and any(other_writers(found)):
            require_hands(found, self._kind.name)
            made = self._made(changed(self._read(found)).renewed())
            taken = self._api.apply(self._kind, self._place.namespace, made, force=True)
            self._api.merge(self._kind, self._place.namespace, self._names.route, without_others(made, taken))

    def maintain(self, to: tuple[str, int] | None) -> None:
        """Send all requests but those for a preview to a Service, or (None) to the groups again."""
        if not self._change(lambda door: None if door is None else replace(door, maintenance=to)):
            raise RouterError(
                f"cannot change the maintenance of '{self._names.environment}': nothing takes its requests"
            )

    def close(self) -> None:
        self._fence.claim()
        found = self._find()
        if found is not None:
            self._fence.admit(found)
            self._api.delete(self._kind, self._place.namespace, self._names.route, only=found)

    def _find(self) -> Mapping[str, Any] | None:
        found = self._api.find(self._kind, self._place.namespace, self._names.route)
        if found is not None:
            self._names.require_own(self._kind.name, found)
        return found

    def _read(self, found: Mapping[str, Any]) -> Door:
        return read_service(found) if self._place.gateway is None else read_route(found)

    def _change(
        self, changed: Callable[[Door | None], Door | None], *, wait: bool = True, always: bool = False
    ) -> bool:
        """Apply a change, and return when it is in force; None is left as it is: there is nothing, and False is
        returned. Who else changed it in between makes it be read again.

        What only takes away does not ``wait``: a gateway that is gone keeps no environment from being destroyed."""
        for last in (*[False] * (_TRIES - 1), True):
            found = self._find()
            if found is not None:
                self._fence.admit(found)
            before = None if found is None else self._read(found)
            after = changed(before)
            if after is None:
                return False
            if found is None:
                self._fence.admit(None)
            elif self._place.gateway is not None and is_unresolved(found):
                after = after.without(tuple(self._missing(after.backends.keys() - after.weights.keys())))
            self._require_known(after)
            if after == before and found is not None and not always:
                break
            if self._fence.claim():
                continue
            try:
                found = self._apply(after)
                break
            except Changed:
                if last:
                    raise
        assert found is not None
        if wait:
            self._await(found)
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

    def _require_known(self, door: Door) -> None:
        """Raise RouterError rather than send requests to a Service that the section does not name: it stands in an
        annotation, which somebody else may have written."""
        if door.maintenance not in (None, self._place.maintenance):
            raise RouterError(
                f"cannot change the {self._kind.name} '{self._names.route}': it says that its maintenance is the "
                f"Service '{door.maintenance[0]}', which kubernetes.maintenance does not name",
                hint=f"who wrote that: kubectl get --show-managed-fields; then: instar maintenance "
                f"{self._names.environment} off",
            )

    def _apply(self, door: Door) -> Mapping[str, Any]:
        try:
            return self._api.apply(self._kind, self._place.namespace, self._made(door.renewed()))
        except Refused as error:
            raise Refused(error.message, hint=BACK) from error

    def _made(self, door: Door) -> Mapping[str, Any]:
        gateway = self._place.gateway
        return selecting_service(door, self._names) if gateway is None else route(door, self._names, gateway)

    def _await(self, found: Mapping[str, Any]) -> None:
        deadline = Deadline.after(_IN_FORCE_S)
        while True:
            try:
                self._require_in_force(found, self._read(found), exact=True)
                break
            except RouterUnreachable:
                if deadline.is_over:
                    self._say_again(found)
                    raise
            found = self._newer(found, deadline)
        if self._place.gateway is not None:
            self._sight.wait(self._read(found))

    def _answers_so(self, group: str, path: str) -> bool:
        """Tell whether a pod of a group answers a path with an error of its own, asked through the cluster's API."""
        door, namespace = self.door(), self._place.namespace
        pods = self._api.list(POD, namespace, {GROUP: group})
        if door is None or group not in door.backends or not pods:
            return False
        proxied = POD.path(namespace, f"{pods[0]['metadata']['name']}:{door.backends[group].port}", "proxy")
        headers = {"X-Forwarded-Host": next(iter(door.hosts), "localhost")}
        return checks.status(self._api, f"{proxied}{path}", headers) in _ERRORS

    def _newer(self, found: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        """Return the object as it is when somebody has written to it, or after a moment. Raises RouterError."""
        soon = Deadline.after(_LOOK_S)
        if self._place.gateway is not None:  # where there is none, other objects say what is in force
            version, within_s = found["metadata"].get("resourceVersion") or "", min(_WATCHED_S, deadline.left_s)
            events = self._api.watch(self._kind, self._place.namespace, version, within_s, name=self._names.route)
            for what, seen in events:
                if what != "DELETED":
                    self._names.require_own(self._kind.name, seen)
                    return seen
                break
        time.sleep(soon.left_s)
        again = self._find()
        if again is None:
            raise RouterError(f"the {self._kind.name} '{self._names.route}' was removed by somebody")
        return again

    def _say_again(self, found: Mapping[str, Any]) -> None:
        """Have the gateway take up the route anew: one that could not write its status down, since the API was away or
        what it had read was old, does not try again until the route is another version."""
        if self._place.gateway is None:
            return
        door = self._read(found)
        said = self._api.apply(self._kind, self._place.namespace, said_otherwise(self._made(door.renewed())))
        self._apply(replace(door, version=said["metadata"]["resourceVersion"]))

    def _require_in_force(self, found: Mapping[str, Any], door: Door, *, exact: bool) -> None:
        """Raise RouterUnreachable, RouterError. ``exact``: down to the pods that a Service leads to."""
        if self._place.gateway is not None:
            require_settled(found, self._place.gateway)
        elif exact and door.weights:
            labels = {"kubernetes.io/service-name": self._names.route}
            require_selected(self._names.route, self._api.list(SLICE, self._place.namespace, labels), door.weights)
