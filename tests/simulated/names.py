"""The addresses by which simulated instances find environments."""

from __future__ import annotations

from collections.abc import Collection

from instar.model.release import EnvironmentId
from simulated.effects import Effects


class SimulatedNames:
    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.names: dict[EnvironmentId, str] = {}

    def name(self, environment: EnvironmentId, port: int) -> str:
        with self.effects.guard:
            if environment not in self.names:
                with self.effects.step(f"name {environment}"):
                    self.names[environment] = f"10.98.0.{len(self.names) + 2}:1"
        return self.names[environment]

    def find_name(self, environment: EnvironmentId) -> str | None:
        return self.names.get(environment)

    def let_go_of_names(self, known: Collection[EnvironmentId]) -> None:
        for environment in self.names.keys() - set(known):
            del self.names[environment]
