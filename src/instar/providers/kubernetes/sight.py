"""What the gateway is seen to do, by asking it: which version of an environment's route is in force, and whether it
reaches a group.

A gateway's word (the route's status) is that of its control plane; what answers requests may lag behind it, by half a
minute where the two have lost each other. So a route says its own version in a rule of its own: a request with the
header ``X-Instar-Route: version`` is answered with a redirect that names it, and one with the name of a group by that
group. Of what cannot be asked from here, or says no version, it is only known that it was accepted: whoever had
requests before is kept for UNSEEN_S then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from instar.errors import ProviderError, RouterUnreachable
from instar.model.environment import Settings
from instar.providers.kubernetes.api import Api
from instar.providers.kubernetes.door import Door
from instar.providers.kubernetes.gateway import Answer, Entrance, ask, entrances, is_reachable
from instar.providers.kubernetes.kinds import GATEWAY
from instar.providers.kubernetes.names import Names
from instar.providers.kubernetes.route import ASKED, VERSION, version_host, version_mark
from instar.providers.kubernetes.settings import Place
from instar.threads import at_once

Seen: TypeAlias = Literal["this", "older", "unknown"]
UNSEEN_S: Final = 45.0  # longer than an Envoy takes that has lost its control plane (30 s), and a little
_PATIENCE_S: Final = 10.0
_UNREACHED_S: Final = 2.0  # a gateway's process that begins anew is back by then
_AGAIN_S: Final = 5.0
_LOOK_S: Final = 0.05
_TIMES: Final = 3  # behind one address may be several
_AT_ONCE: Final = 8
_OF_THE_GATEWAY: Final = range(500, 600)
_NEVER: Final = float("-inf")


def judged(answers: Sequence[Answer | None], host: str, mark: str) -> Seen:
    """Return what ``answers`` together say of the version that a redirect to ``host`` names; ``mark``: how all versions
    of that route begin."""
    named = [one.redirected for one in answers if one is not None and one.redirected is not None]
    own = [one for one in named if one.startswith(mark)]
    if any(one != host for one in own):
        return "older"
    return "this" if own else "unknown"


def find_gateway(api: Api, place: Place) -> Mapping[str, Any] | None:
    """Return the Gateway of an environment; None where there is none, or it may not be read."""
    if place.gateway is None:
        return None
    try:
        return api.find(GATEWAY, *place.gateway)
    except ProviderError as error:
        if error.retry_after_s is not None:
            raise
        return None


def unseen(api: Api, place: Place, settings: Settings) -> Iterator[str]:
    """Yield that the gateway cannot be asked from here, where that is so, or that nobody could tell."""
    if place.gateway is None or not settings.names.sites:
        return
    hosts = tuple(dict.fromkeys(site.partition("/")[0] for site in settings.names.sites))
    try:
        found = find_gateway(api, place)
    except ProviderError as error:  # that it is there was seen before
        yield f"whether the Gateway '{'/'.join(place.gateway)}' can be asked from here is not known: {error.message}"
        return
    places = () if found is None else entrances(found, hosts)
    if any(at_once(is_reachable, places, at_most=_AT_ONCE)):
        return
    at = ", ".join(dict.fromkeys(f"{one.address}:{one.port}" for one in places))
    why = f"nothing answers at {at}" if at else "it says no address for these names"
    yield (
        f"the Gateway '{'/'.join(place.gateway)}' cannot be asked from here ({why}): its word is believed, and what "
        f"had traffic and is not kept hot is ended {UNSEEN_S:g} s after it at the earliest"
    )


class Sights:
    """Of all routes of one environment, by their parts, for as long as this process lives."""

    def __init__(self, names: Names, find_gateway: Callable[[], Mapping[str, Any] | None]) -> None:
        self._names = names
        self._find_gateway = find_gateway
        self._known: dict[str, Sight] = {}

    def of(self, part: str) -> Sight:
        return self._known.setdefault(part, Sight(self._names, self._find_gateway, part=part))


class Sight:
    """Of one route, for as long as this process lives. Of threads that use it at once each may ask."""

    def __init__(
        self,
        names: Names,
        find_gateway: Callable[[], Mapping[str, Any] | None],
        asking: Callable[[Entrance, str, Mapping[str, str]], Answer | None] = ask,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        part: str = "",
    ) -> None:
        self._names = names
        self._name = names.route_of(part)
        self._find_gateway = find_gateway
        self._asking = asking
        self._clock = clock
        self._pause = pause
        self._version: str | None = None
        self._seen: Seen = "unknown"
        self._since = self._asked_at = self._found_at = _NEVER
        self._found: Mapping[str, Any] | None = None
        self._is_mute = False  # it answers, and has never said a version
        self._is_away = False  # nothing answers

    def look(self, door: Door) -> Seen:
        """Return what is in force of an accepted route as it is known, asked again after a while where it is not."""
        self._turn_to(door)
        if not self._is_told() and self._clock() >= self._asked_at + _AGAIN_S:
            self._ask(door)
        return self._seen

    def is_settled(self, door: Door) -> bool:
        """Tell whether nobody goes by an older version any more: that was seen, or would be over by now."""
        self._turn_to(door)
        return self._is_told()

    def wait(self, door: Door) -> None:
        """Return once an accepted route is seen to be in force, or nobody can tell. Raises RouterUnreachable while the
        gateway goes by an older one."""
        self._turn_to(door)
        began = self._clock()
        while not self._is_told():
            answered = self._ask(door)
            since_s = self._clock() - began
            if self._seen == "unknown" and self._gives_up(since_s, answered=answered):
                return
            if self._seen == "older" and since_s >= _PATIENCE_S:
                raise RouterUnreachable(
                    f"the gateway has accepted the HTTPRoute '{self._name}', and still sends requests by an "
                    "older version of it: what has had traffic is not ended before that is over"
                )
            if self._seen != "this":
                self._pause(_LOOK_S)

    def require_reached(self, door: Door, groups: Sequence[str], answers_so: Callable[[str, str], bool]) -> None:
        """Raise RouterUnreachable unless the gateway reaches each of ``groups``, as far as that can be asked.
        ``answers_so``: says whether a group itself answers a path with an error of its own."""
        asked = [(one, path) for one in groups if (path := door.backends[one].asked) is not None]
        if not asked or door.answers is None:
            return
        self.wait(door)
        for group, path in asked if self._seen == "this" else ():
            answers = self._answers(door, path, group)
            failed = next((one for one in answers if one is not None and one.status in _OF_THE_GATEWAY), None)
            if failed is not None and not answers_so(group, path):
                raise RouterUnreachable(
                    f"the gateway does not reach '{group}' yet: it answers {failed.status} to what is for that alone, "
                    "which was given no traffic"
                )

    def _turn_to(self, door: Door) -> None:
        if door.answers != self._version or self._since == _NEVER:
            self._version, self._seen = door.answers, "unknown"
            self._since, self._asked_at = self._clock(), _NEVER

    def _is_told(self) -> bool:
        is_over = self._clock() >= self._since + UNSEEN_S
        return self._seen == "this" or (self._seen == "unknown" and is_over)

    def _gives_up(self, since_s: float, *, answered: bool) -> bool:
        """Tell whether no more is learned by asking on: what is known of a gateway is not waited for again."""
        if self._version is None or not self._found:
            return True
        if answered:
            self._is_mute = self._is_mute or since_s >= _PATIENCE_S
            return self._is_mute
        self._is_away = self._is_away or since_s >= _UNREACHED_S
        return self._is_away

    def _ask(self, door: Door) -> bool:
        """Ask for the version; return whether anybody answered at all."""
        self._asked_at = self._clock()
        if door.answers is None:
            return False
        host, mark = version_host(self._names, door.answers), version_mark(self._names)
        for _ in range(_TIMES):
            answers = self._answers(door, door.paths[0], VERSION)
            self._seen = judged(answers, host, mark)
            if self._seen != "this":
                if self._seen == "older":
                    self._since = self._clock()
                return any(one is not None for one in answers)
        self._is_mute = self._is_away = False
        return True

    def _answers(self, door: Door, path: str, about: str) -> Sequence[Answer | None]:
        places = self._entrances(door)
        return at_once(lambda one: self._asking(one, path, {ASKED: about}), places, at_most=_AT_ONCE)

    def _entrances(self, door: Door) -> Sequence[Entrance]:
        if self._clock() >= self._found_at + _AGAIN_S:
            self._found, self._found_at = self._find_gateway(), self._clock()
        return () if self._found is None else entrances(self._found, door.hosts)
