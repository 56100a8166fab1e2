"""What ``exclude`` leaves out, by bake format: as .gitignore has it, and as format 1 had it for ever."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Protocol


class Excluded(Protocol):
    """Patterns, asked from the top down: what lies in a folder that is left out is not asked for."""

    def leave_out(self, path: str, *, is_folder: bool) -> bool: ...


class NamesAndPaths:
    """The patterns of bake format 1: each is compared with a path below ``from``, and with a name alone.

    No star stops at a slash, and no pattern is anchored, brings back, or stands for a folder only.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._expression = re.compile("|".join(fnmatch.translate(text.rstrip("/")) for text in texts) or r"(?!)")

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        return bool(self._expression.match(path) or self._expression.match(path.rpartition("/")[2]))


def excluded(texts: Sequence[str], bake_format: int) -> Excluded | None:
    """Return the patterns as ``bake_format`` reads them; None when there are none. Raises patterns.NoPattern."""
    if not texts:
        return None
    if bake_format == 1:
        return NamesAndPaths(texts)
    from instar.model.patterns import Patterns

    return Patterns(texts)


def surprises(texts: Sequence[str], copied: Sequence[tuple[str, bool]]) -> tuple[str, ...]:
    """Return what bake format 1 copied although the patterns, read as .gitignore's, leave it out.

    ``copied`` are paths and whether each is a folder, folders first. What lies in one that is named is not named.
    """
    from instar.model.patterns import NoPattern, Patterns

    try:
        patterns = Patterns(texts)
    except NoPattern:
        return ()
    found: dict[str, None] = {}
    for path, is_folder in copied:
        above = path.rpartition("/")[0]
        if any(above == one or above.startswith(f"{one}/") for one in found):
            continue
        if patterns.leave_out(path, is_folder=is_folder):
            found[path] = None
    return tuple(found)
