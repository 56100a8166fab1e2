"""Verdicts, one rule a test: the usual policy allows 1 % more failures, twice the time, and asks for 10 requests."""

from __future__ import annotations

import dataclasses
import json

import pytest
from control_values import group

from instar.control.analysis import Verdict, answered, judge
from instar.model.environment import Analysis
from instar.model.release import Served

POLICY = Analysis(min_requests=10)


def verdict(candidate: Served, stable: Served, *, over: bool = True, timed: bool = True, **policy: int) -> Verdict:
    return judge(dataclasses.replace(POLICY, **policy), candidate, stable, over=over, timed=timed)  # type: ignore[arg-type]


def requests(count: int, failed: int = 0, mean_ms: int = 5) -> Served:
    return Served(requests=count, failed=failed, response_ms=count * mean_ms)


def test_too_few_requests_tell_nothing_however_they_went() -> None:
    assert verdict(requests(9, 9), requests(1000)).passed is None
    assert verdict(requests(10, 10), requests(1000)).passed is False


@pytest.mark.parametrize(("failed", "passed"), [(0, True), (1, True), (2, False)])
def test_a_share_of_failures_may_be_a_little_larger_and_no_more(failed: int, passed: bool) -> None:
    assert verdict(requests(100, failed), requests(1000)).passed is passed


def test_failures_that_the_stable_release_has_too_are_no_fault() -> None:
    assert verdict(requests(100, 20), requests(1000, 200)).passed is True
    assert verdict(requests(100, 22), requests(1000, 200)).passed is False


def test_what_is_gross_is_told_before_the_step_is_over_and_what_is_not_waits() -> None:
    assert verdict(requests(100, 6), requests(1000), over=False).passed is False
    assert verdict(requests(100, 5), requests(1000), over=False).passed is None
    assert verdict(requests(100), requests(1000), over=False).passed is None


@pytest.mark.parametrize(("mean_ms", "passed"), [(80, True), (81, False)])
def test_it_may_take_twice_as_long(mean_ms: int, passed: bool) -> None:
    assert verdict(requests(100, mean_ms=mean_ms), requests(1000, mean_ms=40)).passed is passed


def test_nobody_feels_a_few_milliseconds() -> None:
    assert verdict(requests(100, mean_ms=20), requests(1000, mean_ms=1)).passed is True
    assert verdict(requests(100, mean_ms=21), requests(1000, mean_ms=1)).passed is False


def test_times_are_compared_only_where_they_are_known() -> None:
    slow = requests(100, mean_ms=9000)
    assert verdict(slow, requests(1000), timed=False).passed is True
    assert verdict(slow, Served()).passed is True, "nothing to compare with"


def test_gross_slowness_is_told_at_once() -> None:
    assert verdict(requests(100, mean_ms=101), requests(100, mean_ms=10), over=False).passed is False
    assert verdict(requests(100, mean_ms=100), requests(100, mean_ms=10), over=False).passed is None


def test_causes_and_numbers_are_for_people_and_for_the_ledger() -> None:
    found = verdict(requests(100, 10), requests(400, 1))
    assert found.cause == "10.00 % of 100 requests failed, the release before: 0.25 % (at most 1 % more)"
    assert str(found) == "failed 10.00 % (before: 0.25 %) · 5.0 ms (before: 5.0 ms)"
    assert json.loads(json.dumps(found.numbers()))["candidate"] == {"requests": 100, "failed": 10, "mean_ms": 5.0}
    slow = verdict(requests(10, mean_ms=90), requests(10, mean_ms=30))
    assert slow.cause == "it answers in 90.0 ms, the release before in 30.0 ms (at most 2 times)"


def test_only_what_was_answered_since_the_step_began_counts() -> None:
    one, two = group(2, weight=1, served=requests(30, 1)), group(2, weight=1, serial=2, served=requests(7))
    assert answered((one, two, group(2, serial=3)), {one.id: requests(20, 1)}) == requests(17)


def test_counters_that_began_anew_count_whole() -> None:
    one = group(2, weight=1, served=requests(5))
    assert answered((one,), {one.id: requests(400)}) == requests(5)


def test_a_role_that_is_new_has_nothing_to_be_compared_with() -> None:
    new = verdict(requests(100, 50), Served())
    assert new.passed is False and "50.00 % of 100 requests failed, nothing to compare with" in new.cause
    assert str(verdict(requests(10), Served())) == "failed 0.00 % · 5.0 ms · nothing to compare with"
    assert "(before: 0.00 %)" in str(verdict(requests(10), requests(1)))
