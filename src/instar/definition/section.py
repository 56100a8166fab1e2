"""Sections: fixed keys, each with its shape, its default and its description, read into a value of the model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from instar.definition.composed import Either, ListOf, MapOf, OneOrMore
from instar.definition.problems import Problems, listed, nearest, shortened
from instar.definition.shapes import FAILED, Shape, at_path
from instar.definition.source import Mapping as MapNode
from instar.definition.source import Node, Scalar

REQUIRED = object()


class Key:
    """One key of a section. ``field`` is its name in the model; its default is the model's unless given here.

    ``about`` is one sentence for the JSON Schema and the reference, ``default_about`` what the reference says of the
    default where a value would not tell.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        about: str,
        *,
        field: str | None = None,
        default: Any = dataclasses.MISSING,
        default_about: str = "",
    ) -> None:
        self.name = name
        self.shape = shape
        self.about = about
        self.field = field or name
        self.default = default
        self.default_about = default_about


class Section(Shape):
    """``model`` is the dataclass that gives the defaults, ``make`` what builds the value: the model unless given, and
    ``parts`` gives back what a value was made of, by field, where its own fields are other ones.

    ``elsewhere`` are keys that one may look for here, each with what to do instead. ``check`` looks at what one key
    alone cannot tell. ``bare``: a key with nothing behind it stands for the section with nothing in it. ``installed``:
    keys that come with what is installed here; it is looked for only where one may stand. ``declared``: further keys,
    made when the section is first read or described.
    """

    node = MapNode

    def __init__(
        self,
        expected: str,
        model: type[Any],
        *keys: Key,
        make: Callable[..., Any] | None = None,
        parts: Callable[[Any], Mapping[str, Any]] | None = None,
        elsewhere: Mapping[str, str] | None = None,
        check: Callable[[Reading, Problems], None] | None = None,
        bare: bool = False,
        installed: Callable[[], Mapping[str, Key]] | None = None,
        declared: Iterable[Key] = (),
    ) -> None:
        super().__init__(expected)
        self.installed = installed or dict
        self.bare = bare
        self._keys = chain(keys, declared)
        self._model = model
        self.make = make or model
        self._parts = parts or _no_parts
        self.elsewhere = elsewhere or {}
        self.root: Section | None = None  # the whole definition, to say where a misplaced key belongs
        self.check = check

    @functools.cached_property
    def keys(self) -> dict[str, Key]:
        """Return the keys by their names, in their order."""
        known = {key.name: key for key in self._keys}
        for key in known.values():
            if key.default is dataclasses.MISSING:
                key.default = _default(self._model, key.field)
        return known

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if self.bare and isinstance(node, Scalar) and node.kind == "nothing":
            node = MapNode(node.key_mark or node.mark)
        if not isinstance(node, MapNode):
            return self.misfit(node, path, problems, "" if problems.full else self._as_section(node))
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        for name, value in node.entries.items():
            key = self.find_key(name)
            if key is not None:
                values[name] = key.shape.read(value, prefix + name, problems)
                continue
            if problems.full:
                break
            meant = nearest(name, self.all_keys())
            problems.add(value.key_mark or value.mark, at_path(path, self._unknown(name, meant, problems.noun)))
            if meant and meant not in node.entries:
                values[meant] = FAILED  # misspelt: nothing more is said of what it would have meant
        self._require(node, path, values, problems)
        reading = Reading(self, node, path, values)
        if self.check:
            self.check(reading, problems)
        return reading

    def all_keys(self) -> dict[str, Key]:
        return {**self.keys, **self.installed()}

    def find_key(self, name: str) -> Key | None:
        return self.keys.get(name) or self.installed().get(name)

    def _as_section(self, node: Node) -> str:
        if isinstance(node, Scalar) and node.kind == "nothing":
            return "write {} for an empty one"
        first, *others = self.keys.values()
        if not isinstance(node, Scalar) or any(key.default is REQUIRED for key in others):
            return ""
        if node.text == "true" and first.default is not REQUIRED:
            return "write {} for the defaults"
        trial = Problems("")  # was the value of the first key written in place of the section?
        first.shape.read(node, "", trial)
        return "" if trial or set(node.text) & set(",[]{}'\"\n") else f"write {{{first.name}: {node.text}}}"

    def _require(self, node: Node, path: str, values: dict[str, Any], problems: Problems) -> None:
        for key in self.keys.values():
            if key.default is REQUIRED and key.name not in values:
                problems.add(node.mark, at_path(path, f"'{key.name}' is missing; expected {key.shape.expected}"))
                values[key.name] = FAILED

    def _unknown(self, name: str, meant: str | None, noun: str) -> str:
        if name in self.elsewhere:
            return f"there is no '{name}' here; {self.elsewhere[name]}"
        if name == "<<":
            return f"'<<' merges YAML aliases, and there are none in a {noun}"
        unknown = f"unknown key '{shortened(name, 60)}'"
        home = self._home(name)
        if home and not (meant and nearest(name, [meant], cutoff=0.8)):
            return f"{unknown}; it belongs to {home}"
        return f"{unknown}; did you mean '{meant}'?" if meant else f"{unknown}; expected {listed(self.keys)}"

    def _home(self, name: str) -> str | None:
        """Return the section that has the key ``name``, None when none has it, or several that are not in one."""
        homes = [path for path, section in (self.root or self).sections() if name in section.keys]
        own = [path for path in homes if "roles." not in path and not path.startswith("defaults")]
        homes = own or homes  # a role has what a service has, and defaults what an environment has
        homes = [path for path in homes if _of_service(path) == path or _of_service(path) not in homes]
        if not homes or any(home and not f"{home}.".startswith(f"{homes[0]}.") for home in homes[1:]):
            return None
        return f"'{homes[0]}'" if homes[0] else "the top of the file"

    def sections(self, path: str = "", *, installed: bool = True) -> Iterator[tuple[str, Section]]:
        """Yield this section and all below it, each with its path ("service.health", "environments.NAME"). Without
        ``installed`` only those that are always there."""
        yield path, self
        for key in (self.all_keys() if installed else self.keys).values():
            yield from _inner(key.shape, f"{path}.{key.name}" if path else key.name, installed=installed)

    def json_schema(self) -> dict[str, Any]:
        required = [key.name for key in self.keys.values() if key.default is REQUIRED]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {key.name: _property(key) for key in self.all_keys().values()},
            "additionalProperties": False,
        }
        return {**schema, "required": required} if required else schema

    def written(self, value: Any) -> dict[str, Any]:
        """Return a value as its section, all defaults in it; of a mapping that names fields, what is in there."""
        return self._written(self._taken_apart(value))

    def brief(self, value: Any) -> dict[str, Any]:
        usual = {key.field: key.default for key in self.keys.values()}
        return self._written({key: one for key, one in self._taken_apart(value).items() if one != usual.get(key)})

    def _written(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        known = {key.field: key for key in self.keys.values()}
        return {
            known[field].name if field in known else field: known[field].shape.written(one) if field in known else one
            for field, one in fields.items()
        }

    def _taken_apart(self, value: Any) -> Mapping[str, Any]:
        return value if isinstance(value, Mapping) else {**self._fields(value), **self._parts(value)}

    def _fields(self, value: Any) -> dict[str, Any]:
        """Return what a value of the model has of the keys, without what is left out of a section."""
        there = {one.name for one in dataclasses.fields(value)}
        found = {key: getattr(value, key.field) for key in self.keys.values() if key.field in there}
        return {key.field: one for key, one in found.items() if one is not None or key.default is not None}


class Reading:
    """A section as far as it could be read."""

    def __init__(self, section: Section, node: MapNode, path: str, values: dict[str, Any]) -> None:
        self.section = section
        self.node = node
        self.path = path
        self.values = values
        self.own: Reading | None = None  # of an environment that has overrides: the definition as it holds there

    def get(self, name: str) -> Any:
        """Return the value of a key, its default when it was left out, FAILED when it could not be read."""
        return self.values[name] if name in self.values else self._key(name).default

    def _key(self, name: str) -> Key:
        key = self.section.find_key(name)
        assert key is not None  # whoever asks knows the section
        return key

    def node_of(self, name: str) -> Node:
        """Return where a key's value stands; the section itself when it was left out."""
        return self.node.entries.get(name, self.node)

    def line_of(self, name: str) -> int:
        """Return the line in which a key's value stands; that of the section when it was left out."""
        return self.node_of(name).mark[0]

    def build(self) -> Any:
        """Return the model's value. Only for a reading without problems."""
        fields = {self._key(name).field: built(value) for name, value in self.values.items()}
        return self.section.make(**fields)


def built(value: Any) -> Any:
    """Turn what shapes have read into values of the model."""
    if isinstance(value, Reading):
        return value.build()
    if isinstance(value, list):
        return tuple(built(item) for item in value)
    if isinstance(value, dict):
        return {name: built(item) for name, item in value.items()}
    return value


def blame(reading: Reading, key: str, problems: Problems, message: str) -> None:
    """Note what is wrong with the value of ``key``, or with the section that leaves it out."""
    problems.add(reading.node_of(key).mark, f"{reading.path}.{key}: {message}")


def readings(value: Any) -> list[Reading]:
    """Return the sections of a list, as far as it and they could be read."""
    return [item for item in value if isinstance(item, Reading)] if isinstance(value, list) else []


def _no_parts(_: Any) -> Mapping[str, Any]:
    return {}


def _default(model: type[Any], name: str) -> Any:
    field = model.__dataclass_fields__[name]
    if field.default is not dataclasses.MISSING:
        return field.default
    return REQUIRED if field.default_factory is dataclasses.MISSING else field.default_factory()


def _inner(shape: Shape, path: str, *, installed: bool) -> Iterator[tuple[str, Section]]:
    if isinstance(shape, Section):
        yield from shape.sections(path, installed=installed)
    elif isinstance(shape, ListOf | OneOrMore):
        yield from _inner(shape.item, path, installed=installed)
    elif isinstance(shape, MapOf):
        yield from _inner(shape.value, f"{path}.NAME", installed=installed)
    elif isinstance(shape, Either):
        for one in shape.shapes:
            yield from _inner(one, path, installed=installed)


def _of_service(path: str) -> str:
    """Return where a service says what an environment can override."""
    return path.replace("environments.NAME", "service", 1)


def _property(key: Key) -> dict[str, Any]:
    schema = {"title": key.name, "description": key.about, **key.shape.json_schema()}
    if isinstance(key.default, str | int | tuple) and key.default != ():
        schema["default"] = key.shape.written(key.default)
    return schema
