"""What is due of a schedule: an entry, and one time of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from instar.frozen import dataclass

SCHEDULED: Final = "schedule"  # and those that begin by the clock, with their entry and their time


@dataclass(frozen=True, kw_only=True, slots=True)
class Occurrence:
    """One time at which an entry of a schedule is due, and which try of it; ``due_at`` None: somebody said now, and
    ``number`` is which time that was. Its ``name`` is the task's, and there is one of each."""

    entry: str
    due_at: datetime | None = None
    number: int = 1

    @property
    def name(self) -> str:
        if self.due_at is None:
            return f"{SCHEDULED} {self.entry} by hand {self.number}"
        again = f" try {self.number:02}" if self.number > 1 else ""
        return f"{SCHEDULED} {self.entry} {self.due_at:%Y-%m-%dT%H:%M:%SZ}{again}"

    @classmethod
    def of(cls, task: str) -> Occurrence | None:
        """Return what the task of that name is of; None of any other."""
        try:
            match task.split(" "):
                case [word, entry, "by", "hand", number] if word == SCHEDULED:
                    return cls(entry=entry, number=int(number))
                case [word, entry, due] if word == SCHEDULED:
                    return cls(entry=entry, due_at=_due(due))
                case [word, entry, due, "try", number] if word == SCHEDULED:
                    return cls(entry=entry, due_at=_due(due), number=int(number))
        except ValueError:  # no schedule of Instar's has called it so
            return None
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed:
    """The times at which an entry was due and did not begin, nor will: ``count`` of them (``more``: at least)."""

    entry: str
    count: int
    first: datetime
    last: datetime
    more: bool = False


def _due(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
