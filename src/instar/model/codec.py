"""Frozen values ↔ JSON, and the one canonical form that digests are taken of.

Canonical JSON here: UTF-8, keys sorted, no white space, no floating-point numbers (times are integer
milliseconds, processors are integer thousandths), so that every reader writes the same bytes.

A field that joined a value after its digests were first written down is declared with ``metadata=ADDED``: it is left
out while it has its default. So the digest of what does not use it stays what it was, and an upgrade of Instar makes
no new release of a definition that nobody changed. What a default means must therefore never change. A field that is
written under another name than its own, because files of older versions have that, says so: ``metadata=written_as(…)``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from json import JSONDecoder

T = TypeVar("T")

ADDED: Final = {"added": True}


def written_as(key: str) -> Mapping[str, str]:
    """Return the metadata of a field that JSON calls ``key``."""
    return {"written_as": key}


def to_json(value: Any) -> Any:
    """Turn a value of frozen dataclasses, tuples, mappings and scalars into what ``json`` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {_key(field): to_json(getattr(value, field.name)) for field in _told(value)}
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
        return typing.cast(T, _build(cls, data))
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a {cls.__name__}: {error}") from error


def _told(value: Any) -> Iterator[dataclasses.Field[Any]]:
    for field in dataclasses.fields(value):
        if "added" not in field.metadata or getattr(value, field.name) != _default(field):
            yield field


def _key(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("written_as", field.name))


def _default(field: dataclasses.Field[Any]) -> Any:
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
def _of_fields(cls: type) -> dict[str, tuple[str, Any]]:
    """Return how JSON calls each field, and of which type it is."""
    return {field.name: (_key(field), hints(cls)[field.name]) for field in dataclasses.fields(cls)}


def _build(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        _require(data, dict, "a section")
        fields = _of_fields(typing.cast(type, kind))
        known = {name: _build(hint, data[key]) for name, (key, hint) in fields.items() if key in data}
        return typing.cast(Any, kind)(**known)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _of_a_union(kind, data)
    if origin is tuple:
        _require(data, list, "a list")
        return tuple(_build(typing.get_args(kind)[0], item) for item in data)
    if origin is typing.Literal:
        return _literal(kind, data)
    if origin is not None and issubclass(origin, Mapping):
        item_kind = typing.get_args(kind)[1]
        return {key: _build(item_kind, item) for key, item in data.items()}
    return _scalar(kind, data)


def _of_a_union(kind: Any, data: Any) -> Any:
    """Build the first of the types that ``data`` fits."""
    *others, last = (item for item in typing.get_args(kind) if item is not type(None))
    for one in others:
        with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError):
            return _build(one, data)
    return _build(last, data)


def _require(data: Any, kind: type, name: str) -> None:
    if not isinstance(data, kind):
        raise TypeError(f"{data!r:.60} is not {name}")


def _literal(kind: Any, data: Any) -> Any:
    if data not in typing.get_args(kind):
        raise TypeError(f"{data!r} is none of {typing.get_args(kind)}")
    return data


def _scalar(kind: Any, data: Any) -> Any:
    if kind is Any:
        return data
    if kind is datetime:
        return datetime.fromisoformat(data)
    base = str if issubclass(kind, str) else kind
    if not isinstance(data, base) or (base is int and isinstance(data, bool)):
        raise TypeError(f"{data!r} is not {kind.__name__}")
    return data if kind is base else kind(data)
