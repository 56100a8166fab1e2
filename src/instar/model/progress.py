"""What a verb says while it works. Doors show it as they like; rooms only report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One line of a verb's progress: ``stage`` is its first word (bake, launch, shift, drain, done, undone).

    ``running`` lines are replaced by the next line of their stage where the terminal can; ``aside`` is what
    stands at the right (a digest). ``detail`` are further lines, shown indented.
    """

    stage: str
    text: str
    kind: Literal["running", "done", "warning", "failed"] = "done"
    aside: str = ""
    detail: tuple[str, ...] = ()


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Report nothing."""
