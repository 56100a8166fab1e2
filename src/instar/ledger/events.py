"""Events: what was decided and done, one after the other, for ever. Every change is written together with one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from instar.errors import LedgerDamaged, Refused
from instar.ledger import chain, witness
from instar.ledger.leases import Leases
from instar.ledger.rows import event_value, time_text, time_value
from instar.ledger.session import Session
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.events import Event, detail_of, kind_of
from instar.model.happenings import Happening
from instar.model.release import EnvironmentId

_LAST = "SELECT seq, at, kind, detail FROM events ORDER BY seq DESC LIMIT 1"
_HEAD = "SELECT seq, hash FROM events WHERE place = :place AND seq > :closed ORDER BY seq DESC LIMIT 1"
_HEAD_OF_NONE = "SELECT seq, hash FROM events WHERE place IS NULL AND seq > :closed ORDER BY seq DESC LIMIT 1"
_CLOSED = "SELECT seq, hash FROM events WHERE kind = 'chain-closed' ORDER BY seq LIMIT 1"
_ADD = """
    INSERT INTO events (seq, at, actor, kind, place, release, image, detail, hash)
    VALUES (:seq, :at, :actor, :kind, :place, :release, :image, :detail, :hash)"""
_AFTER = "SELECT * FROM events WHERE seq > :seq ORDER BY seq LIMIT :most"
_ALL = "SELECT * FROM events ORDER BY seq DESC LIMIT :last"
_BEFORE = "SELECT * FROM events WHERE place = :place AND seq < :seq ORDER BY seq DESC LIMIT :most"
_OF_ENVIRONMENT = "SELECT * FROM events WHERE place = :place ORDER BY seq DESC LIMIT :last"
NO_LIMIT = 2**62
_AT_ONCE = 50
MOVED = "ledger-moved"  # the last event of a ledger that goes on elsewhere


def moved(address: str, to: str) -> Refused:
    """Return the refusal to write a ledger that goes on elsewhere."""
    return Refused(
        f"cannot write '{address}': this ledger was moved, and goes on at {to}",
        hint=f"use that one: INSTAR_LEDGER={to}, or 'ledger' in the machine's file",
    )


class Clock:
    """A ledger's time: the engine's clock, or the one that was given, but never before the newest event.

    A clock that was set back goes on from there: times here are compared with each other, also by decisions.
    """

    def __init__(self, session: Session, clock: Callable[[], datetime] | None) -> None:
        self._session = session
        self._clock = clock or session.engine.now
        self._ahead = timedelta(0)  # how far the newest event was ahead of the clock

    def now(self) -> datetime:
        return self._session.time(self._read)

    def text(self) -> str:
        """Return the time as it is written."""
        return time_text(self.now())

    def _read(self) -> datetime:
        last, clock = self._session.row(_LAST), self._clock()
        if last is not None:
            with contextlib.suppress(LedgerDamaged):  # who reads that event is told
                self._ahead = max(self._ahead, time_value(last["at"]) - clock)
        return clock + self._ahead


class Events:
    """The append-only, chained part of the ledger, as one actor writes it."""

    def __init__(self, session: Session, actor: str, clock: Clock, leases: Leases | None) -> None:
        self._session = session
        self._leases = leases
        self.actor = chain.word(actor)
        self.clock = clock

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside as one, or nothing of it when the block raises.

        Can be nested: an inner one that raises takes back its own part. The heads of the chains are told to the
        system log after a commit that added events to them.
        """
        heads, session = list[tuple[str | None, int, str]](), self._session
        with session.transaction() as outermost:
            try:
                yield
                if outermost:
                    heads = [(place, *self._head(place)) for place in sorted(session.chains, key=str)]
            finally:
                session.chains = set() if outermost else session.chains
        for place, seq, head in heads:
            witness.tell(session.engine.address, place, seq, head)

    def record(
        self,
        what: Happening,
        environment: EnvironmentId | None = None,
        release: int | None = None,
        image: Digest | None = None,
    ) -> Event:
        """Add an event. Its fields are anything that JSON can hold; floats are fine, NaN is not."""
        with self.transaction():
            if self._leases is not None and environment is not None:
                self._leases.require_to_write(environment)
            last, place = self._session.row(_LAST), str(environment) if environment else None
            if last is not None and last["kind"] == MOVED:
                raise moved(self._session.engine.address, parse(last["detail"])["to"])
            fields = {
                "seq": last["seq"] + 1 if last else 1,
                "at": self.clock.text(),
                "actor": self.actor,
                "kind": kind_of(what),
                "place": place,
                "release": release,
                "image": image,
                "detail": chain.detail_text(detail_of(what)),
            }
            fields["hash"] = chain.link(self._head(place)[1], *fields.values())
            self._session.write(_ADD, **fields)
            self._session.chains.add(place)
            return event_value(fields)

    def history(self, environment: EnvironmentId | None = None, *, last: int | None = None) -> tuple[Event, ...]:
        """Return the events of ``environment`` (of everything: None), oldest first; of removed environments too.

        ``last`` keeps that many newest ones.
        """
        limit = NO_LIMIT if last is None else last
        if environment is None:
            rows = self._session.rows(_ALL, last=limit)
        else:
            rows = self._session.rows(_OF_ENVIRONMENT, place=str(environment), last=limit)
        return tuple(event_value(row) for row in reversed(rows))

    def newest_first(self, environment: EnvironmentId) -> Iterator[Event]:
        """Yield the events of ``environment``, the last one first, as far as somebody reads them."""
        seq = NO_LIMIT
        while rows := self._session.rows(_BEFORE, place=str(environment), seq=seq, most=_AT_ONCE):
            yield from map(event_value, rows)
            seq = rows[-1]["seq"]

    def after(self, seq: int, most: int) -> tuple[Event, ...]:
        """Return up to ``most`` events of everything that came after event ``seq``, oldest first; none of those that
        can't be read."""
        found = list[Event]()
        while not found and (rows := self._session.rows(_AFTER, seq=seq, most=most)):
            for row in rows:
                with contextlib.suppress(LedgerDamaged):
                    found.append(event_value(row))
            seq = rows[-1]["seq"]
        return tuple(found)

    def _head(self, place: str | None) -> tuple[int, str]:
        """Return the last event of a chain, and its hash: the one that the next is chained to."""
        begin = self._session.chains_begin
        if begin is None:
            closed = self._session.row(_CLOSED)
            begin = self._session.chains_begin = (closed["seq"], closed["hash"]) if closed else (0, chain.START)
        query = _HEAD_OF_NONE if place is None else _HEAD
        found = self._session.row(query, place=place, closed=begin[0])
        return (found["seq"], found["hash"]) if found else begin
