"""The commands by the clock of an environment, as they stand."""

from __future__ import annotations

from datetime import datetime

from instar.frozen import dataclass
from instar.model.environment import ScheduledTask
from instar.model.occurrence import Occurrence
from instar.model.release import EnvironmentId, TaskRun


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduledEntry:
    """``last`` is what was begun of it by the clock last, ``by_hand`` what somebody had begin. ``next_at`` None: never
    again, or this machine does not know its zone (``zone_known``). ``missed_at``: when the last of those was due that
    did not begin, nor will; None where none is known."""

    name: str
    task: ScheduledTask
    last: TaskRun | None
    next_at: datetime | None
    by_hand: TaskRun | None = None
    zone_known: bool = True
    missed_at: datetime | None = None

    @property
    def latest(self) -> TaskRun | None:
        """What was begun of it last, by whomever."""
        runs = [one for one in (self.last, self.by_hand) if one is not None]
        return max(runs, key=lambda one: one.began_at, default=None)

    @property
    def last_due_at(self) -> datetime | None:
        """When that was due."""
        found = None if self.last is None else Occurrence.of(self.last.name)
        return None if found is None else found.due_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """That of the active ``release``; None: there is none. ``agent``: who begins them, for people; None: nobody does
    just now."""

    environment: EnvironmentId
    release: int | None
    entries: tuple[ScheduledEntry, ...]
    agent: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended: "done", or what went wrong, and what it printed last."""

    outcome: str
    last_lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """An entry that somebody had begin now, as ``task``, in ``instance``; ``agent``: who sees to its end."""

    environment: EnvironmentId
    release: int
    task: str
    instance: str
    agent: str | None
