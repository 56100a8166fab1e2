"""What a schedule missed is counted by days: that is as much as one by one, in any zone and through all its nights."""

from __future__ import annotations

import itertools
import zoneinfo
from datetime import UTC, datetime, timedelta

from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.control import cron

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "America/Santiago",  # at midnight
    "Africa/Casablanca",
    "Pacific/Apia",  # a day that was left out, at the end of 2011
    "Asia/Kathmandu",
)
AT_MOST = 400


def part(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    return st.one_of(
        st.just("*"),
        number,
        st.integers(2, 20).map(lambda step: f"*/{step}"),
        st.lists(st.integers(low, high), min_size=2, max_size=4).map(lambda found: ",".join(map(str, found))),
        st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda one: f"{min(one)}-{max(one)}"),
    )


LINES = st.tuples(
    part(0, 59), part(0, 23), st.one_of(st.just("*"), part(1, 28), st.just("L")), part(1, 12), part(0, 7)
).map(" ".join)
BEGINS = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))


def one_by_one(line: str, zone: str, first: datetime, last: datetime) -> int:
    found = UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)
    begin = (first - timedelta(seconds=1)).astimezone(found)
    times = (at.astimezone(UTC) for at in CronSim(line, begin))
    due = set(itertools.takewhile(lambda at: at <= last, itertools.islice(times, 2 * AT_MOST)))
    return min(len(due), AT_MOST + 1)


@settings(deadline=None)
@given(line=LINES, zone=st.sampled_from(ZONES), since=BEGINS, days=st.integers(0, 500), seconds=st.integers(0, 86_400))
def test_it_is_as_often_as_counted_one_by_one(line: str, zone: str, since: datetime, days: int, seconds: int) -> None:
    until = since + timedelta(days=days, seconds=seconds)
    first, last = cron.next_time(line, zone, since), cron.last_time(line, zone, until + timedelta(seconds=1))
    if first is None or last is None or last < first:
        return
    assert cron.count(line, zone, first, last, AT_MOST) == one_by_one(line, zone, first, last)


@settings(deadline=None)
@given(zone=st.sampled_from(ZONES), since=BEGINS, minute=st.integers(0, 59), hour=st.integers(0, 23))
def test_nights_where_the_clock_changes_are_counted_as_they_are(
    zone: str, since: datetime, minute: int, hour: int
) -> None:
    line, until = f"{minute} {hour} * * *", since + timedelta(days=380)
    first, last = cron.next_time(line, zone, since), cron.last_time(line, zone, until)
    assert first is not None and last is not None
    assert cron.count(line, zone, first, last, AT_MOST) == one_by_one(line, zone, first, last)
