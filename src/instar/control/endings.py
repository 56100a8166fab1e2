"""Why an instance came to its end, as it is written down before what is left of it is removed: pure."""

from __future__ import annotations

from datetime import datetime

from instar.control.actions import Retire
from instar.control.snapshot import GroupView
from instar.model.release import FALLEN, Ending, EndReason
from instar.providers.base import RESTARTED, Observed


def ending_of(group: GroupView, action: Retire, now: datetime) -> Ending:
    """Return how ``group``, which is retired now, comes to its end, or came to it by itself."""
    if group.instance.ending is not None:
        return group.instance.ending
    if group.state != "dead" or group.instance.command is not None:  # of a command, its task says how it ended
        return Ending(reason="unwell" if action.unwell else "instar", at=now, why=action.reason, role=group.role)
    seen = group.observed
    return Ending(
        reason=_reason(seen),
        at=now,
        why=words(seen),
        exit_status=seen.exit_status,
        signal=seen.signal,
        role=group.role,
    )


def words(seen: Observed) -> str:
    """Return how an instance that has ended did so, for people."""
    if seen.reason is not None:
        return seen.reason
    return f"exit status {seen.exit_status}" if seen.exit_status is not None else "it is gone"


def why_ended(group: GroupView) -> str:
    """Return why ``group``, which is dead, is: what was written down, else what can be seen."""
    return str(group.instance.ending) if group.instance.ending is not None else words(group.observed)


def has_fallen(group: GroupView) -> bool:
    """It ended by itself: neither with the machine, nor because that was decided."""
    seen, ending = group.observed, group.instance.ending
    if ending is not None and ending.reason not in FALLEN:
        return False
    return seen.state == "stopped" and seen.reason != RESTARTED


def _reason(seen: Observed) -> EndReason:
    if seen.reason == RESTARTED:
        return "restart"
    if seen.out_of_memory:
        return "out-of-memory"
    if seen.signal is not None:
        return "signal"
    return "unknown" if seen.exit_status is None else "exited"
