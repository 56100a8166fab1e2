"""Shapes that are made of others: lists, sections of the author's own names, and one of several."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from instar.definition import forms
from instar.definition.problems import Problems, listed
from instar.definition.shapes import FAILED, Choice, Shape, Text
from instar.definition.source import Listing, Node, Scalar
from instar.definition.source import Mapping as MapNode


class ListOf(Shape):
    """A list of one shape; no two items are equal when ``unique``."""

    node = Listing

    def __init__(self, item: Shape, expected: str, *, minimum: int = 0, unique: bool = False) -> None:
        super().__init__(expected)
        self.item = item
        self.minimum = minimum
        self.unique = unique

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, Listing):
            return self.misfit(node, path, problems, _as_list(node, self.item))
        if len(node.items) < self.minimum:
            problems.add(node.mark, f"{path}: expected {self.expected}, found an empty list")
            return FAILED
        values = [self.item.read(item, path, problems) for item in node.items]
        if self.unique:
            self._refuse_twice(values, node.items, path, problems)
        return values

    def _refuse_twice(self, values: list[Any], nodes: list[Node], path: str, problems: Problems) -> None:
        seen: dict[Any, Node] = {}
        for value, node in zip(values, nodes, strict=True):
            if value is not FAILED and value in seen:
                shown = f"'{self.item.written(value)}' stands here twice, first in line {seen[value].mark[0]}"
                problems.add(node.mark, f"{path}: {shown}")
            seen.setdefault(value, node)

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.item.json_schema()}
        if self.minimum:
            schema["minItems"] = self.minimum
        return {**schema, "uniqueItems": True} if self.unique else schema

    def written(self, value: Any) -> list[Any]:
        return [self.item.brief(item) for item in value]


class OneOrMore(Shape):
    """One of a shape, or a list of them; always read as a list."""

    def __init__(self, item: Shape, expected: str) -> None:
        super().__init__(expected)
        self.item = item

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        nodes = node.items if isinstance(node, Listing) else [node]
        if not nodes:
            problems.add(node.mark, f"{path}: expected {self.expected}, found an empty list")
            return FAILED
        return [self.item.read(each, path, problems) for each in nodes]

    def json_schema(self) -> dict[str, Any]:
        item = self.item.json_schema()
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}

    def written(self, value: Any) -> Any:
        items = [self.item.written(item) for item in value]
        return items[0] if len(items) == 1 else items


class MapOf(Shape):
    """Names of the author's own, each with a value of one shape."""

    node = MapNode

    def __init__(self, key: Text, value: Shape, expected: str) -> None:
        super().__init__(expected)
        self.key = key
        self.value = value

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node, MapNode):
            return self.misfit(node, path, problems, _of_empty(node))
        values: dict[str, Any] = {}
        for name, item in node.entries.items():
            key = Scalar(item.key_mark or item.mark, name, plain=False)
            known = self.key.read(key, path, problems) is not FAILED
            values[name] = self.value.read(item, f"{path}.{name if known else 'NAME'}", problems)
        return values

    def json_schema(self) -> dict[str, Any]:
        names = {"pattern": f"^(?:{self.key.pattern})$"}
        return {"type": "object", "propertyNames": names, "additionalProperties": self.value.json_schema()}

    def written(self, value: Any) -> dict[str, Any]:
        return {name: self.value.written(item) for name, item in value.items()}


class Either(Shape):
    """One of several shapes, told apart by what stands there: a text, a list or a section."""

    def __init__(self, *shapes: Shape) -> None:
        super().__init__(listed(shape.expected for shape in shapes))
        self.shapes = shapes

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        for shape in self.shapes:
            if isinstance(node, shape.node):
                return shape.read(node, path, problems)
        return self.misfit(node, path, problems)

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [shape.json_schema() for shape in self.shapes]}

    def written(self, value: Any) -> Any:
        section = dataclasses.is_dataclass(value) or isinstance(value, Mapping)
        kind = MapNode if section else Listing if isinstance(value, tuple | list) else Scalar
        return next((one for one in self.shapes if one.node is kind), self.shapes[0]).written(value)


def _as_list(node: Node, item: Shape) -> str:
    """Return how what was written looks as a list of ``item``, when that is clear."""
    if isinstance(node, MapNode):
        return "write it as a list: [{…}], or '- ' before it" if item.node is MapNode else ""
    if not isinstance(node, Scalar) or node.kind == "nothing" or len(node.text) > 60:
        return ""
    if isinstance(item, Text | Choice):
        words = forms.listed_words(node.text)
    else:
        words = re.split("[, ]+", node.text) if forms.fits(r"\d+([, ]+\d+)*", node.text) else []
    return f"write it as a list: [{', '.join(words)}]" if words else ""


def _of_empty(node: Node) -> str:
    if isinstance(node, Scalar) and node.kind == "nothing":
        return "write {} for an empty one, or leave its key out"
    return ""
