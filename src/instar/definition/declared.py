"""Dataclasses whose fields declare keys (``model.declaration``) → the sections that read, describe and publish them.

A provider's own section is read in the same way: declare a dataclass, and :meth:`Sections.of` gives its section for a
:class:`~instar.definition.section.Key`, or :func:`read_section` its value from the text of a file.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from instar.definition import door_forms, forms
from instar.definition.composed import Either, ListOf, MapOf, OneOrMore
from instar.definition.problems import Problems
from instar.definition.section import Key, Reading, Section, built
from instar.definition.shapes import Choice, Decimal, Flag, Shape, Text, Whole
from instar.definition.source import Mapping as MapNode
from instar.definition.source import read
from instar.definition.values import BY_UNIT, NAMES, VALUES
from instar.model.codec import hints
from instar.model.declaration import Declaration

_SUCH: Final = "a section such as "
_SHOWN: Final = 8  # keys of a section that has no example


class About:
    """What a dataclass does not say of its section: see :class:`~instar.definition.section.Section`.

    ``of``: the dataclass, where a section is known by a name; ``without``: keys of it that this section has not;
    ``also``: a dataclass whose keys it has besides.
    """

    def __init__(
        self,
        expected: str = "",
        *,
        of: type[Any] | None = None,
        without: tuple[str, ...] = (),
        also: type[Any] | None = None,
        make: Callable[..., Any] | None = None,
        parts: Callable[[Any], Mapping[str, Any]] | None = None,
        check: Callable[[Reading, Problems], None] | None = None,
        elsewhere: Mapping[str, str] | None = None,
        bare: bool = False,
        installed: Callable[[], Mapping[str, Key]] | None = None,
    ) -> None:
        self.expected = expected
        self.of = of
        self.without = without
        self.also = also
        self.more: dict[str, Any] = {"make": make, "parts": parts, "check": check, "elsewhere": elsewhere, "bare": bare}
        self.more["installed"] = installed


_PLAIN: Final = About()


class Sections:
    """The sections of dataclasses that belong together, each made once. ``about`` is by dataclass, or by a name that a
    key's ``value`` can have. The one that is asked for first is the whole file."""

    def __init__(self, about: Mapping[type[Any] | str, About] | None = None) -> None:
        self._about = about or {}
        self._root: Section | None = None
        self._made: dict[type[Any] | str, Section] = {}

    def of(self, known: type[Any] | str) -> Section:
        """Return the section of a dataclass."""
        if known not in self._made:
            made = self._made[known] = self._make(known, self._about.get(known, _PLAIN))
            self._root = made.root = self._root or made
        return self._made[known]

    def _make(self, known: type[Any] | str, about: About) -> Section:
        model: type[Any] = about.of or typing.cast(type[Any], known)
        names = [name for name, *_ in _declared(model)]
        shown = names if len(names) <= _SHOWN else [*names[:_SHOWN], "…"]
        expected = about.expected or f"a section {{{', '.join(shown)}}}"
        return Section(expected, model, declared=self._keys(model, about), **about.more)

    def _keys(self, model: type[Any], about: About) -> Iterator[Key]:
        also = () if about.also is None else _declared(about.also)
        for name, field, hint, declared in (*_declared(model), *also):
            if name not in about.without:
                shape = self._shape(hint, declared, field)
                default = None if about.also and field in about.also.__dataclass_fields__ else declared.default
                more = {"default": default, "default_about": declared.default_about}
                yield Key(name, shape, declared.about, field=field, **more)

    def _shape(self, hint: Any, declared: Declaration, field: str) -> Shape:
        """Return what may stand at a key: all of it, where :meth:`_one` is an item."""
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            return self._shape(next(one for one in typing.get_args(hint) if one is not type(None)), declared, field)
        if origin not in (tuple, Mapping):
            return self._one(hint, declared, field)
        one = self._one(typing.get_args(hint)[-1 if origin is Mapping else 0], declared, field)
        if isinstance(one, ListOf | MapOf):
            return one
        expected = declared.expected or one.expected.replace(_SUCH, "a list of sections such as ", 1)
        if origin is Mapping:
            return MapOf(NAMES[declared.names], one, expected)
        if declared.by_door:
            return door_forms.ByDoor(one, expected, NAMES["door"], tuple(_words(declared.value)))
        if declared.or_one:
            return OneOrMore(one, expected)
        return ListOf(one, expected, minimum=declared.minimum, unique=declared.unique)

    def _one(self, hint: Any, declared: Declaration, field: str) -> Shape:
        if declared.value is None:
            return self._of_hint(hint, declared, field)
        if isinstance(declared.value, tuple):
            return Either(*(self._named(one) for one in declared.value))
        shape = self._named(declared.value)
        return shape.between(declared.low, declared.high) if isinstance(shape, Text) else shape

    def _named(self, value: Any) -> Shape:
        if isinstance(value, Shape):
            return value
        if value not in VALUES and value not in self._about and not dataclasses.is_dataclass(value):
            raise TypeError(f"no value is called {value!r}; there are: {', '.join(VALUES)}")
        return VALUES[value] if value in VALUES else self.of(value)

    def _of_hint(self, hint: Any, declared: Declaration, field: str) -> Shape:
        if typing.get_origin(hint) is typing.Literal:
            return Choice(typing.get_args(hint), later=declared.later)
        if hint is bool:
            return Flag()
        if hint is not int:
            return self.of(hint)
        for unit, shape in BY_UNIT.items():
            if field.endswith(unit):
                return shape.between(declared.low, declared.high)
        if declared.low is None or declared.high is None:
            raise TypeError(f"the number '{field}' is declared without its bounds")
        if field.endswith("_milli"):
            return Decimal(3, declared.low, declared.high, advise=forms.thousandths)
        advise = {"advise": forms.percent} if field.endswith("_percent") else {}
        return Whole(declared.low, declared.high, **advise)


def _declared(model: type[Any]) -> Iterator[tuple[str, str, Any, Declaration]]:
    """Yield the name of each key of a dataclass, its field, the field's type, and how it is declared."""
    metadata = {field.name: field.metadata for field in dataclasses.fields(model)}
    for field, hint in hints(typing.cast(type, model)).items():
        declared = (metadata[field] if field in metadata else getattr(model, field)).get("key")
        if declared:
            yield declared.name_of(field), field, hint, declared


def _words(values: Any) -> Iterator[str]:
    """Yield the keys of those of ``values`` that are dataclasses, and what may be taken for one of them."""
    yield from (
        name for one in values if dataclasses.is_dataclass(one) for name, *_ in _declared(typing.cast(type, one))
    )
    yield from ("tls", "internal", "port", "ports")


def read_section(section: Section, text: str, problems: Problems) -> Any:
    """Return the value of a file that is one section. Raises the error of ``problems`` with all that is wrong in it.

    A file with nothing in it is a section with nothing in it.
    """
    root = read(text, problems)
    reading = section.read(root or MapNode((1, 1)), "", problems)
    if problems:
        raise problems.error()
    return built(reading)
