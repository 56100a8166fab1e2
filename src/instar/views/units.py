"""Ages in the units that people read."""

from __future__ import annotations

from datetime import datetime, timedelta


def age(since: datetime | None, now: datetime) -> str:
    """Return how long before ``now`` ``since`` was, in its largest unit."""
    if since is None:
        return "—"
    passed = now - since
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if passed >= length:
            return f"{passed // length} {unit}"
    return f"{max(int(passed.total_seconds()), 0)} s"
