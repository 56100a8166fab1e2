"""Sizes and ages in the units that people read."""

from __future__ import annotations

from datetime import datetime, timedelta


def size(size_bytes: int) -> str:
    """Return a size for people: 12 kB, 3.4 MB (decimal)."""
    value, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"


def age(since: datetime | None, now: datetime) -> str:
    """Return how long before ``now`` ``since`` was, in its largest unit."""
    if since is None:
        return "—"
    passed = now - since
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if passed >= length:
            return f"{passed // length} {unit}"
    return f"{max(int(passed.total_seconds()), 0)} s"
