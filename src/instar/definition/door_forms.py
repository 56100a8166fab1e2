"""How the doors of an environment are written: one for each role, and each of its ports."""

from __future__ import annotations

from typing import Any, Final

from instar.definition.composed import OneOrMore
from instar.definition.forms import NAME, Misfit, fits
from instar.definition.problems import Problems, nearest
from instar.definition.shapes import Shape, Text
from instar.definition.source import Mapping, Node
from instar.model.roles import SERVICE

DOOR: Final = rf"{NAME}(?:\.{NAME})?"
KEPT: Final = rf"\.{NAME}|{DOOR}"


def door(text: str) -> str:
    """Return which door it is: ROLE, or ROLE.PORT."""
    if not fits(DOOR, text):
        raise Misfit("")
    return text


def kept(text: str) -> str:
    """Return which door it is, as it is kept: of the first role, .PORT alone."""
    if not fits(KEPT, text):
        raise Misfit("")
    return text


class ByDoor(OneOrMore):
    """One of a shape, or a list of them, or a section by door with one of these for each: read as a list, or as lists
    by name. A section is one by door where a key of it is a door of a port, or none that the shape itself has."""

    def __init__(self, item: Shape, expected: str, names: Text, forms: tuple[str, ...]) -> None:
        super().__init__(item, expected)
        self.names = names
        self.forms = forms

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Mapping) or not any(self._is_door(name) for name in node.entries):
            return super().read(node, path, problems)
        found: dict[str, Any] = {}
        for name, one in node.entries.items():
            if not fits(DOOR, name):
                message = f"{path}: expected {self.names.expected}, found '{name}'"
                problems.add(one.key_mark or one.mark, message)
                continue
            found[name] = super().read(one, f"{path}.{name}", problems)
        return found

    def written(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {door: super(ByDoor, self).written(one) for door, one in value.items()}
        return super().written(value)

    def _is_door(self, name: str) -> bool:
        return "." in name or name == SERVICE or not nearest(name, self.forms, cutoff=0.8)

    def json_schema(self) -> dict[str, Any]:
        direct = super().json_schema()
        doors = {"propertyNames": {"pattern": f"^(?:{DOOR})$"}, "minProperties": 1}
        return {
            "anyOf": [*direct["anyOf"], {"type": "object", **doors, "additionalProperties": {"anyOf": direct["anyOf"]}}]
        }
