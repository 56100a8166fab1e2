"""The addresses by which simulated instances find environments."""

from __future__ import annotations

from collections.abc import Collection

from instar.model.release import EnvironmentId
from instar.model.roles import FIRST_DOOR
from simulated.effects import Effects


class SimulatedNames:
    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.names: dict[tuple[EnvironmentId, str], str] = {}

    def name(self, environment: EnvironmentId, port: int | None, door: str = FIRST_DOOR) -> str:
        key = (environment, door)
        with self.effects.guard:
            if key not in self.names:
                with self.effects.step(f"name {environment} {door}".rstrip()):
                    self.names[key] = f"10.98.0.{len(self.names) + 2}:1"
        return self.names[key]

    def find_name(self, environment: EnvironmentId, door: str = FIRST_DOOR) -> str | None:
        return self.names.get((environment, door))

    def let_go_of_names(self, known: Collection[EnvironmentId]) -> None:
        for key in [key for key in self.names if key[0] not in set(known)]:
            del self.names[key]
