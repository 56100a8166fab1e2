"""What runs by the clock, as JSON and as a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from instar.model.codec import to_json
from instar.model.environment import ScheduledTask
from instar.model.occurrence import SCHEDULED
from instar.model.schedule import Begun, Schedule, ScheduledEntry
from instar.views.page import Page, Table

_LONGEST = 60


def schedule_json(found: Schedule) -> dict[str, Any]:
    return {
        "service": found.environment.service,
        "environment": found.environment.name,
        "release": found.release,
        "agent": found.agent,
        "schedule": [_entry_json(one) for one in found.entries],
    }


def schedule_page(found: Schedule) -> Page:
    """Yield a table of the entries, and that nobody begins them, where that is so."""
    if not found.entries:
        yield f"{found.environment} has no schedule"
        return
    rows = [
        (
            one.name,
            _when(one.task),
            _at(one.last_due_at) or "never",
            _outcome(one),
            _at(one.missed_at),
            _at(one.next_at),
        )
        for one in found.entries
    ]
    header = ("NAME", "WHEN", "LAST (UTC)", "OUTCOME", "MISSED (UTC)", "NEXT (UTC)")
    shown = [
        column for column in range(len(header)) if header[column] != "MISSED (UTC)" or any(row[column] for row in rows)
    ]
    yield Table(
        rows=[tuple(row[column] for column in shown) for row in rows], header=tuple(header[column] for column in shown)
    )
    for one in found.entries:
        if one.last is not None and one.outcome not in {None, "done"}:
            yield f"what '{one.name}' printed last: instar logs {found.environment} {one.last.instance}"
    for one in found.entries:
        if not one.zone_known:
            yield (
                f"'{one.name}' does not begin here: this machine does not know the time zone '{one.task.zone}' "
                "(package tzdata)"
            )
    if found.agent is None:
        yield "nobody begins them: no agent runs (instar agent)"


def begun_json(begun: Begun) -> dict[str, Any]:
    return {
        "service": begun.environment.service,
        "environment": begun.environment.name,
        "release": begun.release,
        "task": begun.task,
        "instance": begun.instance,
        "agent": begun.agent,
    }


def begun_page(begun: Begun) -> Page:
    yield f"{begun.task} runs as {begun.instance}, of release {begun.release}"
    yield f"what it prints: instar logs {begun.environment} {begun.instance}"
    if begun.agent is None:
        yield "its end is written down by the next command there: no agent runs (instar agent)"


def _entry_json(one: ScheduledEntry) -> dict[str, Any]:
    last = one.last
    return {
        "name": one.name,
        **{key: value for key, value in to_json(one.task).items() if value is not None},
        "last": None
        if last is None
        else {
            "due_at": one.last_due_at,
            "began_at": last.began_at,
            "ended_at": last.ended_at,
            "outcome": one.outcome,
            "instance": last.instance,
            "task": last.name.removeprefix(f"{SCHEDULED} "),
        },
        "missed_at": one.missed_at,
        "next_at": one.next_at,
    }


def _when(task: ScheduledTask) -> str:
    if task.every_ms is not None:
        return f"every {task.every_ms / 1000:g} s"
    return f"{task.cron} {'' if task.zone == 'UTC' else task.zone}".rstrip()


def _outcome(one: ScheduledEntry) -> str:
    if one.last is None:
        return "—"
    text = one.outcome or "runs"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _at(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")
