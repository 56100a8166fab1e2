"""Frozen dataclasses each of whose methods is made when it is first called.

``dataclasses`` writes and compiles six methods for each class as its module is imported: for the two hundred of the
model and the port that is a third of what a short command takes, though it makes values of a few and compares fewer.
Here a class gets its fields (and its slots) from the library, ``__init__``, ``__eq__`` and ``__hash__`` at their first
use, and shares the rest with all others. ``fields``, ``replace`` and the type checker know no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    T = TypeVar("T")

    def dataclass(*, frozen: bool, kw_only: bool = False, slots: bool = False) -> Callable[[type[T]], type[T]]:
        """Make a class whose values never change."""
        if not frozen:
            raise TypeError("for values that change there is dataclasses.dataclass")

        def make(cls: type[T]) -> type[T]:
            own = dict(vars(cls))
            cls.__doc__ = cls.__doc__ or cls.__name__  # the library would make one of the signature, which takes longer
            types = cls.__annotations__ = own.pop("__annotations__", {})
            if not any(_is_no_field(text) for text in types.values()):  # else the library looks in each text for one
                cls.__annotations__ = dict.fromkeys(types, object)
            made = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)(cls)
            made.__annotations__ = types
            for name, text in types.items():
                made.__dataclass_fields__[name].type = text
            made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
            if "__repr__" not in own:
                made.__repr__ = _repr
            for name, method in (("__init__", _init), ("__eq__", _eq), ("__hash__", _hash)):
                if name not in own:
                    setattr(made, name, _at_first_use(made, name, method))
            return made

        return make


def _is_no_field(text: str) -> bool:
    return "ClassVar" in text or "InitVar" in text or "KW_ONLY" in text


def _at_first_use(cls: type[Any], name: str, make: Callable[[type[Any]], Callable[..., Any]]) -> Callable[..., Any]:
    """Return what stands for a method until it is called: then it is made, and called."""

    def first(self: Any, *args: Any, **keywords: Any) -> Any:
        made = make(cls)
        made.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, made)
        return made(self, *args, **keywords)

    return first


def _method(signature: str, lines: list[str], names: dict[str, Any]) -> Callable[..., Any]:
    exec(f"def method({signature}):\n  " + "\n  ".join(lines or ["pass"]), names)  # noqa: S102 - names of fields alone
    made: Callable[..., Any] = names["method"]
    return made


def _init(cls: type[Any]) -> Callable[..., None]:
    names: dict[str, Any] = {"_set": object.__setattr__, "_absent": dataclasses.MISSING}
    positional, keywords, lines = ["self"], ["*"], []
    for one in dataclasses.fields(cls):
        default, value = "", one.name
        if one.default_factory is not dataclasses.MISSING:
            names[f"_make_{one.name}"], default, made = one.default_factory, "=_absent", f"_make_{one.name}()"
            value = f"{made} if {one.name} is _absent else {one.name}" if one.init else made
        elif one.default is not dataclasses.MISSING:
            names[f"_default_{one.name}"], default = one.default, f"=_default_{one.name}"
            value = one.name if one.init else f"_default_{one.name}"
        elif not one.init:
            continue
        if one.init:
            (keywords if one.kw_only else positional).append(one.name + default)
        lines.append(f"_set(self, {one.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    return _method(", ".join(positional + (keywords if len(keywords) > 1 else [])), lines, names)


def _eq(cls: type[Any]) -> Callable[[Any, object], Any]:
    lines = ["if other.__class__ is not self.__class__:", "  return NotImplemented"]
    return _method("self, other", [*lines, f"return {_compared(cls, 'self')} == {_compared(cls, 'other')}"], {})


def _hash(cls: type[Any]) -> Callable[[Any], int]:
    return _method("self", [f"return hash({_compared(cls, 'self')})"], {})


def _compared(cls: type[Any], whose: str) -> str:
    return f"({''.join(f'{whose}.{one.name}, ' for one in dataclasses.fields(cls) if one.compare)})"


def _repr(self: Any) -> str:
    said = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({said})"


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
