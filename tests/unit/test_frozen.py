"""Frozen dataclasses whose methods come with the first use are what the library's would be."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import field
from typing import ClassVar

import pytest

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    name: str
    ports: tuple[int, ...] = ()
    seen: dict[str, int] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived(Base):
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.ports))


@dataclass(frozen=True, slots=True)
class Pair:
    first: int
    second: int = 2

    def __repr__(self) -> str:
        return f"{self.first}/{self.second}"


@dataclass(frozen=True, kw_only=True)
class Counted:
    KINDS: ClassVar[int] = 3
    number: int


@dataclass(frozen=True, kw_only=True)
class Cached:
    number: int

    @functools.cached_property
    def square(self) -> int:
        return self.number**2


def test_values_are_equal_by_what_is_compared_and_can_be_keys() -> None:
    one, other = Base(name="a", ports=(1,), seen={"x": 1}), Base(name="a", ports=(1,))
    assert (one == other, hash(one) == hash(other), one != Base(name="b")) == (True, True, True)
    assert one.seen == {"x": 1} and other.seen == {} and Base(name="c").seen is not other.seen
    assert {one: 1}[other] == 1
    assert Base(name="a") != Derived(name="a")


def test_fields_have_their_types_as_they_are_written_and_what_is_of_the_class_is_no_field() -> None:
    written = {one.name: one.type for one in dataclasses.fields(Derived)}
    assert written == {"name": "str", "ports": "tuple[int, ...]", "seen": "dict[str, int]", "size": "int"}
    assert Base.__annotations__["ports"] == "tuple[int, ...]"
    assert ([one.name for one in dataclasses.fields(Counted)], Counted(number=1).KINDS) == (["number"], 3)


def test_they_read_as_the_librarys_do() -> None:
    assert repr(Base(name="a")) == "Base(name='a', ports=())"
    assert repr(Derived(name="a", ports=(1, 2))) == "Derived(name='a', ports=(1, 2), size=2)"
    assert repr(Pair(1)) == "1/2"


def test_nothing_of_them_can_be_changed() -> None:
    for value in (Base(name="a"), Cached(number=3)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "b"  # type: ignore[misc,union-attr]
        with pytest.raises(dataclasses.FrozenInstanceError):
            del value.name  # type: ignore[misc,union-attr]
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(Base(name="a"), "more", 1)


def test_the_librarys_own_functions_know_them() -> None:
    derived = dataclasses.replace(Derived(name="a", ports=(1,)), ports=(1, 2, 3))
    assert (derived.size, [one.name for one in dataclasses.fields(derived)]) == (3, ["name", "ports", "seen", "size"])
    assert dataclasses.asdict(Pair(1)) == {"first": 1, "second": 2}
    assert Cached(number=4).square == 16
    match Pair(5, 6):
        case Pair(first, second):
            assert (first, second) == (5, 6)


def test_what_is_missing_or_too_much_is_refused_the_first_time_too() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Fresh:
        number: int

    with pytest.raises(TypeError, match="number"):
        Fresh()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="other"):
        Fresh(number=1, other=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Fresh(1)  # type: ignore[misc]
    assert Fresh(number=1) == Fresh(number=1)


def test_what_changes_is_the_librarys_own() -> None:
    with pytest.raises(TypeError):
        dataclass(frozen=False)(Pair)
