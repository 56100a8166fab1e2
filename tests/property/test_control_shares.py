"""Shares of the traffic as weights: in range, all requests, and as near to the percent as whole weights come."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from instar.control.shift import shares, whole
from instar.control.snapshot import GroupView
from instar.providers.base import Observed
from simulated.values import instance, release

counts = st.integers(1, 50)
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=5)
HEAVIEST = 256


def groups(number: int, members: Iterable[int]) -> list[GroupView]:
    made = (instance(k, of=release(number)) for k in range(1, 1000))
    sized = (dataclasses.replace(one, members=size) for one, size in zip(made, members, strict=False))
    return [GroupView(instance=one, observed=Observed(id=one.id, state="running")) for one in sized]


def single(number: int, count: int) -> list[GroupView]:
    return groups(number, [1] * count)


def share(weights: Mapping[str, int], of: Sequence[GroupView]) -> Fraction:
    return Fraction(sum(weights.get(one.id, 0) for one in of), sum(weights.values()))


def ids(of: Iterable[GroupView]) -> set[str]:
    return {one.id for one in of}


@given(percent=st.integers(1, 99), candidates=counts, stables=counts)
@example(percent=1, candidates=50, stables=1)
@example(percent=99, candidates=1, stables=50)
@example(percent=11, candidates=5, stables=1)
def test_weights_are_in_range_and_as_near_as_they_come(percent: int, candidates: int, stables: int) -> None:
    candidate, stable = single(2, candidates), single(1, stables)
    weights = shares(percent, candidate, stable, HEAVIEST)
    assert set(weights) == ids(candidate) | ids(stable)
    assert all(1 <= weight <= HEAVIEST for weight in weights.values())
    assert len({weights[one.id] for one in candidate}) == len({weights[one.id] for one in stable}) == 1
    wanted, got = Fraction(percent, 100), share(weights, candidate)
    assert got + share(weights, stable) == 1
    one, other = percent * stables, (100 - percent) * candidates
    if Fraction(max(one, other), min(one, other)) <= HEAVIEST / 2:
        assert abs(got - wanted) <= Fraction(1, 200), "half a percent"
    exact = Fraction(one, other)
    if exact.numerator <= HEAVIEST and exact.denominator <= HEAVIEST:
        assert got == wanted


@given(percent=st.integers(10, 90), candidates=sizes, stables=sizes, heaviest=st.sampled_from([100, 256]))
@example(percent=50, candidates=[2, 1], stables=[4], heaviest=100)
def test_groups_of_several_members_are_weighed_by_how_many_they_have(
    percent: int, candidates: list[int], stables: list[int], heaviest: int
) -> None:
    candidate, stable = groups(2, candidates), groups(1, stables)
    weights = shares(percent, candidate, stable, heaviest)
    assert all(1 <= weight <= heaviest for weight in weights.values())
    for of in (candidate, stable):
        assert len({Fraction(weights[one.id], one.instance.members) for one in of}) == 1, "each member has as much"
    one, other = percent * sum(stables), (100 - percent) * sum(candidates)
    if Fraction(max(one, other), min(one, other)) <= heaviest / 8:
        assert abs(share(weights, candidate) - Fraction(percent, 100)) <= Fraction(1, 40)


@given(members=sizes)
def test_all_traffic_is_shared_by_members_too(members: list[int]) -> None:
    weights = whole(groups(1, members))
    assert max(weights.values()) == 100
    for size, weight in zip(members, weights.values(), strict=True):
        assert abs(weight - 100 * size / max(members)) <= 1


@given(count=st.integers(1, 10), percent=st.integers(1, 99))
def test_as_many_groups_on_both_sides_share_exactly(count: int, percent: int) -> None:
    candidate, stable = single(2, count), single(1, count)
    assert share(shares(percent, candidate, stable, HEAVIEST), candidate) == Fraction(percent, 100)


@given(count=st.integers(0, 10), other=st.integers(0, 10), percent=st.integers(0, 100))
def test_who_has_no_groups_gets_nothing_and_the_others_all(count: int, other: int, percent: int) -> None:
    candidate, stable = single(2, count), single(1, other)
    weights = shares(percent, candidate, stable, HEAVIEST)
    assert all(1 <= weight <= HEAVIEST for weight in weights.values())
    if percent == 0 or not candidate:
        assert set(weights) == ids(stable or candidate)
    if percent == 100 or not stable:
        assert set(weights) == ids(candidate or stable)
