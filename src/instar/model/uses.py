"""What instances find by name: other environments, behind their routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.environment import Allow

INTERNAL: Final = ".internal"  # what the names end with


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """Another environment (SERVICE/ENV) that instances find by its service's name, and the port of its service, at
    which they ask it. ``at``: where they ask it instead, of an engine with names of its own ("api-dev.shop.svc:80").
    ``role``: which role of it, besides the first."""

    environment: str
    port: int
    at: str | None = field(default=None, metadata=ADDED)
    role: str | None = field(default=None, metadata=ADDED)

    @property
    def service(self) -> str:
        return self.environment.partition("/")[0]

    @property
    def name(self) -> str:
        """The environment's own name."""
        return self.environment.partition("/")[2]

    @property
    def host(self) -> str:
        """The name that it has inside."""
        of_role = f"{self.role}." if self.role else ""
        return f"{of_role}{self.service}{INTERNAL}" if self.at is None else self.at.rpartition(":")[0]

    @property
    def shown_port(self) -> int:
        """The port beside that name."""
        return self.port if self.at is None else int(self.at.rpartition(":")[2])

    @property
    def word(self) -> str:
        """What a definition calls it."""
        return f"{self.environment}:{self.role}" if self.role else self.environment

    @property
    def allow(self) -> Allow:
        """What instances may reach by it."""
        return Allow(to=self.environment, ports=(f"{self.port}/tcp",))

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that say where it is."""
        word = variable_word(self.service, self.role)
        return {f"{word}_HOST": self.host, f"{word}_PORT": str(self.shown_port)}


def variable_word(service: str, role: str | None) -> str:
    """Return what the variables begin with that say where a service, or another role of it than the first, is."""
    return f"{service}_{role}".upper().replace("-", "_") if role else service.upper().replace("-", "_")


def circle_text(way: Sequence[str]) -> str:
    """Say what it means that environments use each other in a circle, both ends of which are ``way``'s."""
    return (
        f"{' uses '.join(way)}: that works as long as they are there, but on another machine none of them could be "
        "deployed first"
    )
