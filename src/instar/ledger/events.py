"""Events: what was decided and done, one after the other, for ever. Every other noun here writes through this one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from instar.ledger import chain, witness
from instar.ledger.database import Database
from instar.ledger.rows import event_value, time_text
from instar.model.digest import Digest
from instar.model.release import EnvironmentId, Event

_HEAD = "SELECT seq, at, hash FROM events ORDER BY seq DESC LIMIT 1"
_ADD = """
    INSERT INTO events (seq, at, actor, kind, place, release, image, detail, hash)
    VALUES (:seq, :at, :actor, :kind, :place, :release, :image, :detail, :hash)"""
_AFTER = "SELECT * FROM events WHERE seq > :seq ORDER BY seq LIMIT :most"
_ALL = "SELECT * FROM events ORDER BY seq DESC LIMIT :last"
_OF_PLACE = "SELECT * FROM events WHERE place = :place ORDER BY seq DESC LIMIT :last"


class Events:
    """The append-only, chained part of the ledger."""

    def __init__(self, database: Database, *, actor: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._actor = chain.word(actor)
        self._clock = clock
        self._ahead = timedelta(0)  # how far the newest event was ahead of the clock
        self._added = False  # by the transaction that is open now

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside as one, or nothing of it when the block raises.

        Can be nested: an inner one that raises takes back its own part. The head of the chain is told to the
        system log after a commit that added events.
        """
        head = None
        with self._database.transaction() as outermost:
            try:
                yield
                if outermost and self._added:
                    head = self._database.row(_HEAD)
            finally:
                self._added = self._added and not outermost
        if head is not None:
            witness.tell(self._database.path, head["seq"], head["hash"])

    def now(self) -> datetime:
        """Return the ledger's time: the clock's, but never before the newest event.

        A clock that was set back goes on from there: times here are compared with each other, also by decisions.
        """
        head, clock = self._database.row(_HEAD), self._clock()
        if head is not None:
            self._ahead = max(self._ahead, datetime.fromisoformat(head["at"]) - clock)
        return clock + self._ahead

    def record(
        self,
        kind: str,
        /,
        environment: EnvironmentId | None = None,
        release: int | None = None,
        image: Digest | None = None,
        **detail: Any,
    ) -> Event:
        """Add an event. ``detail`` is anything that JSON can hold; floats are fine, NaN is not."""
        return self._record(kind, environment, release, image, detail)

    def history(self, environment: EnvironmentId | None = None, *, last: int | None = None) -> tuple[Event, ...]:
        """Return the events of ``environment`` (of everything: None), oldest first; of removed environments too.

        ``last`` keeps that many newest ones.
        """
        limit = -1 if last is None else last
        if environment is None:
            rows = self._database.rows(_ALL, last=limit)
        else:
            rows = self._database.rows(_OF_PLACE, place=str(environment), last=limit)
        return tuple(event_value(row) for row in reversed(rows))

    def events_after(self, seq: int, most: int) -> tuple[Event, ...]:
        """Return up to ``most`` events of everything that came after event ``seq``, oldest first."""
        return tuple(event_value(row) for row in self._database.rows(_AFTER, seq=seq, most=most))

    def _record(
        self,
        kind: str,
        environment: EnvironmentId | None,
        release: int | None,
        image: Digest | None,
        detail: Mapping[str, Any],
    ) -> Event:
        with self.transaction():
            head = self._database.row(_HEAD)
            fields = {
                "seq": head["seq"] + 1 if head else 1,
                "at": self._now(),
                "actor": self._actor,
                "kind": kind,
                "place": str(environment) if environment else None,
                "release": release,
                "image": image,
                "detail": chain.detail_text(detail),
            }
            fields["hash"] = chain.link(head["hash"] if head else chain.START, *fields.values())
            self._database.write(_ADD, **fields)
            self._added = True
            return event_value(fields)

    def _now(self) -> str:
        return time_text(self.now())
