"""Commands by the clock, one rule a test: when they are due, that each comes once, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from control_values import DATABASE, HTTP, NOW, ago, group, release, serving, snapshot

from instar.control.actions import BeginScheduled, EndTask, Retire, RunTask
from instar.control.decide import decide
from instar.control.endings import ending_of
from instar.control.schedule import UNBEGUN, Entry, dropped, due_now, is_zone_known, last_at, missed, next_at
from instar.control.snapshot import GroupView, Snapshot
from instar.control.timetable import Timetable
from instar.definition.kept import require_kept
from instar.ledger import Ledger
from instar.model.definition import Volume
from instar.model.environment import ScheduledTask
from instar.model.occurrence import Occurrence
from instar.model.release import Command, Release, Stage, TaskRun
from instar.model.schedule import Schedule, ScheduledEntry
from instar.views.schedules import schedule_page

NIGHTLY = ScheduledTask(command=("report",), cron="0 3 * * *")
BERLIN = dataclasses.replace(NIGHTLY, zone="Europe/Berlin", cron="30 2 * * *")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def begun(name: str, outcome: str | None = "done") -> TaskRun:
    return TaskRun(name=name, instance="shop-production-1-9", began_at=ago(5), outcome=outcome)


def test_it_is_due_by_its_line_of_cron_or_in_steps_of_the_day() -> None:
    assert next_at(NIGHTLY, at("2026-11-30T02:59:59")) == at("2026-11-30T03:00:00")
    assert next_at(NIGHTLY, at("2026-11-30T03:00:00")) == at("2026-12-01T03:00:00")
    assert last_at(NIGHTLY, at("2026-11-30T03:00:00")) == at("2026-11-30T03:00:00")
    assert last_at(NIGHTLY, at("2026-11-30T02:59:59")) == at("2026-11-29T03:00:00")
    quarter = ScheduledTask(command=("poll",), every_ms=900_000)
    assert next_at(quarter, at("2026-11-30T03:00:00")) == at("2026-11-30T03:15:00")
    assert last_at(quarter, at("2026-11-30T03:14:59")) == at("2026-11-30T03:00:00")


def times(task: ScheduledTask, since: str, until: str) -> list[str]:
    found, now = [], at(since)
    while (one := next_at(task, now)) is not None and one <= at(until):
        found.append(one.strftime("%d %H:%M"))
        now = one
    return found


def test_it_comes_once_in_the_night_that_lacks_its_hour_and_in_the_one_that_has_it_twice() -> None:
    assert times(BERLIN, "2027-03-27T00:00:00", "2027-03-30T00:00:00") == ["27 01:30", "28 01:00", "29 00:30"]
    assert times(BERLIN, "2026-10-24T00:00:00", "2026-10-27T00:00:00") == ["24 00:30", "25 00:30", "26 01:30"]
    hourly = dataclasses.replace(BERLIN, cron="0 * * * *")
    assert len(times(hourly, "2026-10-24T22:00:00", "2026-10-25T22:00:00")) == 24


@pytest.mark.parametrize(
    ("now", "missed", "last", "due"),
    [
        ("2026-11-30T03:00:00", "skip", None, "schedule nightly 2026-11-30T03:00:00Z"),
        ("2026-11-30T03:00:59", "skip", None, "schedule nightly 2026-11-30T03:00:00Z"),
        ("2026-11-30T03:01:01", "skip", None, None),
        ("2026-11-30T09:00:00", "once", None, "schedule nightly 2026-11-30T03:00:00Z"),
        ("2026-12-24T09:00:00", "once", None, "schedule nightly 2026-12-24T03:00:00Z"),
        ("2026-11-30T03:00:30", "once", begun("schedule nightly 2026-11-30T03:00:00Z", None), None),
        ("2026-11-30T03:00:30", "once", begun("schedule nightly 2026-11-30T03:00:00Z", "exit status 1"), None),
        ("2026-11-29T12:00:00", "once", begun("schedule nightly 2026-11-30T03:00:00Z"), None),  # the clock went back
    ],
)
def test_each_time_comes_once_and_late_only_where_that_is_asked_for(
    now: str, missed: Any, last: TaskRun | None, due: str | None
) -> None:
    entry = Entry(name="nightly", task=dataclasses.replace(NIGHTLY, missed=missed), last=last)
    found = due_now(entry, at("2026-11-29T12:00:00"), at(now))
    assert (None if found is None else found.name) == due


QUARTERLY = ScheduledTask(command=("poll",), every_ms=900_000)


@pytest.mark.parametrize(
    ("task", "missed_", "last", "now", "told"),
    [
        (NIGHTLY, "skip", None, "2026-11-30T03:00:59", None),
        (NIGHTLY, "skip", None, "2026-11-30T03:01:01", (1, "30 03:00", "30 03:00")),
        (NIGHTLY, "skip", None, "2026-12-02T09:00:00", (3, "30 03:00", "02 03:00")),
        (NIGHTLY, "once", None, "2026-11-30T09:00:00", None),
        (NIGHTLY, "once", None, "2026-12-02T09:00:00", (2, "30 03:00", "01 03:00")),
        (NIGHTLY, "skip", "2026-11-30T03:00:00Z", "2026-11-30T09:00:00", None),
        (NIGHTLY, "skip", "2026-11-30T03:00:00Z", "2026-12-01T09:00:00", (1, "01 03:00", "01 03:00")),
        (NIGHTLY, "skip", "2026-11-20T03:00:00Z", "2026-11-30T09:00:00", (1, "30 03:00", "30 03:00")),
        (NIGHTLY, "skip", "2026-12-24T03:00:00Z", "2026-11-30T09:00:00", None),
        (QUARTERLY, "skip", None, "2026-11-30T09:00:30", (83, "29 12:15", "30 08:45")),  # that of nine may begin yet
        (QUARTERLY, "once", "2026-11-30T08:00:00Z", "2026-11-30T09:00:30", (3, "30 08:15", "30 08:45")),
    ],
)
def test_what_was_due_and_did_not_begin_is_missed(
    task: ScheduledTask, missed_: Any, last: str | None, now: str, told: tuple[int, str, str] | None
) -> None:
    """The release that has it is there since noon of the 29th."""
    run = begun(f"schedule one {last}") if last else None
    entry = Entry(name="one", task=dataclasses.replace(task, missed=missed_), last=run)
    found = missed(entry, at("2026-11-29T12:00:00"), at(now))
    seen = None if found is None else (found.count, f"{found.first:%d %H:%M}", f"{found.last:%d %H:%M}")
    assert seen == told


def test_of_very_many_it_is_not_counted_how_many() -> None:
    minutely = dataclasses.replace(NIGHTLY, cron="* * * * *")
    found = missed(Entry(name="one", task=minutely), at("2026-11-01T00:00:00"), at("2026-11-30T00:00:00"))
    assert found is not None and (found.count, found.more) == (1_000, True)
    assert found.last == at("2026-11-29T23:59:00")


def test_what_fails_is_tried_again_as_often_as_is_said_and_what_nobody_saw_is_not() -> None:
    task, now = dataclasses.replace(NIGHTLY, retries=2), at("2026-11-30T03:00:30")

    def again(name: str, outcome: str) -> str | None:
        found = due_now(Entry(name="nightly", task=task, last=begun(name, outcome)), now - timedelta(1), now)
        return None if found is None else found.name

    first = "schedule nightly 2026-11-30T03:00:00Z"
    assert again(first, "exit status 1") == f"{first} try 02"
    assert again(f"{first} try 02", "exit status 1") == f"{first} try 03"
    assert again(f"{first} try 03", "exit status 1") is None
    assert again(first, "done") is None
    assert again(first, "nobody saw how it ended") is None
    assert again(first, UNBEGUN) is None


def test_a_name_says_what_it_is_of() -> None:
    for one in (
        Occurrence(entry="nightly", due_at=at("2026-11-30T03:00:00")),
        Occurrence(entry="nightly", due_at=at("2026-11-30T03:00:00"), number=2),
        Occurrence(entry="nightly", number=7),
    ):
        assert Occurrence.of(one.name) == one
    assert Occurrence.of("before 1") is Occurrence.of("run 3") is None


DUE = Occurrence(entry="poll", due_at=NOW)


def running(state: str = "running", *, outcome: str | None = None, due: bool = False, **fields: Any) -> Snapshot:
    """Return an environment that runs an occurrence of its schedule, or, without a ``state``, none."""
    task = fields.pop("task", ScheduledTask(command=("poll",), every_ms=60_000, timeout_ms=30_000))
    made = release(1, *fields.pop("services", ()), ran_well=True)
    made = dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, schedule={"poll": task}))
    groups: tuple[GroupView, ...] = ()
    if state:
        one = group(
            1,
            state,
            serial=9,
            task="schedule poll 2026-11-30T03:00:00Z",
            age_s=fields.pop("age_s", 1),
            exit_status=fields.pop("exit_status", 0),
        )
        groups = (
            dataclasses.replace(one, instance=dataclasses.replace(one.instance, command=Command(argv=("poll",)))),
        )
    runs = tuple(begun(one.instance.task or "", outcome) for one in groups)
    more = {"due": (DUE,) if due else (), "task_groups": groups, "given_tasks": runs} | fields
    return snapshot([made, *more.pop("releases", [])], more.pop("groups", serving(1, 1)), active=1, **more)


def test_what_is_due_begins_in_the_active_release_and_never_beside_itself() -> None:
    assert decide(running("", due=True)) == (BeginScheduled(1, DUE),)
    assert decide(running(due=True)) == ()
    both = ScheduledTask(command=("poll",), every_ms=60_000, overlap=True)
    assert decide(running(due=True, task=both)) == (BeginScheduled(1, DUE),)
    assert not any(isinstance(one, BeginScheduled) for one in decide(running("", due=True, destroying=True)))


def test_it_goes_from_its_record_to_its_end() -> None:
    name, task = "shop-production-1-9", "schedule poll 2026-11-30T03:00:00Z"
    assert decide(running("absent")) == (RunTask(1, task, name),)
    assert decide(running("created")) == (RunTask(1, task, name),)
    assert decide(running()) == ()
    assert decide(running("stopped")) == (EndTask(1, task, name, "done"),)
    assert decide(running("stopped", exit_status=4)) == (EndTask(1, task, name, "exit status 4"),)
    assert decide(running(age_s=31)) == (EndTask(1, task, name, "it did not end within 30 s"),)
    assert decide(running("stopped", outcome="done")) == (Retire((name,), "its task: done"),)


def test_a_rollout_that_must_not_have_two_releases_begins_none_and_others_do() -> None:
    alone = running("", due=True, services=(DATABASE,), releases=[release(2, DATABASE)], source=1, target=2)
    assert not any(isinstance(one, BeginScheduled) for one in decide(alone))
    beside = running("", due=True, releases=[release(2)], source=1, target=2)
    assert decide(beside) == (BeginScheduled(1, DUE),)


def test_none_begins_with_a_volume_that_gets_other_data_and_others_do() -> None:
    """It would have data of a release that does not run yet, and the swap would wait for its end."""
    shared = dataclasses.replace(HTTP, volumes=(Volume(name="data", path="/data", access="shared"),))
    fields: dict[str, Any] = {"due": True, "source": 1, "target": 2, "services": (shared,)}
    swaps, other = (Stage(data={name: 1}) for name in ("data", "other"))
    begins = [
        any(isinstance(one, BeginScheduled) for one in decide(running("", **fields, **more)))
        for more in (
            {"releases": [release(2, shared)], "stage": swaps},
            {"releases": [release(2, shared)], "stage": other},
            {"releases": [release(2, shared)]},
        )
    ]
    assert begins == [False, True, True]


def scheduled(number: int, **schedule: ScheduledTask) -> Release:
    made = release(number)
    return dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, schedule=schedule))


def test_what_older_releases_had_is_known_with_its_times_the_oldest_first() -> None:
    """Also where nobody looked while several came, and where one came back; of one that is gone nothing is."""
    both, one = scheduled(1, poll=QUARTERLY, nightly=NIGHTLY), scheduled(2, nightly=NIGHTLY)
    other = scheduled(3, nightly=dataclasses.replace(NIGHTLY, cron="0 4 * * *"))
    days = [at(f"2026-11-{day:02}T00:00:00") for day in range(1, 8)]
    terms = list(zip([None, both, one, both, one, other, None], days, strict=True))[::-1]
    assert [(found.entry.name, found.since.day, found.until.day) for found in dropped(terms)] == [
        ("poll", 2, 3),
        ("poll", 4, 5),
        ("nightly", 2, 6),
    ]


def test_an_entry_that_came_with_one_of_very_many_releases_was_not_due_before_it() -> None:
    made = running("").releases[1]
    weekly = dataclasses.replace(NIGHTLY, cron="0 3 * * 0", missed="once")
    made = dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, schedule={"weekly": weekly}))
    now, asked = at("2026-12-02T12:00:00"), Asked(shifts=[(1, at("2026-11-30T09:00:00"))] * 20, release=made)
    state = dataclasses.replace(running(""), releases={1: made}, now=now)
    timetable = Timetable()
    assert timetable.due(asked, state) == () and timetable.missed == ()  # type: ignore[arg-type]


class Asked:
    """A ledger that says of no entry that it was begun, and counts who asks."""

    def __init__(self, *, shifts: Sequence[tuple[int, datetime]] = (), release: Release | None = None) -> None:
        self.schedules, self.count = self, 0
        self._shifts, self._release = shifts, release

    def last(self, environment: object, entry: str) -> None:
        self.count += 1

    def last_active(self, state: object, last: int) -> Sequence[tuple[int, datetime]]:
        return self._shifts[:last]

    def get_release(self, environment: object, number: int) -> Release | None:
        return self._release

    def missed_until(self, environment: object) -> dict[str, datetime]:
        return {}


def test_a_thousand_entries_are_looked_at_when_they_are_due_and_not_before() -> None:
    tasks = {f"job-{number}": dataclasses.replace(NIGHTLY, cron=f"{number % 60} 3 * * *") for number in range(1_000)}
    at_rest = running("")
    made = at_rest.releases[1]
    made = dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, schedule=tasks))
    asked, timetable = Asked(), Timetable()
    ledger: Ledger = asked  # type: ignore[assignment]

    def due(now: datetime) -> list[str]:
        state = dataclasses.replace(at_rest, releases={1: made}, now=now)
        return [one.entry for one in timetable.due(ledger, state)]

    begin = at("2027-01-01T01:00:00")
    assert due(begin) == [] and asked.count == 1_000
    for second in range(0, 7_200, 180):
        assert due(begin + timedelta(seconds=second)) == []
    assert asked.count == 1_000 and timetable.left_s(begin) == 7_200
    assert due(at("2027-01-01T03:07:02")) == [f"job-{number}" for number in range(7, 1_000, 60)]


def test_that_one_ends_is_no_instance_that_ended_by_itself() -> None:
    (one,) = running("stopped").task_groups
    ending = ending_of(one, Retire((one.id,), "its task: done"), NOW)
    assert (ending.reason, ending.why) == ("instar", "its task: done")


@pytest.mark.parametrize(
    "task",
    [
        "schedule report by hand often",
        "schedule report by hand " + "9" * 5_000,
        "schedule report tomorrow",
        "schedule report 2026-11-30T03:00:00Z try x",
        "schedule report 2026-13-30T03:00:00Z",
    ],
)
def test_a_task_that_no_schedule_has_begun_is_of_none(task: str) -> None:
    """A ledger from elsewhere says what it likes."""
    assert Occurrence.of(task) is None


def test_one_whose_zone_this_machine_does_not_know_waits_and_harms_nobody() -> None:
    """Another machine knew it: a ledger was restored, or is shared."""
    lost = dataclasses.replace(NIGHTLY, zone="Atlantis/Capital")
    now = at("2026-11-30T03:00:00")
    assert (next_at(lost, now), last_at(lost, now), is_zone_known(lost)) == (None, None, False)
    entry = Entry(name="one", task=lost)
    assert due_now(entry, at("2026-11-01T00:00:00"), now) is missed(entry, at("2026-11-01T00:00:00"), now) is None
    at_rest = running("", task=lost)
    timetable, ledger = Timetable(), Asked()
    assert timetable.due(ledger, at_rest) == () and timetable.left_s(at_rest.now) is None  # type: ignore[arg-type]
    require_kept(at_rest.releases[1].configuration)
    for text in ("../etc/passwd", "/etc/passwd", "a b", ""):
        with pytest.raises(ValueError, match="is not the name of a time zone"):
            require_kept(
                dataclasses.replace(
                    at_rest.releases[1].configuration, schedule={"one": dataclasses.replace(lost, zone=text)}
                )
            )
    entries = (ScheduledEntry(name="one", task=lost, last=None, next_at=None, zone_known=False),)
    page = schedule_page(Schedule(environment=at_rest.environment.id, release=1, entries=entries, agent="it"))
    assert (
        "'one' does not begin here: this machine does not know the time zone 'Atlantis/Capital' (package tzdata)"
        in (list(page))
    )


def test_what_was_missed_last_is_in_the_table_where_anything_was() -> None:
    nightly = ScheduledTask(command=("x",), cron="0 3 * * *")
    one = ScheduledEntry(name="one", task=nightly, last=None, next_at=None)
    other = dataclasses.replace(one, name="other", missed_at=at("2026-11-30T03:00:00"))
    place = running("", task=nightly).environment.id

    def shown(*entries: ScheduledEntry) -> str:
        page = schedule_page(Schedule(environment=place, release=1, entries=entries, agent="it"))
        return str(list(page))

    assert "MISSED" not in shown(one)
    assert "MISSED (UTC)" in shown(one, other) and "2026-11-30 03:00:00" in shown(one, other)
