"""Sizes as people read them, in the binary units in which definitions give them."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """Return "820 B", "3.4 MiB", "28 MiB"."""
    value, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"
