"""What a process remembers of an environment's schedule: nothing is computed, and nobody asked, before it is time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from instar.control.schedule import (
    Dropped,
    Entry,
    Term,
    dropped,
    due_now,
    entries_of,
    in_force_since,
    missed,
    missed_between,
    next_at,
)
from instar.control.snapshot import Snapshot, alone
from instar.errors import LedgerDamaged, NotFound
from instar.ledger import Ledger
from instar.model.occurrence import Missed, Occurrence
from instar.model.release import Release, TaskRun

_TERMS: Final = 20  # so many releases back it is looked for from when on an entry was in force


class Timetable:
    """Of one environment. An entry is looked at when it is due next, and from then on until nothing of it is to be done
    any more: it runs, or is to be tried again."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._next: dict[str, datetime | None] = {}
        self._watched: set[str] = set()
        self._looked_at: datetime | None = None
        self._since: Mapping[str, datetime] = {}
        self._dropped: tuple[Dropped, ...] = ()  # of which it is not written down yet what was missed
        self.last: Mapping[str, TaskRun] = {}  # what was begun of each entry last, as far as it was looked at
        self.missed: tuple[Missed, ...] = ()  # what nobody has begun, nor written down, as the last look has shown

    def due(self, ledger: Ledger, snapshot: Snapshot) -> tuple[Occurrence, ...]:
        """Return what is due of the active release's schedule now, and was not begun."""
        active, now, self.missed = snapshot.active, snapshot.now, ()
        if active is None:
            self._release, self.last = None, {}
            return ()
        if self._release != active.number or (self._looked_at is not None and now < self._looked_at):
            self._begin(ledger, snapshot, active)
        self._looked_at = now
        if not active.configuration.schedule and not self._dropped:
            return ()
        of_tasks = (Occurrence.of(group.instance.task or "") for group in snapshot.task_groups)
        running = {one.entry for one in of_tasks if one is not None}
        asked = {name for name, at in self._next.items() if at is not None and at <= now} | self._watched
        if not asked and not self._dropped:
            self._watched = running & active.configuration.schedule.keys()
            return ()
        last: dict[str, TaskRun] = {}
        for name in asked:
            if (run := ledger.schedules.last(snapshot.environment.id, name)) is not None:
                last[name] = run
        self.last = {**self.last, **last}
        entries = [one for one in entries_of(active, last) if one.name in asked]
        if snapshot.environment.rollout is None or not alone(active):  # else nothing begins before that has ended
            may = [one for one in entries if one.name not in running or one.task.overlap]
            self.missed = (*self._missed_of_dropped(ledger, snapshot), *self._missed(ledger, snapshot, may))
        found = tuple(one for entry in entries if (one := due_now(entry, self._since[entry.name], now)) is not None)
        self._watched = (running & active.configuration.schedule.keys()) | {one.entry for one in found}
        for name in asked:
            if (at := self._next[name]) is None or at <= now:
                self._next[name] = next_at(active.configuration.schedule[name], now)
        return found

    def _missed(self, ledger: Ledger, snapshot: Snapshot, entries: Sequence[Entry]) -> Iterator[Missed]:
        """Yield what was missed and not written down yet: once for all that was so in a row."""
        late = [entry for entry in entries if missed_between(entry, self._since[entry.name], snapshot.now) is not None]
        known = ledger.schedules.missed_until(snapshot.environment.id) if late else {}
        for entry in late:
            since = self._since[entry.name]
            found = missed(entry, max(since, known.get(entry.name, since)), snapshot.now)
            if found is not None:
                yield found

    def _missed_of_dropped(self, ledger: Ledger, snapshot: Snapshot) -> tuple[Missed, ...]:
        """Return what was missed of entries while older releases had them, until it is written down."""
        if not self._dropped:
            return ()
        known, found = ledger.schedules.missed_until(snapshot.environment.id), []
        for one in self._dropped:
            since = max(one.since, known.get(one.entry.name, one.since))
            found.append((one, missed(one.entry, since, one.until, over=True)))
        self._dropped = tuple(one for one, what in found if what is not None)
        return tuple(what for _, what in found if what is not None)

    def left_s(self, now: datetime) -> float | None:
        """Return after how many seconds something is due next; None where nothing ever is."""
        coming = [at for at in self._next.values() if at is not None] if self._release is not None else []
        return max(0.0, (min(coming) - now).total_seconds()) if coming else None

    def next(self) -> tuple[str, datetime] | None:
        """Return which entry is due next, and when."""
        coming = {name: at for name, at in self._next.items() if at is not None} if self._release is not None else {}
        return min(coming.items(), key=lambda one: (one[1], one[0]), default=None)

    def _begin(self, ledger: Ledger, snapshot: Snapshot, active: Release) -> None:
        """Look at all of it: another release may have begun some, or nobody was there to."""
        environment, tasks = snapshot.environment, active.configuration.schedule
        self._release = active.number
        self._next = {name: next_at(task, snapshot.now) for name, task in tasks.items()}
        self._watched = set(self._next)
        self.last = {}
        terms = _terms(ledger, snapshot)
        self._since = in_force_since(active, terms)
        self._dropped = tuple(
            replace(one, entry=replace(one.entry, last=ledger.schedules.last(environment.id, one.entry.name)))
            for one in dropped(terms)
        )


def _terms(ledger: Ledger, snapshot: Snapshot) -> list[Term]:
    """Return which releases had the traffic, and from when on, the last first."""
    environment, found = snapshot.environment, list[Term]()
    for number, at in ledger.schedules.last_active(environment, _TERMS):
        release = None
        with contextlib.suppress(LedgerDamaged, NotFound):  # it was, and nothing that is to come depends on it
            release = None if number is None else ledger.get_release(environment.id, number)
        found.append((release, at))
    return found
