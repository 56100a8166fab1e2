"""When a command runs by the clock, as an author writes it."""

from __future__ import annotations

import contextlib
import re
import zoneinfo
from datetime import UTC, datetime

from instar.definition.forms import Misfit
from instar.definition.problems import nearest

_LONGEST_LINE = 200
_FIELDS = 5
_NEVER = "no such day ever comes"
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")
_PARTS = {"day-of-month": "day of the month", "day-of-week": "weekday"}


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
        raise Misfit(_cause(str(error), words)) from None
    except StopIteration:
        raise Misfit(_NEVER) from None
    return line


def _cause(said: str, words: list[str]) -> str:
    """Return what is wrong with a line of cron, of which the library says that some part is 'Bad'."""
    from cronsim import CronSim, CronSimError

    part = said.removeprefix("Bad ")
    if part == "day-of-month":  # by itself, or in no month that is named?
        with contextlib.suppress(CronSimError):
            CronSim(f"0 0 {words[2]} * *", datetime.now(UTC))
            return _NEVER
    return f"there is no such {_PARTS.get(part, part)}"


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


def kept_zone(text: str) -> str:
    """Return the name of a time zone, which this machine need not know: another one has read it. Raises Misfit."""
    if not _ZONE.fullmatch(text):
        raise Misfit("it is no name of a time zone")
    return text
