"""What a part of Instar needs of its machine: a program, a file, a feature of the kernel."""

from __future__ import annotations

from dataclasses import field

from instar.frozen import dataclass
from instar.model.codec import ADDED


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """``found`` is its version, or what else shows that it is here; None when it isn't.

    ``get`` says how to get it, for people. Without a ``required`` one nothing runs; without another, less is had.
    ``instead``: what is shown of one that is not required and not found.
    """

    name: str
    purpose: str
    found: str | None
    get: str
    required: bool = True
    instead: str = field(default="not here", metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    components: tuple[Component, ...]
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing that is required is missing."""
        return all(component.found or not component.required for component in self.components)
