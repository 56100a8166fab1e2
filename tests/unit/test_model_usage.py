"""What comes of two readings: what is a rate, what is not known, and what began anew."""

from __future__ import annotations

import pytest

from instar.model.release import Served
from instar.model.usage import Consumption, Usage, difference, together, with_requests


def test_sums_become_rates_and_the_rest_is_of_the_later_reading() -> None:
    before = Usage(processor_us=1_000_000, received_bytes=100, sent_bytes=1000, memory_bytes=1, processes=9)
    after = Usage(
        processor_us=2_000_000,
        received_bytes=300,
        sent_bytes=1000,
        memory_bytes=7,
        cache_bytes=3,
        limit_bytes=9,
        processes=2,
    )
    assert difference(before, after, 2.0) == Consumption(
        processors=pytest.approx(0.5),
        memory_bytes=7,
        cache_bytes=3,
        limit_bytes=9,
        processes=2,
        received_bytes_per_s=100.0,
        sent_bytes_per_s=0.0,
    )


def test_of_one_that_was_not_there_before_all_came_since() -> None:
    found = difference(None, Usage(processor_us=500_000, received_bytes=10), 1.0)
    assert (found.processors, found.received_bytes_per_s, found.sent_bytes_per_s) == (pytest.approx(0.5), 10.0, None)


def test_sums_that_began_anew_count_whole() -> None:
    found = difference(Usage(processor_us=9_000_000, sent_bytes=500), Usage(processor_us=200_000, sent_bytes=30), 1.0)
    assert (found.processors, found.sent_bytes_per_s) == (pytest.approx(0.2), 30.0)


def test_what_was_not_known_before_is_not_known_now() -> None:
    found = difference(Usage(), Usage(processor_us=200_000, sent_bytes=30, memory_bytes=5), 1.0)
    assert (found.processors, found.sent_bytes_per_s, found.memory_bytes) == (None, None, 5)


def test_without_a_reading_before_there_are_no_rates() -> None:
    found = difference(None, Usage(processor_us=5, received_bytes=5, memory_bytes=5), None)
    assert found == Consumption(memory_bytes=5)


def test_an_engine_s_own_word_on_processors_stands_where_it_keeps_no_sum() -> None:
    assert difference(None, Usage(processors=0.25), None).processors == 0.25


def test_together_is_the_sum_of_what_is_known_and_limited_only_where_each_is() -> None:
    one, two = Consumption(processors=0.5, memory_bytes=3, limit_bytes=8), Consumption(memory_bytes=4, limit_bytes=8)
    assert together([one, two]) == Consumption(processors=0.5, memory_bytes=7, limit_bytes=16)
    assert together([one, Consumption(memory_bytes=4)]).limit_bytes is None
    assert together([]) == Consumption()


def test_requests_are_a_second_and_times_a_request() -> None:
    found = with_requests(Consumption(), Served(requests=10, failed=2, response_ms=50), 2.0, timed=True)
    assert (found.requests_per_s, found.failed_per_s, found.mean_ms) == (5.0, 1.0, 5.0)
    quiet = with_requests(Consumption(), Served(), 2.0, timed=True)
    assert (quiet.requests_per_s, quiet.mean_ms) == (0.0, None)
    assert with_requests(Consumption(), Served(requests=1), 1.0, timed=False).mean_ms is None
    assert with_requests(Consumption(), None, 1.0, timed=True) == Consumption()
