"""A ledger in one file, by SQLite: opened, made, written; every SQLite error becomes one of ours here.

LEDGER/                0700
├── instar.db          0600, an SQLite database
└── instar.db-journal  while something is written; after a crash the next reader undoes with it what was half written

Crash story: rollback journal and ``synchronous=EXTRA``, so a commit that has returned survives a power cut, and one
that has not is undone as a whole. A new ledger is made under another name and linked into place when it is complete;
an empty file is therefore never a new ledger, but a damaged one.

The file is only ever opened through SQLite: closing any other descriptor of it would drop this process's locks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from instar import durable
from instar.errors import ComponentMissing, LedgerDamaged, LedgerError
from instar.ledger import schema
from instar.ledger.session import Row
from instar.permissions import other_adder

BUSY_TIMEOUT_S = 10.0
APPLICATION_ID = 0x696E7374

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)


class SQLite:
    """One connection to a ledger's file. Source: session.Engine"""

    def __init__(self, path: Path, *, as_it_is: bool = False) -> None:
        """Open the ledger at ``path``, making it (and its directory) when there is none, and bring its schema up.

        ``as_it_is``: neither, to look at it only.

        Raises:
            LedgerNewer: a newer Instar wrote it.
            LedgerDamaged: it is no ledger, or its first pages can't be read. (Not everything is looked at here.)
            LedgerError: it can't be reached: permissions, a full disk, another process that keeps it locked.
        """
        self._path = path
        check_version()
        with self._wrapped("open"):
            _require_roots(path)
            if not path.exists() and not as_it_is:
                _make(path)
            if not path.is_file():
                raise _damaged(path, "open", "it is not a regular file")
            self.connection = _connect(path)
            try:
                self._check(as_it_is=as_it_is)
            except BaseException:
                self.connection.close()
                raise

    @property
    def name(self) -> schema.EngineName:
        return "sqlite"

    @property
    def address(self) -> str:
        return str(self._path)

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def now(self) -> datetime:
        return datetime.now(UTC)

    def execute(self, statement: str, values: Mapping[str, object], verb: str = "read") -> Sequence[Row]:
        with self._wrapped(verb):
            return self.connection.execute(statement, values).fetchall()

    def change_mark(self) -> object | None:
        """Others' commits change the one, own statements the other. Source: SQLite, PRAGMA data_version"""
        return (self.execute("PRAGMA data_version", {})[0][0], self.connection.total_changes)

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE", {}, "write")

    def begin_reading(self) -> None:
        self.execute("BEGIN", {})

    def commit(self) -> None:
        self.execute("COMMIT", {}, "write")

    def rollback(self) -> None:
        self.execute("ROLLBACK", {}, "write")

    @contextlib.contextmanager
    def without_rules(self) -> Iterator[None]:
        rules = self.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'", {})
        for rule in rules:
            self.execute(f"DROP TRIGGER {rule['name']}", {}, "write")
        yield
        for rule in rules:
            self.execute(rule["sql"], {}, "write")

    def copy_to(self, path: Path) -> None:
        """Copy the whole file, as it is at one moment, to ``path``, where nothing is. Source: SQLite, Online Backup"""
        with self._wrapped("copy"):
            path.touch(mode=0o600, exist_ok=False)
            with contextlib.closing(sqlite3.connect(path)) as copy:
                self.connection.backup(copy)

    def find_damage(self) -> str | None:
        with self._wrapped("verify"):
            return _broken_page(self.connection) or _changed_schema(self.connection)

    def close(self) -> None:
        self.connection.close()

    def version(self) -> int:
        return version(self.connection)

    def _check(self, *, as_it_is: bool) -> None:
        if not is_ledger(self.connection):
            raise _damaged(self._path, "open", "it is not an Instar ledger")
        found = version(self.connection)
        schema.require_known("sqlite", self.address, found)
        try:
            if not as_it_is:
                migrate(self.connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            cause = f"its schema is not number {found}, which it says that it is: {error}"
            raise _damaged(self._path, "open", cause) from error
        self.connection.execute("SELECT seq FROM events ORDER BY seq DESC LIMIT 1").fetchall()
        self.connection.execute("SELECT id FROM environments WHERE removed_at IS NULL LIMIT 1").fetchall()

    @contextlib.contextmanager
    def _wrapped(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a mistake in this room, not in the file
        except sqlite3.Error as error:
            raise _translate(error, verb, self._path) from error
        except UnicodeDecodeError as error:  # a name in its schema, or what SQLite says of one
            raise _damaged(self._path, verb, "what it holds is not text as it was written") from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise LedgerError(f"cannot {verb} '{self._path}': a value that it cannot hold: {error}") from error
        except OSError as error:
            hint = _hint(error, self._path.parent)
            raise LedgerError(f"cannot {verb} '{self._path}': {error.strerror}", hint=hint) from error


def _require_roots(path: Path) -> None:
    """Raise LedgerError to root where anybody else could have written the file, or what lies beside it: its journal
    names files that SQLite removes, and what it says is what root does."""
    if os.geteuid() != 0:
        return
    for what in (one for one in (path, path.parent) if one.is_file() or one.is_dir()):
        who = other_adder(what.stat())
        if who is not None:
            raise LedgerError(
                f"cannot open '{path}': {who} may write to '{what}', and root acts by what it says",
                hint="one that you trust goes, without what lies beside it, into a folder that is root's alone",
            )


def check_version() -> None:
    """Raise ComponentMissing when this Python's SQLite doesn't know what the schema uses."""
    if sqlite3.sqlite_version_info < (3, 38):
        raise ComponentMissing(
            f"cannot open the ledger: it needs SQLite 3.38 or newer, this Python has {sqlite3.sqlite_version}",
            hint="use the system's Python of Debian 12 or newer",
        )


def version(connection: sqlite3.Connection) -> int:
    """Return the schema's number; 0 in a database that has none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_behind(path: Path) -> bool:
    """Tell whether there is one of an older schema at ``path``, not opening it. Source: SQLite's fileformat2, 1.3"""
    try:
        with durable.reader(path) as file:
            header = file.read(64)
    except OSError:
        return False
    return len(header) == 64 and 0 < int.from_bytes(header[60:64], "big", signed=True) < schema.latest("sqlite")


def is_ledger(connection: sqlite3.Connection) -> bool:
    """Tell whether the database was made by :func:`migrate`."""
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID and version(connection) > 0)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing. Two processes can do it at once: the second finds nothing left to do."""
    connection.create_function("sha256", 1, lambda text: hashlib.sha256(text.encode()).hexdigest(), deterministic=True)
    while version(connection) < schema.latest("sqlite"):
        connection.execute("BEGIN IMMEDIATE")
        try:
            _apply_next(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            raise


def objects(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    """Return every table, index and trigger of the schema as (type, name, SQL)."""
    query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    return frozenset((row[0], row[1], row[2]) for row in connection.execute(query))


def expected_objects() -> frozenset[tuple[str, str, str]]:
    """Return what :func:`objects` gives for a new ledger."""
    return _new(schema.latest("sqlite"))[1]


@functools.cache
def _new(number: int) -> tuple[bytes, frozenset[tuple[str, str, str]]]:
    """Return a new ledger's file, of the schema of that number, and what its schema has.

    It is made in memory: on a disk each step of its schema would be waited for.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return connection.serialize(), objects(connection)


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
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.with_name(f"{path.name}-journal").exists():  # SQLite would play it back into the new file
        raise _damaged(path, "open", "the file is gone, its journal is still there")
    durable.write_once(path, _new(schema.latest("sqlite"))[0])
    durable.sync(path.parent.parent)


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


def _hint(error: OSError, folder: Path) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"make room on the file system of {folder}"
    return "run as root (sudo)" if isinstance(error, PermissionError) else None


def _apply_next(connection: sqlite3.Connection) -> None:
    missing = schema.after("sqlite", version(connection))
    if not missing:
        return
    for statement in _statements(missing[0].read_text("utf-8")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.number(missing[0])}")


def _statements(script: str) -> Iterator[str]:
    """Split at semicolons, but not at those in a trigger or a string. (``executescript`` would commit first.)"""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


def _broken_page(connection: sqlite3.Connection) -> str | None:
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        return f"its pages do not fit together: {found}"
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    return f"a row of {orphan[0]} points nowhere" if orphan else None


def _changed_schema(connection: sqlite3.Connection) -> str | None:
    changed = objects(connection) ^ expected_objects()
    return f"its schema was changed: {sorted(changed)[0][1]}" if changed else None
