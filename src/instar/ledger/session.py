"""What every part of the ledger stands on: statements and transactions, whatever the engine below.

An :class:`Engine` is one connection to a database. There are two: ``sqlite.py`` and ``postgresql.py``. Statements are
written once for both, with parameters as ``:name``; what only one of them understands is in its own file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from instar.errors import LedgerError
from instar.ledger.schema import EngineName

Row = Any  # of sqlite3 or psycopg: read by a column's name or its place


class Engine(Protocol):
    """One connection to a ledger, open and of this version's schema. Used by one thread at a time.

    What goes wrong leaves it as LedgerError or one of its kinds. A transaction that the database has given up is seen
    in :attr:`in_transaction`; what was written in it is not there.
    """

    @property
    def name(self) -> EngineName: ...

    @property
    def address(self) -> str:
        """Where the ledger is, as messages name it. No secret is in it."""

    @property
    def in_transaction(self) -> bool: ...

    def now(self) -> datetime:
        """Return the time by the clock that all who share the ledger go by."""

    def execute(self, statement: str, values: Mapping[str, object], verb: str = "read") -> Sequence[Row]:
        """Execute a statement; return the rows that it gives. ``verb`` is for messages."""

    def change_mark(self) -> object | None:
        """Return what is another once anything in the database has changed, by whomever; None where nobody can tell.

        Asked before something is read, so that a change in between is seen the next time.
        """

    def begin(self) -> None:
        """Begin a transaction that writes. Nobody else writes until it has ended."""

    def begin_reading(self) -> None:
        """Begin a transaction whose reads all see the same state."""

    def commit(self) -> None:
        """Returning means written, for ever; what is raised means not written, unless it says that nobody knows."""

    def rollback(self) -> None: ...

    def without_rules(self) -> AbstractContextManager[None]:
        """Let rows be added as they are inside, which is inside a transaction: for a copy, which is verified after."""

    def find_damage(self) -> str | None:
        """Say what is wrong with the database's pages, or with the tables and rules of the schema."""

    def close(self) -> None: ...


class Session:
    """A ledger's connection that several threads can share: one at a time reads, or writes its whole transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.leases: dict[str, int] = {}  # which this process holds (SERVICE/ENV), and the number of each
        self.chains: set[str | None] = set()  # that the transaction that is open now has added events to
        self.chains_begin: tuple[int, str] | None = None  # the event that they begin with, and its hash, once known
        self._guard = threading.RLock()
        self._depth = 0
        self._time: datetime | None = None  # of the transaction that is open now, once somebody has asked

    def close(self) -> None:
        with self._guard:
            self.engine.close()

    def rows(self, query: str, **values: object) -> Sequence[Row]:
        """Return all rows that ``query`` finds."""
        with self._guard:
            return self.engine.execute(query, values)

    def change_mark(self) -> object | None:
        """Return what is another once anything has changed; None where nobody can tell, and inside a transaction: what
        is read there may never have been."""
        with self._guard:
            return None if self._depth else self.engine.change_mark()

    def row(self, query: str, **values: object) -> Row | None:
        """Return the only row that ``query`` finds, None when there is none."""
        found = self.rows(query, **values)
        return found[0] if found else None

    def write(self, statement: str, **values: object) -> int:
        """Execute a statement that changes something, inside a transaction; return what it gives back (RETURNING)."""
        with self._guard:
            self._require_transaction()
            found = self.engine.execute(statement, values, "write")
            return int(found[0][0]) if found else 0

    def time(self, clock: Callable[[], datetime]) -> datetime:
        """Return ``clock``'s time; inside a transaction the one that it gave first there: a row that is written, and
        the event that tells of it, have the same."""
        with self._guard:
            if not self._depth:
                return clock()
            self._time = self._time or clock()
            return self._time

    @contextlib.contextmanager
    def transaction(self) -> Iterator[bool]:
        """Commit what is written inside as one, or nothing of it when the block raises.

        Inside another transaction of the same thread this is a part of it that can fail alone. Gives whether it is
        the outermost, whose end is the commit. Other threads wait; other processes that write wait too.
        """
        with self._guard:
            part = f"part{self._depth}"
            self._depth += 1
            try:
                self._begin(part)
                yield self._depth == 1
                self._end(part)
            except BaseException:
                self._undo(part)
                raise
            finally:
                self._depth -= 1
                self._time = self._time if self._depth else None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Engine]:
        """Give the engine for reads that must all see the same state."""
        with self._guard:
            if self._depth:
                yield self.engine
                return
            self._depth += 1
            try:
                self.engine.begin_reading()
                yield self.engine
            finally:
                self._depth -= 1
                with contextlib.suppress(LedgerError):
                    self.engine.rollback()

    def _begin(self, part: str) -> None:
        if self._depth == 1:
            self.engine.begin()
        else:
            self._require_transaction()
            self.engine.execute(f"SAVEPOINT {part}", {}, "write")

    def _end(self, part: str) -> None:
        self._require_transaction()
        if self._depth == 1:
            self.engine.commit()
        else:
            self.engine.execute(f"RELEASE {part}", {}, "write")

    def _undo(self, part: str) -> None:
        with contextlib.suppress(LedgerError):  # it never began, or the database has undone everything itself
            if self._depth == 1:
                self.engine.rollback()
            elif self.engine.in_transaction:
                self.engine.execute(f"ROLLBACK TO {part}", {}, "write")
                self.engine.execute(f"RELEASE {part}", {}, "write")

    def _require_transaction(self) -> None:
        """A database gives up a whole transaction by itself on some errors (a full disk, a lost connection). Whoever
        caught such an error and went on would commit every further change alone, without its event; a savepoint, too,
        commits alone."""
        if not self.engine.in_transaction:
            raise LedgerError(f"cannot write '{self.engine.address}': its transaction has been given up")
