"""When a command runs by the clock, as an author writes it."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

from instar.definition.forms import Misfit
from instar.definition.problems import nearest

_LONGEST_LINE = 200
_FIELDS = 5


def cron(text: str) -> str:
    """Return a line of cron that comes. Raises Misfit."""
    from cronsim import CronSim, CronSimError

    words = text.split()
    if len(words) != _FIELDS or len(text) > _LONGEST_LINE:
        raise Misfit("it has five parts: minute, hour, day, month, weekday")
    line = " ".join(words)
    try:
        next(CronSim(line, datetime.now(UTC)))
    except CronSimError as error:
        raise Misfit(str(error)) from None
    except StopIteration:
        raise Misfit("no such day ever comes") from None
    return line


def zone(text: str) -> str:
    """Return a time zone that is known. Raises Misfit."""
    if text == "UTC":
        return text
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(text, zoneinfo.available_timezones())
        hint = f"did you mean '{near}'?" if near else "it is not among those of this machine (package tzdata)"
        raise Misfit(hint) from None
    return text
