"""Which object is which part of where an environment's requests come in: behind a Gateway HTTPRoutes, and Services
beside them for who finds it by name; without one a Service for each door.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from instar.model.roles import FIRST_DOOR
from instar.providers.kubernetes.kinds import ROUTE, SERVICE, Kind
from instar.providers.kubernetes.names import Names, door_part, inside_key, role_inside, role_keys
from instar.providers.kubernetes.route import further_parts
from instar.providers.kubernetes.settings import Place


class Parts:
    """Of one environment."""

    def __init__(self, names: Names, place: Place) -> None:
        self._names = names
        self._behind = place.gateway is not None

    def kind(self, part: str) -> Kind:
        return ROUTE if self._behind and role_inside(part) is None else SERVICE

    def name(self, part: str) -> str:
        return self._names.route_of(part) if self.kind(part) == ROUTE else self._names.service_of(part)

    def further(self, first: Mapping[str, Any]) -> Mapping[str, str]:
        """Return which parts the first one says that there are besides it, and of which doors they are. Without a
        Gateway none is beside routes: it would be called as the first one is."""
        known = further_parts(first)
        return known if self._behind else {part: key for part, key in known.items() if role_inside(key) is None}

    def services(self, doors: Iterable[str]) -> Iterator[str]:
        """Yield all parts that can be Services of an environment which has ``doors`` besides its first."""
        keys = map(inside_key, (FIRST_DOOR, *role_keys(doors))) if self._behind else (FIRST_DOOR, *doors)
        return map(door_part, keys)
