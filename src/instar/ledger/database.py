"""The ledger's one file: opened, made, written in transactions; every SQLite error becomes one of ours here.

LEDGER/                0700
├── instar.db          0600, an SQLite database
└── instar.db-journal  while something is written; after a crash the next reader undoes with it what was half written

Crash report: rollback journal and ``synchronous=EXTRA``, so a commit that has returned survives a power cut, and one
that has not is undone as a whole. A new ledger is made under another name and linked into place when it is complete;
an empty file is therefore never a new ledger, but a damaged one.

The file is only ever opened through SQLite: closing any other descriptor of it would drop this process's locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from instar.errors import LedgerDamaged, LedgerError, LedgerNewer
from instar.ledger import schema

BUSY_TIMEOUT_S = 10.0

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)


class Database:
    """A connection that several threads can share: one at a time reads, or writes its whole transaction."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, making it (and its directory) when there is none, and bring its schema up.

        Raises:
            LedgerNewer: a newer Instar wrote it.
            LedgerDamaged: it is no ledger, or its first pages can't be read. (Not everything is looked at here.)
            LedgerError: it can't be reached: permissions, a full disk, another process that keeps it locked.
        """
        self.path = path
        self._guard = threading.RLock()
        self._depth = 0
        schema.check_sqlite()
        with self._wrapped("open"):
            if not path.exists():
                _make(path)
            self._connection = _connect(path)
            try:
                self._check()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        with self._guard:
            self._connection.close()

    def rows(self, query: str, **values: object) -> list[sqlite3.Row]:
        """Return all rows that ``query`` finds."""
        with self._guard, self._wrapped("read"):
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, **values: object) -> sqlite3.Row | None:
        """Return the only row that ``query`` finds, None when there is none."""
        found = self.rows(query, **values)
        return found[0] if found else None

    def write(self, statement: str, **values: object) -> int:
        """Execute a statement that changes something, inside a transaction; return the row id of an insertion."""
        with self._guard, self._wrapped("write"):
            self._must_be_writing()
            return self._connection.execute(statement, values).lastrowid or 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[bool]:
        """Commit what is written inside as one, or nothing of it when the block raises.

        Inside another transaction of the same thread this is a part of it that can fail alone. Gives whether it is
        the outermost, whose end is the commit. Other threads wait; other processes that write wait too.
        """
        with self._guard:
            begin, commit, undo = _words(self._depth)
            self._depth += 1
            try:
                with self._wrapped("write"):
                    if self._depth > 1:
                        self._must_be_writing()
                    self._connection.execute(begin)
                yield self._depth == 1
                with self._wrapped("write"):
                    self._must_be_writing()
                    self._connection.execute(commit)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reads that must all see the same state."""
        with self._guard, self._wrapped("read"):
            if self._depth:
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN")
                yield self._connection
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def _undo(self, words: tuple[str, ...]) -> None:
        with contextlib.suppress(sqlite3.Error):  # it never began, or a full disk has undone everything
            for word in words:
                self._connection.execute(word)

    def _must_be_writing(self) -> None:
        """SQLite gives up a whole transaction by itself on some errors (a full disk). Whoever caught such an error
        and went on would commit every further change alone, without its event; a savepoint, too, commits alone."""
        if not self._connection.in_transaction:
            raise LedgerError(f"cannot write '{self.path}': its transaction has been given up")

    def _check(self) -> None:
        if not schema.is_ledger(self._connection):
            raise _damaged(self.path, "open", "it is not an Instar ledger")
        found = schema.version(self._connection)
        if found > schema.latest():
            raise LedgerNewer(
                f"cannot open '{self.path}': a newer Instar wrote it "
                f"(schema {found}, this one knows {schema.latest()})",
                hint="use that Instar, or a newer one; nothing was changed",
            )
        schema.migrate(self._connection)
        self._connection.execute("SELECT seq FROM events ORDER BY seq DESC LIMIT 1").fetchall()
        self._connection.execute("SELECT id FROM environments WHERE removed_at IS NULL LIMIT 1").fetchall()

    @contextlib.contextmanager
    def _wrapped(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a mistake in this room, not in the file
        except sqlite3.Error as error:
            raise _translate(error, verb, self.path) from error
        except UnicodeDecodeError as error:  # a name in its schema, or what SQLite says of one
            raise _damaged(self.path, verb, "what it holds is not text as it was written") from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise LedgerError(f"cannot {verb} '{self.path}': a value that it cannot hold: {error}") from error
        except OSError as error:
            raise LedgerError(f"cannot {verb} '{self.path}': {error.strerror}", hint=_hint(error)) from error


def _words(depth: int) -> tuple[str, str, tuple[str, ...]]:
    """Return how SQLite begins, commits and undoes a transaction, or a part of one."""
    if depth == 0:
        return "BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",)
    part = f"part{depth}"
    return f"SAVEPOINT {part}", f"RELEASE {part}", (f"ROLLBACK TO {part}", f"RELEASE {part}")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.with_name(f"{path.name}-journal").exists():  # SQLite would play it back into the new file
        raise _damaged(path, "open", "the file is gone, its journal is still there")
    name = path.with_name(f".new-{os.getpid()}-{threading.get_ident()}")
    name.unlink(missing_ok=True)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection = _connect(name)
        try:
            schema.migrate(connection)
        finally:
            connection.close()
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(name, path)
    finally:
        name.unlink()
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translate(error: sqlite3.Error, verb: str, path: Path) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return _damaged(path, verb, str(error))
    cause, hint = {
        sqlite3.SQLITE_BUSY: (
            f"another process has kept it locked for {BUSY_TIMEOUT_S:g} s",
            f"see which one with: fuser {path}",
        ),
        sqlite3.SQLITE_FULL: (
            "the disk is full",
            f"make room on the file system of {path.parent}; this was not written down",
        ),
        sqlite3.SQLITE_READONLY: (
            "it can only be read",
            f"make {path.parent} writable for root: mount options, lsattr; this was not written down",
        ),
        sqlite3.SQLITE_CANTOPEN: (str(error), "run as root (sudo); if you are, look at its file system and mode"),
        sqlite3.SQLITE_IOERR: (f"input/output error ({error})", "look at the disk: dmesg; this was not written down"),
    }.get(primary, (str(error), None))
    return LedgerError(f"cannot {verb} '{path}': {cause}", hint=hint)


def _damaged(path: Path, verb: str, cause: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"cannot {verb} '{path}': {cause}",
        hint="what runs goes on without it; put a copy back in its place, "
        f"or save what can be read: sqlite3 {path} .recover",
    )


def _hint(error: OSError) -> str | None:
    return "run as root (sudo)" if isinstance(error, PermissionError) else None
