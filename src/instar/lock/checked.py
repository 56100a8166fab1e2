"""What stands in a lock's file, looked at piece by piece: of the right kind, in the right form, nothing besides."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_SHOWN_CHARACTERS = 100
_DIGITS_LIMIT = 20


class WrongLock(Exception):
    """What is wrong with the file, to be told with its name."""


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WrongLock(f"the key {_twice([key for key, _ in pairs])} is there twice")
    return found


def int_of(text: str) -> int:
    """Python itself refuses to read a number of more than some thousand digits, with an error of its own."""
    if len(text) > _DIGITS_LIMIT:
        raise WrongLock(f"a number has {len(text):,} digits")
    return int(text)


def constant_of(text: str) -> NoReturn:
    raise WrongLock(f"it is not JSON: {text} is no number")


def require_keys(data: Any, keys: tuple[str, ...], where: str, *, optional: Collection[str] = ()) -> None:
    if not isinstance(data, dict):
        raise WrongLock(f"{where}: expected an object")
    if missing := sorted(set(keys) - data.keys()):
        raise WrongLock(f"{where}: {missing[0]!r} is missing")
    if unknown := sorted(data.keys() - {*keys, *optional}):
        raise WrongLock(f"{where}: unknown key {shown(unknown[0])}")


def listed(data: Mapping[str, Any], key: str, build: Callable[[Any], T]) -> list[T]:
    entries = data[key]
    if not isinstance(entries, list):
        raise WrongLock(f"{key}: expected a list")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(build(entry))
        except WrongLock as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            is_name = isinstance(name, str) and len(name) <= _SHOWN_CHARACTERS and LINE.match(name)
            raise WrongLock(f"{key}, entry {number}{f' ({name})' if is_name else ''}: {error}") from error
    return found


def fit(value: Any, form: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str):
        raise WrongLock(f"{what}: expected text, found {shown(value)}")
    if not form.match(value):
        raise WrongLock(f"{what}: {shown(value)} has not the form of one")
    return value


def require_unique(names: Sequence[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise WrongLock(f"the {what} {_twice(names)} is there twice")


def _twice(names: Sequence[str]) -> str:
    seen = set[str]()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return shown(name)


def shown(value: Any) -> str:
    """Return a value for a message: in one line, and not longer than one wants to read."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def seconds_of(value: Any, what: str) -> int:
    """Return the Unix seconds of a date."""
    from datetime import datetime

    text = fit(value, _DATE, what)
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise WrongLock(f"{what}: {text!r} is none") from error
