"""Shares of the traffic as weights: in range, all requests, and as near to the percent as whole weights come."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from instar.control.shift import HEAVIEST, shares

copies = st.integers(1, 50)


def share(weights: dict[str, int], names: list[str]) -> Fraction:
    return Fraction(sum(weights.get(name, 0) for name in names), sum(weights.values()))


def named(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number}" for number in range(count)]


@given(percent=st.integers(1, 99), candidates=copies, stables=copies)
@example(percent=1, candidates=50, stables=1)
@example(percent=99, candidates=1, stables=50)
@example(percent=11, candidates=5, stables=1)
def test_weights_are_in_range_and_as_near_as_they_come(percent: int, candidates: int, stables: int) -> None:
    candidate, stable = named("candidate", candidates), named("stable", stables)
    weights = dict(shares(percent, candidate, stable))
    assert set(weights) == {*candidate, *stable}
    assert all(1 <= weight <= HEAVIEST for weight in weights.values())
    assert len({weights[name] for name in candidate}) == len({weights[name] for name in stable}) == 1
    wanted, got = Fraction(percent, 100), share(weights, candidate)
    assert got + share(weights, stable) == 1
    one, other = percent * stables, (100 - percent) * candidates
    if Fraction(max(one, other), min(one, other)) <= HEAVIEST / 2:
        assert abs(got - wanted) <= Fraction(1, 200), "half a percent"
    exact = Fraction(one, other)
    if exact.numerator <= HEAVIEST and exact.denominator <= HEAVIEST:
        assert got == wanted


@given(count=st.integers(1, 10), percent=st.integers(1, 99))
def test_as_many_copies_on_both_sides_share_exactly(count: int, percent: int) -> None:
    candidate, stable = named("candidate", count), named("stable", count)
    assert share(dict(shares(percent, candidate, stable)), candidate) == Fraction(percent, 100)


@given(count=st.integers(0, 10), other=st.integers(0, 10), percent=st.integers(0, 100))
def test_who_has_no_copies_gets_nothing_and_the_others_all(count: int, other: int, percent: int) -> None:
    candidate, stable = named("candidate", count), named("stable", other)
    weights = shares(percent, candidate, stable)
    assert all(1 <= weight <= HEAVIEST for weight in weights.values())
    if percent == 0 or not candidate:
        assert set(weights) == set(stable or candidate)
    if percent == 100 or not stable:
        assert set(weights) == set(candidate or stable)
