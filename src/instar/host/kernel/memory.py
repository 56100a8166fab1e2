"""How much memory this machine has left."""

from __future__ import annotations

from pathlib import Path


def available_bytes() -> int:
    """Return what can be given to new processes without swapping. Source: proc(5), MemAvailable."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0
