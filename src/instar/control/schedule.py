"""Which commands are due by the clock, and what becomes of those that were begun. Pure.

An occurrence is an entry and a time of its own, in whole seconds of UTC. What was begun of one is a task that is called
after it, and the ledger has each name once: so it runs once, whoever begins it, whatever the clock does, and in which
release that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from instar.control import cron
from instar.control.actions import Action, BeginScheduled, EndTask, NoteMissed, RunTask
from instar.control.endings import words
from instar.control.snapshot import GroupView, Snapshot, alone
from instar.frozen import dataclass
from instar.model.definition import Service
from instar.model.environment import ScheduledTask
from instar.model.occurrence import Missed, Occurrence
from instar.model.release import Release, TaskRun
from instar.providers.base import Observed

LATE: Final = timedelta(minutes=1)  # what could not begin by then is missed
DONE: Final = "done"
_COUNTED: Final = 1_000  # of more that were missed it is not counted how many
UNKNOWN: Final = "nobody saw how it ended"
UNBEGUN: Final = "it had not begun when another release was to come"
Term = tuple[Release | None, datetime]  # which release had the traffic, and from when on; None: none had


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An entry of a schedule, and what was begun of it by the clock last."""

    name: str
    task: ScheduledTask
    last: TaskRun | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """An entry that was in force from some time to another."""

    entry: Entry
    since: datetime
    until: datetime


def next_at(task: ScheduledTask, after: datetime) -> datetime | None:
    """Return when it is due next, later than ``after``; None: never again, or nobody here knows its zone."""
    if task.every_ms is not None:
        return _step(task.every_ms, after, 1)
    return cron.next_time(task.cron or "", task.zone, after)


def last_at(task: ScheduledTask, until: datetime) -> datetime | None:
    """Return when it was due last, not later than ``until``; None: never before."""
    if task.every_ms is not None:
        return _step(task.every_ms, until, 0)
    return cron.last_time(task.cron or "", task.zone, until.replace(microsecond=0) + timedelta(seconds=1))


def due_now(entry: Entry, since: datetime, now: datetime) -> Occurrence | None:
    """Return what of an entry is to be begun, or tried again; ``since``: from when on it is in force."""
    before = None if entry.last is None else Occurrence.of(entry.last.name)
    due_at = last_at(entry.task, now)
    begun_at = since if before is None or before.due_at is None else max(since, before.due_at)
    if due_at is not None and due_at > begun_at and (entry.task.missed == "once" or due_at > now - LATE):
        return Occurrence(entry=entry.name, due_at=due_at)
    return _again(entry, before)


def missed(entry: Entry, since: datetime, now: datetime, *, over: bool = False) -> Missed | None:
    """Return what of an entry was due after ``since``, and after what was begun of it last, and will not begin any
    more; None: nothing. Of several that are due, only the last begins; ``over``: that neither."""
    span = missed_between(entry, since, now, over=over)
    if span is None:
        return None
    first, last = span
    if entry.task.every_ms is not None:
        count = 1 + round((last - first).total_seconds() * 1000 / entry.task.every_ms)
        return Missed(entry=entry.name, count=count, first=first, last=last)
    count = cron.count(entry.task.cron or "", entry.task.zone, first, last, _COUNTED)
    return Missed(entry=entry.name, count=min(count, _COUNTED), first=first, last=last, more=count > _COUNTED)


def missed_between(
    entry: Entry, since: datetime, now: datetime, *, over: bool = False
) -> tuple[datetime, datetime] | None:
    """Return the first and the last time of what :func:`missed` counts, without counting it; None: nothing."""
    before = None if entry.last is None else Occurrence.of(entry.last.name)
    after = since if before is None or before.due_at is None else max(since, before.due_at)
    first, last = next_at(entry.task, after), last_at(entry.task, now)
    if last is not None and not over and (entry.task.missed == "once" or last > now - LATE):
        last = last_at(entry.task, last - timedelta(seconds=1))
    return None if first is None or last is None or last < first else (first, last)


def in_force_since(active: Release, terms: Sequence[Term]) -> Mapping[str, datetime]:
    """Return from when on each entry of the active release is due when it is: also releases before may have had it.
    ``terms``: which had the traffic, the last first."""
    found = {}
    for name, task in active.configuration.schedule.items():
        since = active.last_active_at or active.created_at
        for release, at in terms:
            if release is None or not _is_due_alike(release.configuration.schedule.get(name), task):
                break
            since = at
        found[name] = since
    return found


def dropped(terms: Sequence[Term]) -> tuple[Dropped, ...]:
    """Return the entries that a release had, and the one after it hasn't, or at other times: the oldest first. Of
    releases that nobody knows any more, nothing is."""
    found = []
    for number in range(len(terms) - 1, 0, -1):
        (former, _), (latter, until) = terms[number], terms[number - 1]
        if former is None or latter is None:
            continue
        since = in_force_since(former, terms[number:])
        found += [
            Dropped(entry=Entry(name=name, task=task), since=since[name], until=until)
            for name, task in former.configuration.schedule.items()
            if not _is_due_alike(latter.configuration.schedule.get(name), task)
        ]
    return tuple(found)


