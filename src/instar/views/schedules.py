"""What runs by the clock, as JSON and as a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from instar.definition.forms import show_duration
from instar.model.codec import to_json
from instar.model.environment import ScheduledTask
from instar.model.occurrence import SCHEDULED
from instar.model.release import TaskRun
from instar.model.schedule import Begun, Ended, Schedule, ScheduledEntry
from instar.views.outcomes import printed
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
        yield _none(found)
        return
    rows = [
        (
            one.name,
            _when(one.task),
            _last(one),
            _outcome(one.latest),
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
        if one.latest is not None and one.latest.outcome not in {None, "done"}:
            yield f"what '{one.name}' printed last: instar logs {found.environment} {one.latest.instance}"
    for one in found.entries:
        if not one.zone_known:
            yield (
                f"'{one.name}' does not begin here: this machine does not know the time zone '{one.task.zone}' "
                "(package tzdata)"
            )
    if found.agent is None:
        yield "nobody begins them: no agent runs (instar agent)"


def _none(found: Schedule) -> str:
    if found.release is not None:
        return f"release {found.release} of {found.environment} has no schedule"
    return f"no release of {found.environment} is active, so nothing begins by the clock; instar deploy makes one"


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


def ended_page(begun: Begun, ended: Ended) -> Page:
    yield f"{begun.task} ended: {ended.outcome}"
    if ended.outcome != "done" and ended.last_lines:
        yield "last lines of its log:"
        yield from (f"  {printed(line)}" for line in ended.last_lines)


def _entry_json(one: ScheduledEntry) -> dict[str, Any]:
    return {
        "name": one.name,
        **{key: value for key, value in to_json(one.task).items() if value is not None},
        "last": one.last and {"due_at": one.last_due_at, **_run_json(one.last)},
        "by_hand": one.by_hand and _run_json(one.by_hand),
        "missed_at": one.missed_at,
        "next_at": one.next_at,
    }


def _run_json(run: TaskRun) -> dict[str, Any]:
    return {
        "began_at": run.began_at,
        "ended_at": run.ended_at,
        "outcome": run.outcome,
        "instance": run.instance,
        "task": run.name.removeprefix(f"{SCHEDULED} "),
    }


def _when(task: ScheduledTask) -> str:
    if task.every_ms is not None:
        return f"every {show_duration(task.every_ms)}"
    return f"{task.cron} {'' if task.zone == 'UTC' else task.zone}".rstrip()


def _last(one: ScheduledEntry) -> str:
    if one.latest is None:
        return "never"
    return _at(one.last_due_at) if one.latest is one.last else f"{_at(one.latest.began_at)} by hand"


def _outcome(run: TaskRun | None) -> str:
    if run is None:
        return "—"
    text = run.outcome or "runs"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _at(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")
