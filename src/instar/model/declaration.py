"""How a key of a file that people write is declared: once, with the field of the dataclass that it becomes.

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Limits:
        memory_bytes: int = field(default=256 << 20, metadata=key("Memory of one instance.", low=4 << 20))

The field gives the type, the default and the unit, :func:`key` the bounds and the words; ``definition.declared`` makes
the strict reader, the JSON Schema and the reference page of it. Every command imports this and few read a file, so that
nothing is made of a declaration before somebody asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

UNITS: Final = ("_ms", "_bytes", "_milli", "_percent")  # at the end of a field's name, and not of its key's


class Declaration:
    """What :func:`key` was told of one key."""

    def __init__(
        self,
        about: str,
        value: Any = None,
        *,
        name: str = "",
        default: Any = dataclasses.MISSING,
        default_about: str = "",
        low: int | None = None,
        high: int | None = None,
        expected: str = "",
        minimum: int = 0,
        unique: bool = False,
        or_one: bool = False,
        by_door: bool = False,
        names: str = "variable",
        later: tuple[str, ...] = (),
    ) -> None:
        self.about = about
        self.value = value
        self.name = name
        self.default = default
        self.default_about = default_about
        self.low = low
        self.high = high
        self.expected = expected
        self.minimum = minimum
        self.unique = unique
        self.or_one = or_one
        self.by_door = by_door
        self.names = names
        self.later = later

    def name_of(self, field: str) -> str:
        """Return what the key of a field is called."""
        return self.name or next((field.removesuffix(unit) for unit in UNITS if field.endswith(unit)), field)


def key(about: str, value: Any = None, *, added: bool = False, **more: Any) -> Mapping[str, Any]:
    """Declare a key: the result is its field's ``metadata``, or, where it becomes no field of its own, a ``ClassVar``.

    ``about`` is one sentence for the JSON Schema and the reference. ``added``: as ``codec.ADDED``.

    ``value`` is what may stand there, of a list or of names' values each: the name of a value in ``definition.values``,
    a dataclass, a shape, or several of these. Nothing is needed where the field tells: of a ``Literal``, a boolean, a
    dataclass, and of a number by the unit in its name (``_ms``, ``_bytes``, ``_milli``, ``_percent``), else by bounds.

    More, as :class:`Declaration` has it: ``name``, if it is not the field's without its unit; ``default``, if it is not
    the field's, and ``default_about``, what the reference says of it where its value would not tell; ``low`` and
    ``high``, in the field's unit; of a list ``minimum``, ``unique`` and ``or_one`` (one may stand there without a
    list) and ``by_door`` (and a section with one for each door); of a section of the author's own names the value of
    ``names``; ``expected``, what a wrong list or section is told; ``later``, words of a later version.
    """
    declared: dict[str, Any] = {"key": Declaration(about, value, **more)}
    return {**declared, "added": True} if added else declared
