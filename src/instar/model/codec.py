"""Frozen values ↔ JSON, and the one canonical form that digests are taken of.

Canonical JSON here: UTF-8, keys sorted, no white space, no floating-point numbers (times are integer
milliseconds, processors are integer thousandths), so that every reader writes the same bytes.

A field that joined a value after its digests were first written down is declared with ``metadata=ADDED``: it is left
out while it has its default. So the digest of what does not use it stays what it was, and an upgrade of Instar makes
no new release of a definition that nobody changed. What a default means must therefore never change. A field that is
written under another name than its own, because files of older versions have that, says so: ``metadata=written_as(…)``.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from json import JSONDecoder

T = TypeVar("T")

Build: TypeAlias = "Callable[[Any], Any]"  # of what JSON says, a value

ADDED: Final = {"added": True}
_ALWAYS: Final = object()
_AS_THEY_ARE: Final = frozenset({str, int, bool, float})


def written_as(key: str) -> Mapping[str, str]:
    """Return the metadata of a field that JSON calls ``key``."""
    return {"written_as": key}


def to_json(value: Any) -> Any:
    """Turn a value of frozen dataclasses, tuples, mappings and scalars into what ``json`` writes."""
    kind = type(value)
    if value is None or kind in _AS_THEY_ARE:
        return value
    if dataclasses.is_dataclass(kind):
        fields = ((key, getattr(value, name), default) for name, key, default in _written(kind))
        return {key: to_json(item) for key, item, default in fields if default is _ALWAYS or item != default}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of ``value``. Raises ValueError for a float."""
    import json  # reading a definition needs this module, and not that one

    data = to_json(value)
    _refuse_floats(data)
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse(text: str | bytes) -> Any:
    """Return what JSON says. Raises ValueError for all that is none: bytes that are no UTF-8, numbers of thousands of
    digits or beyond all bounds, and what is nested deeper than can be read."""
    try:
        return _decoder().decode(text if isinstance(text, str) else text.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@functools.cache
def _decoder() -> JSONDecoder:
    import json

    return json.JSONDecoder(parse_constant=_no_number)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON's")


def from_json(cls: type[T], data: Any) -> T:
    """Build a dataclass from what :func:`to_json` made of one; keys that it does not have are ignored.

    Raises ValueError when a key is missing or a value has the wrong type.
    """
    try:
        return typing.cast(T, _builder(cls)(data))
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a {cls.__name__}: {error}") from error


@functools.cache
def _written(cls: type) -> tuple[tuple[str, str, Any], ...]:
    """Return each field's name, how JSON calls it, and with which value it is left out."""
    return tuple((field.name, _key(field), _left_out(field)) for field in dataclasses.fields(cls))


def _key(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("written_as", field.name))


def _left_out(field: dataclasses.Field[Any]) -> Any:
    if "added" not in field.metadata:
        return _ALWAYS
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _refuse_floats(data: Any) -> None:
    if isinstance(data, float):
        raise ValueError(f"canonical JSON has no floating-point numbers: {data!r}")
    if isinstance(data, dict):
        for item in data.values():
            _refuse_floats(item)
    elif isinstance(data, list):
        for item in data:
            _refuse_floats(item)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Return the types of a class's fields, and of its class variables, those of its bases first.

    As ``typing.get_type_hints`` does for types that are written as texts or stand there as they are, in a tenth of the
    time: it stands in the way of every command that reads a file or a row.
    """
    written = ((base, vars(base).get("__annotations__", {})) for base in reversed(cls.__mro__))
    return {
        name: _type(kind, base.__module__) if isinstance(kind, str) else kind
        for base, fields in written
        for name, kind in fields.items()
    }


@functools.cache
def _type(text: str, module: str) -> Any:
    return eval(text, vars(sys.modules[module]))  # noqa: S307  it stands in this program


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, str, Build], ...]:
    """Return each field's name, how JSON calls it, and what builds its value."""
    return tuple((field.name, _key(field), _builder(hints(cls)[field.name])) for field in dataclasses.fields(cls))


def _builder(kind: Any) -> Build:
    """Return what builds a value of that type of what JSON says."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return functools.partial(_of_a_class, kind)
    if origin in (typing.Union, types.UnionType):
        return functools.partial(_of_a_union, tuple(_builder(item) for item in inner if item is not type(None)))
    if origin is tuple:
        return functools.partial(_of_a_list, _builder(inner[0]))
    if origin is typing.Literal:
        return functools.partial(_literal, inner)
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_of_a_mapping, _builder(inner[1]))
    return functools.partial(_scalar, kind, str if kind is not Any and issubclass(kind, str) else kind)


def _of_a_class(kind: Any, data: Any) -> Any:
    _require(data, dict, "a section")
    return kind(**{name: build(data[key]) for name, key, build in _fields(kind) if key in data})


def _of_a_union(builders: tuple[Build, ...], data: Any) -> Any:
    """Build the first of the types that ``data`` fits."""
    if data is None:
        return None
    for build in builders[:-1]:
        try:
            return build(data)
        except (TypeError, ValueError, KeyError, AttributeError):
            continue
    return builders[-1](data)


def _of_a_list(build: Build, data: Any) -> Any:
    _require(data, list, "a list")
    return tuple(build(item) for item in data)


def _of_a_mapping(build: Build, data: Any) -> Any:
    return {key: build(item) for key, item in data.items()}


def _require(data: Any, kind: type, name: str) -> None:
    if not isinstance(data, kind):
        raise TypeError(f"{data!r:.60} is not {name}")


def _literal(allowed: tuple[Any, ...], data: Any) -> Any:
    if data not in allowed:
        raise TypeError(f"{data!r} is none of {allowed}")
    return data


def _scalar(kind: Any, base: Any, data: Any) -> Any:
    if kind is Any:
        return data
    if kind is datetime:
        return datetime.fromisoformat(data)
    if not isinstance(data, base) or (base is int and isinstance(data, bool)):
        raise TypeError(f"{data!r} is not {kind.__name__}")
    return data if kind is base else kind(data)
