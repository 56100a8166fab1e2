"""Why an environment is as it is, as JSON and as a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from instar.model.explanation import Explanation
from instar.views.events import WIDTH, event_json, history_page
from instar.views.page import Page
from instar.views.status import status_json, troubles_page


def explanation_json(found: Explanation) -> dict[str, Any]:
    return {
        **status_json(found.status),
        "decisions": [event_json(event) for event in found.decisions],
        "waits": found.waits,
        "next": found.next,
        "scheduled": {"name": found.scheduled[0], "at": found.scheduled[1]} if found.scheduled else None,
        "in_charge": found.status.in_charge,
        "working": found.working,
    }


def explanation_page(found: Explanation, now: datetime, *, width: int | None = WIDTH) -> Page:
    """Yield what led to it, how it is, what is waited for, and what comes next and from whom."""
    status = found.status
    yield f"{status.environment}: {'release ' + str(status.active) if status.active else 'no release'} is active"
    yield f"\nwhat happened last (all of it: instar history {status.environment})"
    yield from history_page(found.decisions, width=width)
    yield from troubles_page(status, now)
    if found.waits:
        yield "\nit waits for"
        yield from (f"  {text}" for text in found.waits)
    if found.scheduled is not None:
        name, at = found.scheduled
        yield f"\nby the clock next: '{name}', at {at:%Y-%m-%d %H:%M:%S} UTC (instar schedule {status.environment})"
    if not found.next:
        yield "\nnothing is to be done before that" if found.waits else "\nit is as wanted: nothing is to be done"
        return
    yield f"\nnext, {_who(found)}"
    yield from (f"  {text}" for text in found.next)


def _who(found: Explanation) -> str:
    if found.working is not None:
        return f"by process {found.working}, which works on it now"
    if found.status.in_charge is not None:
        return f"by {found.status.in_charge}"
    return "by whoever is told to, since no agent runs: instar agent --once"
