"""What was begun of schedules: tasks that are called after their entry and the time at which they were due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from instar.ledger.environments import Environments
from instar.ledger.events import Events
from instar.ledger.rows import task_value, time_text, time_value
from instar.ledger.session import Session
from instar.ledger.tasks import Tasks
from instar.model.codec import parse, to_json
from instar.model.events import read
from instar.model.happenings import OccurrencesMissed
from instar.model.occurrence import SCHEDULED, Missed, Occurrence
from instar.model.release import Command, EnvironmentId, EnvironmentState, Instance, TaskRun
from instar.model.roles import UNNAMED_ROLE

_BY_NAME = "SELECT * FROM tasks WHERE environment = :environment AND name = :name"
_LAST = """
    SELECT * FROM tasks WHERE environment = :environment AND name >= :first AND name < :beyond
     ORDER BY name DESC LIMIT 1"""
_COUNT = """
    SELECT count(*) AS number FROM tasks WHERE environment = :environment AND name >= :first AND name < :beyond"""

_MISSED = "SELECT detail FROM events WHERE place = :place AND kind = 'missed' ORDER BY seq DESC LIMIT :last"
_LOOKED_AT = 2_000
_SHIFTS = """
    SELECT release, at FROM events WHERE place = :place AND kind = 'shift' AND at >= :since
     ORDER BY seq DESC LIMIT :last"""


class Schedules:
    """Which occurrences were begun."""

    def __init__(self, session: Session, events: Events, environments: Environments, tasks: Tasks) -> None:
        self._session = session
        self._events = events
        self._environments = environments
        self._tasks = tasks

    def last(self, environment: EnvironmentId, entry: str) -> TaskRun | None:
        """Return what was begun by the clock last of an entry, in whichever release."""
        found = self._environments.find_row(environment)
        if found is None:
            return None
        first, beyond = f"{SCHEDULED} {entry} 0", f"{SCHEDULED} {entry} :"  # times begin with a digit
        row = self._session.row(_LAST, environment=found["id"], first=first, beyond=beyond)
        return None if row is None else task_value(row)

    def last_by_hand(self, environment: EnvironmentId, entry: str) -> TaskRun | None:
        """Return what somebody had begin last of an entry."""
        found, number = self._environments.find_row(environment), self.count_by_hand(environment, entry)
        if found is None or not number:
            return None
        name = Occurrence(entry=entry, number=number).name
        row = self._session.row(_BY_NAME, environment=found["id"], name=name)
        return None if row is None else task_value(row)

    def count_by_hand(self, environment: EnvironmentId, entry: str) -> int:
        """Return how often somebody had an entry begin."""
        found = self._environments.row_id(environment)
        first, beyond = f"{SCHEDULED} {entry} by hand ", f"{SCHEDULED} {entry} by hand!"
        row = self._session.row(_COUNT, environment=found, first=first, beyond=beyond)
        return int(row["number"]) if row is not None else 0

    def missed_until(self, environment: EnvironmentId) -> Mapping[str, datetime]:
        """Return when the last of those was due that were written down as missed, of each entry of which any were.

        The history tells: nothing but the history follows from it.
        """
        found: dict[str, datetime] = {}
        for row in self._session.rows(_MISSED, place=str(environment), last=_LOOKED_AT):
            what = read("missed", parse(row["detail"]))
            if isinstance(what, OccurrencesMissed):
                found.setdefault(what.entry, datetime.fromisoformat(what.last))
        return found

    def last_active(self, state: EnvironmentState, last: int) -> Sequence[tuple[int | None, datetime]]:
        """Return which releases had the traffic, and from when on, the last first; None: none had."""
        since = time_text(state.created_at)
        rows = self._session.rows(_SHIFTS, place=str(state.id), since=since, last=last)
        return [(row["release"], time_value(row["at"])) for row in rows]

    def note_missed(self, environment: EnvironmentId, release: int, missed: Missed) -> None:
        """Write that an entry was due, and did not begin."""
        what = OccurrencesMissed(
            entry=missed.entry,
            count=missed.count,
            first=str(to_json(missed.first)),
            last=str(to_json(missed.last)),
            more=missed.more,
        )
        self._events.record(what, environment, release)

    def begin(
        self,
        environment_id: EnvironmentId,
        release: int,
        occurrence: Occurrence,
        command: Command,
        *,
        role: str = UNNAMED_ROLE,
    ) -> Instance | None:
        """Write that what is due begins, and the instance that runs it. None, and nothing is written, where it was
        begun before, of whichever release."""
        with self._events.transaction():
            environment = self._environments.changeable(environment_id)
            if self._session.row(_BY_NAME, environment=environment, name=occurrence.name):
                return None
            return self._tasks.begin_task(environment_id, release, occurrence.name, role=role, command=command)
