"""What a shared ledger keeps, held against the forms of a definition: others write it too, and root acts by it.

A row may say nothing that no definition can: a name that leads out of a folder, a port that is a second rule of the
firewall, a million instances. What several keys say together is not looked at here: that an environment's own people
may get wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from instar.definition import forms
from instar.definition.composed import ListOf, MapOf
from instar.definition.shapes import Choice, Installed, Shape, Text
from instar.definition.values import NAMES, VALUES
from instar.model.configuration import Configuration
from instar.model.declaration import Declaration
from instar.model.doors import Door
from instar.model.environment import ScheduledTask, Settings
from instar.model.host_names import HostNames
from instar.model.release import OwnNames
from instar.model.uses import Used

_OF_ITS_OWN: Final = (  # kept in another form than they are written in, and no part of any path
    (HostNames, "client_ca"),
    (Settings, "provider_settings"),
    (Configuration, "provider_settings"),
)
_SITES: Final = Declaration("", ("site", "secure site"))
_UNDECLARED: Final = {  # what is put together of a definition, or kept in another form
    (Configuration, "config"): Declaration("", "variables"),
    (Configuration, "secrets"): Declaration("", "variables"),
    (Configuration, "secret_variables"): Declaration("", "variable"),
    (Configuration, "role"): Declaration("", "name"),
    (Configuration, "roles"): Declaration("", names="name"),
    (Settings, "listen"): Declaration("", "address"),
    (Settings, "doors"): Declaration("", names="kept door"),
    (Door, "listen"): Declaration("", "address"),
    (Door, "sites"): _SITES,
    (Used, "environment"): Declaration("", "environment of a service"),
    (Used, "port"): Declaration("", low=1, high=65535),
    (Used, "at"): Declaration("", "host"),
    (Used, "role"): Declaration("", "name"),
    (Configuration, "schedule"): Declaration("", names="name"),
    (ScheduledTask, "zone"): Declaration("", "kept time zone"),
    (OwnNames, "held"): _SITES,
    (OwnNames, "expected"): _SITES,
}


def require_kept(value: Settings | Configuration | OwnNames) -> None:
    """Raise ValueError for the first thing in ``value`` that no definition can say."""
    _require(value, "")


def _require(value: Any, path: str) -> None:
    for field in dataclasses.fields(value):
        if any(isinstance(value, of) and field.name == name for of, name in _OF_ITS_OWN):
            continue
        declared = _UNDECLARED.get((type(value), field.name)) or field.metadata.get("key")
        where = f"{path}.{field.name}" if path else field.name
        for each in _each(getattr(value, field.name), declared, where):
            _require_one(each, declared, where)


def _each(value: Any, declared: Declaration | None, path: str) -> Iterator[Any]:
    """Yield what stands there alone, in a list, or by names, which are held against their form."""
    if isinstance(value, Mapping):
        for name in value:
            _require_text(name, [NAMES[declared.names if declared else "variable"]], path)
        yield from value.values()
    elif isinstance(value, tuple):
        yield from value
    else:
        yield value


def _require_one(value: Any, declared: Declaration | None, path: str) -> None:
    if dataclasses.is_dataclass(value):
        _require(value, path)
    elif isinstance(value, str):
        value.encode()  # half of a character can be written to no file
        _require_text(value, list(_shapes(declared)), path)
    elif isinstance(value, int) and declared is not None:
        low, high = declared.low or 0, declared.high
        if not low <= value or (high is not None and value > high):
            raise ValueError(f"{path}: {value} is not from {low} to {high or 'any'}")


def _shapes(declared: Declaration | None) -> Iterator[Shape]:
    for one in () if declared is None else _as_tuple(declared.value):
        shape = VALUES.get(one) if isinstance(one, str) else one
        if isinstance(shape, ListOf):
            shape = shape.item
        if isinstance(shape, MapOf):
            shape = shape.value
        if isinstance(shape, Shape) and not isinstance(shape, Installed):
            yield shape


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _require_text(text: str, shapes: list[Shape], path: str) -> None:
    if shapes and not any(_fits(text, shape) for shape in shapes):
        raise ValueError(f"{path}: {text!r:.60} is not {' or '.join(shape.expected for shape in shapes)}")


def _fits(text: str, shape: Shape) -> bool:
    """Tell whether ``shape`` reads a text as itself: what is kept has the one form of it."""
    if isinstance(shape, Choice):
        return text in shape.words
    try:
        return not isinstance(shape, Text) or shape.form(text) == text
    except forms.Misfit:
        return False
