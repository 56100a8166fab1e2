"""Why an instance came to its end, as it is written down before what is left of it is removed: pure."""

from __future__ import annotations

from datetime import datetime

from instar.control.actions import Retire
from instar.control.snapshot import Copy
from instar.model.release import FALLEN, Ending, EndReason
from instar.providers.base import RESTARTED, Observed


def ending_of(copy: Copy, action: Retire, now: datetime) -> Ending:
    """Return how ``copy``, which is retired now, comes to its end, or came to it by itself."""
    if copy.instance.ending is not None:
        return copy.instance.ending
    if copy.state != "dead":
        return Ending(reason="unwell" if action.unwell else "instar", at=now, why=action.reason)
    seen = copy.observed
    return Ending(
        reason=_reason(seen),
        at=now,
        why=words(seen),
        exit_status=seen.exit_status,
        signal=seen.signal,
    )


def words(seen: Observed) -> str:
    """Return how an instance that has ended did so, for people."""
    if seen.reason is not None:
        return seen.reason
    return f"exit status {seen.exit_status}" if seen.exit_status is not None else "it is gone"


def why_ended(copy: Copy) -> str:
    """Return why ``copy``, which is dead, is: what was written down, else what can be seen."""
    return str(copy.instance.ending) if copy.instance.ending is not None else words(copy.observed)


def has_fallen(copy: Copy) -> bool:
    """It ended by itself: neither with the machine, nor because that was decided."""
    seen, ending = copy.observed, copy.instance.ending
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