def _is_due_alike(one: ScheduledTask | None, other: ScheduledTask) -> bool:
    return one is not None and (one.cron, one.every_ms, one.zone) == (other.cron, other.every_ms, other.zone)


def note_missed(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what writes down which occurrences were missed."""
    active = snapshot.active
    if active is None or snapshot.environment.destroying:
        return ()
    return tuple(NoteMissed(active.number, one) for one in snapshot.missed)


def _again(entry: Entry, before: Occurrence | None) -> Occurrence | None:
    if entry.last is None or before is None or entry.last.outcome in (None, DONE, UNKNOWN, UNBEGUN):
        return None
    if before.number > entry.task.retries:
        return None
    return Occurrence(entry=before.entry, due_at=before.due_at, number=before.number + 1)


def begin_due(snapshot: Snapshot, due: Iterable[Occurrence]) -> tuple[Action, ...]:
    """Return what begins those that are ``due``, in the active release: not beside one of the same entry that still
    runs, not while two releases change hands that must not run at once, and not with a volume that gets other data."""
    active = snapshot.active
    if active is None or snapshot.environment.destroying:
        return ()
    rollout = snapshot.environment.rollout
    if rollout is not None and alone(active):
        return ()
    swapped = set(rollout.stage.data) if rollout is not None and rollout.target != active.number else set()
    running = {found.entry for group in snapshot.task_groups if (found := _occurrence(group)) is not None}
    entries = active.configuration.schedule
    return tuple(
        BeginScheduled(active.number, one, entries[one.entry].role or active.role)
        for one in due
        if one.entry in entries and (one.entry not in running or entries[one.entry].overlap)
        if not any(volume.name in swapped for volume in _service_of(active, entries[one.entry]).volumes)
    )


def _service_of(active: Release, entry: ScheduledTask) -> Service:
    return active.of_role(entry.role or active.role).service


def go_on(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what brings scheduled commands that were begun nearer to their end; nothing while they run."""
    begun = {one.instance: one for one in snapshot.given_tasks}
    for group in snapshot.task_groups:
        occurrence = _occurrence(group)
        if occurrence is None or group.state == "ending" or group.instance.ending is not None:
            continue
        run = begun.get(group.id)
        if run is None or run.outcome is not None or snapshot.environment.destroying:
            continue  # what is left of it is taken away
        action = _next(snapshot, group, occurrence)
        if action is not None:
            return (action,)
    return ()


def end_ended(snapshot: Snapshot, *, unbegun: bool = False) -> tuple[Action, ...]:
    """Return what writes down how commands have ended that nobody has looked at since; ``unbegun``: and has those end
    that were to begin, and that nobody has begun."""
    given = {one.instance for one in snapshot.given_tasks if one.outcome is None}
    found = []
    for one in snapshot.task_groups:
        if one.id not in given or _occurrence(one) is None or one.instance.ending is not None:
            continue
        if one.state == "dead":
            found.append(EndTask(one.release, one.instance.task or "", one.id, outcome_of(one.observed)))
        elif unbegun and one.state in ("planned", "created"):
            found.append(EndTask(one.release, one.instance.task or "", one.id, UNBEGUN))
    return tuple(found)


def outcome_of(seen: Observed) -> str:
    """Return how a command has ended, of an instance that isn't there any more or has ended."""
    known = seen.reason is not None or seen.exit_status is not None
    return DONE if seen.exit_status == 0 else words(seen) if known else UNKNOWN


def timeout_ms(release: Release, entry: str) -> int:
    """Return how long an entry of a release's schedule may take."""
    found = release.configuration.schedule.get(entry)
    return ScheduledTask(command=()).timeout_ms if found is None else found.timeout_ms


def entries_of(release: Release, last: Mapping[str, TaskRun]) -> tuple[Entry, ...]:
    """Return the schedule of a release with what was begun of each entry last."""
    return tuple(
        Entry(name=name, task=one, last=last.get(name)) for name, one in release.configuration.schedule.items()
    )


def _next(snapshot: Snapshot, group: GroupView, occurrence: Occurrence) -> Action | None:
    task = group.instance.task or ""
    if group.state in ("planned", "created"):
        return RunTask(group.release, task, group.id)
    if group.state == "dead":
        return EndTask(group.release, task, group.id, outcome_of(group.observed))
    limit_ms = timeout_ms(snapshot.releases[group.release], occurrence.entry)
    if snapshot.now >= group.began_at + timedelta(milliseconds=limit_ms):
        return EndTask(group.release, task, group.id, f"it did not end within {limit_ms / 1000:g} s")
    return None


def _occurrence(group: GroupView) -> Occurrence | None:
    if group.instance.command is None or group.instance.task is None:
        return None
    return Occurrence.of(group.instance.task)


def _step(every_ms: int, at: datetime, further: int) -> datetime:
    every_s = every_ms / 1000
    return datetime.fromtimestamp((at.timestamp() // every_s + further) * every_s, UTC).replace(microsecond=0)


def is_zone_known(task: ScheduledTask) -> bool:
    """Tell whether this machine knows when it is due: the one that the release was made on did."""
    return task.every_ms is not None or cron.find_zone(task.zone) is not None
