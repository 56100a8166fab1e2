"""What a part of Instar needs of its machine: a program, a file, a feature of the kernel."""

from __future__ import annotations

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """``found`` is its version, or what else shows that it is here; None when it isn't.

    ``get`` says how to get it, for people. Without a ``required`` one nothing runs; without another, less is had.
    """

    name: str
    purpose: str
    found: str | None
    get: str
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    components: tuple[Component, ...]
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing that is required is missing."""
        return all(component.found or not component.required for component in self.components)
