"""Maps of HAProxy's, as they are shown and changed while it runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def show(name: str) -> str:
    return f"show map {name}"


def shown(text: str) -> Mapping[str, str]:
    """Read what HAProxy showed of a map: an address in its memory, the key, the value."""
    rows = (line.split(" ") for line in text.strip().splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3}


def commands(name: str, wanted: Mapping[str, str], there: Mapping[str, str]) -> Sequence[str]:
    """Return what makes HAProxy's map as ``wanted``; nothing when it is. What comes is there before anything goes."""
    new = [f"add map {name} {key} {value}" for key, value in wanted.items() if key not in there]
    moved = [f"set map {name} {key} {value}" for key, value in wanted.items() if there.get(key, value) != value]
    gone = [f"del map {name} {key}" for key in there if key not in wanted]
    return (*new, *moved, *gone)
