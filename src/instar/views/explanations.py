"""Why an environment is as it is, as JSON and as a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from instar.model.explanation import Explanation
from instar.model.release import Rollout
from instar.views.events import WIDTH, decisions_table, event_json
from instar.views.page import Page
from instar.views.status import carried_out, status_json, troubles_page, under_way


def explanation_json(found: Explanation) -> dict[str, Any]:
    return {
        **status_json(found.status),
        "decisions": [event_json(event) for event in found.decisions],
        "waits": found.waits,
        "next": (*found.due, *found.next),
        "due": found.due,
        "scheduled": {"name": found.scheduled[0], "at": found.scheduled[1]} if found.scheduled else None,
        "in_charge": found.status.in_charge,
        "working": found.working,
        "failed": found.failed
        and {
            "kind": found.failed.kind,
            "release": found.failed.target,
            "at": found.failed.ended_at,
            "reason": found.failed.detail.get("reason"),
        },
    }


def explanation_page(found: Explanation, now: datetime, *, width: int | None = WIDTH) -> Page:
    """Yield what led to it, how it is, what is waited for, and what comes next and from whom."""
    status = found.status
    active = f"release {status.active}" if status.active else "no release"
    yield f"{status.environment}: {active} is active"
    if status.rollout is not None:
        yield under_way(status.rollout)
        yield carried_out(status)
    if found.failed is not None:
        yield _failed(found.failed)
    yield f"\nwhat happened last (all of it: instar history {status.environment})"
    yield decisions_table(found.decisions, width=width)
    troubles = tuple(troubles_page(status, now))
    yield from troubles
    if found.waits:
        yield "\nit waits for"
        yield from (f"  {text}" for text in found.waits)
    if found.scheduled is not None:
        name, at = found.scheduled
        yield f"\nby the clock next: '{name}', at {at:%Y-%m-%d %H:%M:%S} UTC (instar schedule {status.environment})"
        yield f"  {_begins(status.in_charge)}"
    if found.due:
        waits = status.in_charge is not None and found.working not in (None, status.agent)
        after = f", once process {found.working} has ended" if waits else ""
        yield f"\ndue by the clock now: {_begins(status.in_charge)}{after}"
        yield from (f"  {text}" for text in found.due)
    if found.next:
        yield f"\nnext, {_who(found)}"
        yield from (f"  {text}" for text in found.next)
    elif not found.due:
        yield f"\n{_rests(found, active, troubled=bool(troubles))}"


def _begins(in_charge: str | None) -> str:
    return f"{in_charge} begins it" if in_charge else "nobody begins it: no agent runs (instar agent)"


def _rests(found: Explanation, active: str, *, troubled: bool) -> str:
    """Say why nothing is next."""
    status = found.status
    if found.waits:
        return "nothing is to be done before that"
    if status.rollout is not None:
        return "what was begun is not over yet: look again in a moment"
    if troubled:
        return "nothing else is done by itself now: what is not as wanted stands above"
    if status.active is None:
        return "no release of it is active: nothing is to be done"
    as_wanted = f"{active if found.failed is not None else 'it'} is as wanted: nothing is to be done"
    unseen = "; no agent runs, so nobody sees to it when that changes: instar agent"
    return as_wanted + (unseen if status.in_charge is None else "")


def _failed(rollout: Rollout) -> str:
    when = f" at {rollout.ended_at:%Y-%m-%d %H:%M:%S} UTC" if rollout.ended_at else ""
    return f"the last {rollout.kind}, to release {rollout.target}, failed{when}: {rollout.detail.get('reason')}"


def _who(found: Explanation) -> str:
    if found.working is not None:
        return f"by process {found.working}, which works on it now"
    if found.status.in_charge is not None:
        return f"by {found.status.in_charge}"
    return "by whoever is told to, since no agent runs: instar agent --once"
