"""What a process remembers of an environment's schedule: nothing is computed, and nobody asked, before it is time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from instar.control.schedule import Entry, due_now, entries_of, missed, next_at
from instar.control.snapshot import Snapshot
from instar.ledger import Ledger
from instar.model.occurrence import Missed, Occurrence
from instar.model.release import Release, TaskRun


class Timetable:
    """Of one environment. An entry is looked at when it is due next, and from then on until nothing of it is to be done
    any more: it runs, or is to be tried again."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._next: dict[str, datetime | None] = {}
        self._watched: set[str] = set()
        self._looked_at: datetime | None = None
        self.last: Mapping[str, TaskRun] = {}  # what was begun of each entry last, as far as it was looked at
        self.missed: tuple[Missed, ...] = ()  # what nobody has begun, nor written down, as the last look has shown

    def due(self, ledger: Ledger, snapshot: Snapshot) -> tuple[Occurrence, ...]:
        """Return what is due of the active release's schedule now, and was not begun."""
        active, now, self.missed = snapshot.active, snapshot.now, ()
        if active is None or not active.configuration.schedule:
            self._release, self.last = None, {}
            return ()
        if self._release != active.number or (self._looked_at is not None and now < self._looked_at):
            self._begin(active, now)
        self._looked_at = now
        of_tasks = (Occurrence.of(group.instance.task or "") for group in snapshot.task_groups)
        running = {one.entry for one in of_tasks if one is not None}
        asked = {name for name, at in self._next.items() if at is not None and at <= now} | self._watched
        if not asked:
            self._watched = running & active.configuration.schedule.keys()
            return ()
        last: dict[str, TaskRun] = {}
        for name in asked:
            if (run := ledger.schedules.last(snapshot.environment.id, name)) is not None:
                last[name] = run
        self.last = {**self.last, **last}
        since = active.last_active_at or active.created_at
        entries = [one for one in entries_of(active, last) if one.name in asked]
        self.missed = tuple(self._missed(ledger, snapshot, [one for one in entries if one.name not in running], since))
        found = tuple(one for entry in entries if (one := due_now(entry, since, now)) is not None)
        self._watched = (running & active.configuration.schedule.keys()) | {one.entry for one in found}
        for name in asked:
            if (at := self._next[name]) is None or at <= now:
                self._next[name] = next_at(active.configuration.schedule[name], now)
        return found

    @staticmethod
    def _missed(ledger: Ledger, snapshot: Snapshot, entries: Sequence[Entry], since: datetime) -> Iterator[Missed]:
        """Yield what was missed and not written down yet: once for all that was so in a row."""
        late = [entry for entry in entries if missed(entry, since, snapshot.now) is not None]
        known = ledger.schedules.missed_until(snapshot.environment.id) if late else {}
        for entry in late:
            found = missed(entry, max(since, known.get(entry.name, since)), snapshot.now)
            if found is not None:
                yield found

    def left_s(self, now: datetime) -> float | None:
        """Return after how many seconds something is due next; None where nothing ever is."""
        coming = [at for at in self._next.values() if at is not None] if self._release is not None else []
        return max(0.0, (min(coming) - now).total_seconds()) if coming else None

    def next(self) -> tuple[str, datetime] | None:
        """Return which entry is due next, and when."""
        coming = {name: at for name, at in self._next.items() if at is not None} if self._release is not None else {}
        return min(coming.items(), key=lambda one: (one[1], one[0]), default=None)

    def _begin(self, active: Release, now: datetime) -> None:
        """Look at all of it: another release may have begun some, or nobody was there to."""
        self._release = active.number
        self._next = {name: next_at(task, now) for name, task in active.configuration.schedule.items()}
        self._watched = set(self._next)
        self.last = {}
