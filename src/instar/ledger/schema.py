"""The numbered SQL files of ``migrations/``, and bringing a database up to the last of them.

A ledger's ``user_version`` is the number of the last migration that it has had, its ``application_id`` says that it
is a ledger. A migration and its number are one transaction: a process that is killed in it has changed nothing.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from instar.errors import ComponentMissing

APPLICATION_ID = 0x696E7374
_FOLDER = Path(__file__).parent / "migrations"


@functools.cache
def files() -> tuple[Path, ...]:
    """Return the migrations in their order; number N is the N-th."""
    return tuple(sorted(_FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql")))


def check_sqlite() -> None:
    """Raise ComponentMissing when this Python's SQLite doesn't know what the schema uses."""
    if sqlite3.sqlite_version_info < (3, 38):
        raise ComponentMissing(
            f"cannot open the ledger: it needs SQLite 3.38 or newer, this Python has {sqlite3.sqlite_version}",
            hint="use the system's Python of Debian 12 or newer",
        )


def latest() -> int:
    """Return the number of the newest schema that this Instar knows."""
    return len(files())


def version(connection: sqlite3.Connection) -> int:
    """Return the schema's number; 0 in a database that has none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_behind(path: Path) -> bool:
    """Tell whether there is one of an older schema at ``path``, not opening it. Source: SQLite's fileformat2, 1.3"""
    try:
        with path.open("rb") as file:
            header = file.read(64)
    except OSError:
        return False
    return len(header) == 64 and 0 < int.from_bytes(header[60:64], "big", signed=True) < latest()


def is_ledger(connection: sqlite3.Connection) -> bool:
    """Tell whether the database was made by :func:`migrate`."""
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID and version(connection) > 0)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing. Two processes can do it at once: the second finds nothing left to do."""
    while version(connection) < latest():
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
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        return objects(connection)
    finally:
        connection.close()


def _apply_next(connection: sqlite3.Connection) -> None:
    done = version(connection)
    if done >= latest():
        return
    for statement in _statements(files()[done].read_text("utf-8")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {done + 1}")


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
