"""When a line of cron is due, in its time zone. Pure; the rules are those of a kept library, as Debian's cron has them.

A time that a night lacks comes when the clock has jumped, one that a night has twice comes once; what is due each hour,
or more often, goes on through both.
"""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cronsim import CronSim

_DAY: Final = timedelta(days=1)
_RANGES: Final = 256


def next_time(line: str, zone: str, after: datetime) -> datetime | None:
    """Return when it is due next, later than ``after``; None: never again, or nobody here knows its zone."""
    return next(_times(line, zone, after), None)


def last_time(line: str, zone: str, before: datetime) -> datetime | None:
    """Return when it was due last, earlier than ``before``, which is in whole seconds; None: never before."""
    return next(_times(line, zone, before, reverse=True), None)


def count(line: str, zone: str, first: datetime, last: datetime, at_most: int) -> int:
    """Return how often it is due from ``first``, at which it is, to ``last``; of more than ``at_most``, one more than
    that.

    Days are counted, and times one by one only at both ends and where the clock changes: a year costs what a week does.
    """
    found = find_zone(zone)
    if found is None:
        return 0
    begin, end = (at.astimezone(found).date() for at in (first, last))
    days, changes = _whole_days(line.partition(" ")[2].partition(" ")[2], zone, begin + _DAY, end, at_most)
    rules = _rules(line, first)
    number = days * len(rules.minutes) * len(rules.hours)
    for start, until in _apart(begin, end, changes):
        if number > at_most:
            break
        since = max(first, _midnight(start, found)) - timedelta(seconds=1)
        ends = min(last + timedelta(seconds=1), _midnight(until, found))
        number += _walked(line, zone, since, ends, at_most - number)
    return min(number, at_most + 1)


def find_zone(name: str) -> tzinfo | None:
    """Return a time zone; None where this machine does not know it."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _times(line: str, zone: str, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """Yield when it is due after ``start``, or before it, one after the other."""
    found = find_zone(zone)
    if found is not None:
        for at in _rules(line, start.astimezone(found), reverse=reverse):
            yield at.astimezone(UTC)


def _rules(line: str, start: datetime, *, reverse: bool = False) -> CronSim:
    from cronsim import CronSim

    return CronSim(line, start, reverse=reverse)


def _walked(line: str, zone: str, since: datetime, until: datetime, at_most: int) -> int:
    """Count one by one what is due after ``since`` and before ``until``; at most one more than ``at_most``."""
    number, before = 0, since
    for at in _times(line, zone, since):
        if at >= until or number > at_most:
            break
        number += at != before  # two that a night lacks come at once
        before = at
    return number


@functools.lru_cache(maxsize=_RANGES)
def _whole_days(days: str, zone: str, begin: date, end: date, at_most: int) -> tuple[int, tuple[date, ...]]:
    """Return how many of the days from ``begin`` on and before ``end`` are meant by the last three parts of a line,
    and have 24 hours as the ones beside them do (at most one more than ``at_most``); and which have not."""
    found = find_zone(zone)
    assert found is not None
    rules = _rules(f"0 0 {days}", datetime(2000, 1, 1, tzinfo=UTC))
    number, changes, day = 0, list[date](), begin
    while day < end and number <= at_most:
        if len({_offset(day + near * _DAY, found) for near in (-1, 0, 1, 2)}) > 1:
            changes.append(day)
        elif day.month in rules.months and rules.match_day(day):
            number += 1
        day += _DAY
    return number, tuple(changes)


def _apart(begin: date, end: date, changes: tuple[date, ...]) -> Iterator[tuple[date, date]]:
    """Yield the days that are not counted as whole ones, of those in a row the first and the one after the last."""
    start = until = begin
    for day in (begin, *changes, end):
        if day > until:
            yield start, until
            start = day
        until = day + _DAY
    yield start, until


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _offset(day: date, zone: tzinfo) -> timedelta | None:
    return datetime.combine(day, time(), zone).utcoffset()
