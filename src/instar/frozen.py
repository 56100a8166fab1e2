"""Frozen dataclasses whose methods are made when they are first needed.

``dataclasses`` writes and compiles six methods for each class as its module is imported: for the two hundred of the
model and the port that is a third of what a short command takes, though it makes values of a few. Here a class gets its
fields (and its slots) at once, and its methods from the library's own hands at the first use of one. All else is as
with ``dataclasses.dataclass``: ``fields``, ``replace`` and the type checker know no difference.
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
            own = set(vars(cls))
            made = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)(cls)
            for name in {"__init__", "__repr__", "__eq__", "__hash__"} - own:
                setattr(made, name, _maker(made, name, own))
            made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
            return made

        return make


def _maker(cls: type[Any], name: str, own: set[str]) -> Callable[..., Any]:
    """Return what stands for a method until it is called: then all of them are made, and it is called."""

    def make_and_call(self: Any, *args: Any, **keywords: Any) -> Any:
        _complete(cls, own)
        return getattr(cls, name)(self, *args, **keywords)

    make_and_call.__name__, make_and_call.__qualname__ = name, f"{cls.__qualname__}.{name}"
    return make_and_call


def _complete(cls: type[Any], own: set[str]) -> None:
    """Take the methods of a class of the same fields that the library has made whole."""
    after = {"__post_init__": cls.__post_init__} if hasattr(cls, "__post_init__") else {}
    fields = [(one.name, one.type, _again(one)) for one in dataclasses.fields(cls)]
    whole = dataclasses.make_dataclass(cls.__qualname__, fields, namespace=after, frozen=True)
    for name in {"__init__", "__repr__", "__eq__", "__hash__"} - own:
        setattr(cls, name, getattr(whole, name))


def _again(one: dataclasses.Field[Any]) -> Any:
    default: dict[str, Any] = {} if one.default is dataclasses.MISSING else {"default": one.default}
    if one.default_factory is not dataclasses.MISSING:
        default = {"default_factory": one.default_factory}
    return dataclasses.field(
        **default, init=one.init, repr=one.repr, hash=one.hash, compare=one.compare, kw_only=one.kw_only
    )


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
