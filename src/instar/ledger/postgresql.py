"""A ledger in a PostgreSQL database, for several machines and people; every error of it becomes one of ours here.

Everything of it is in the schema ``instar``. One transaction writes at a time (an advisory lock, as SQLite's file is
locked), so that events have one order. A connection that is lost outside a transaction is made again. One that is lost
inside has written nothing. One that is lost while it commits is asked for afterwards, by the transaction's number: what
was decided is neither lost nor done twice.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from instar.errors import LedgerDamaged, LedgerError, LedgerUnreachable
from instar.ledger import database_address, schema
from instar.ledger.session import Row

SCHEMA = "instar"
LOCK_TIMEOUT_S = 20
IDLE_AT_MOST_S = 15  # in a transaction: who was stopped there keeps everybody else
_KEY = 0x696E7374  # of the advisory lock that the one who writes holds
_TIMELINE = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"  # another one where a standby has become the server
_BEGIN_BESIDE = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_current_xact_id()::text || ' ' || {_TIMELINE}"
_BEGIN = f"{_BEGIN_BESIDE}, pg_advisory_xact_lock({_KEY}, 1)"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SESSION = f"""
    SET search_path = {SCHEMA}; SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET timezone = 'UTC';
    SET lock_timeout = '{LOCK_TIMEOUT_S}s'; SET standard_conforming_strings = on;
    SET idle_in_transaction_session_timeout = """
_VERSION = "SELECT to_regclass('instar.ledger') IS NOT NULL"
_COMMIT_KNOWN_WITHIN_S = 15.0
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_NOT_WRITTEN = "this was not written down"
_PUT_BACK = "what runs goes on without it; put a copy back in its place"
_AS_OWNER = (
    "the role that owns it makes it, and brings it up for each version of Instar: instar ledger upgrade, or instar "
    "ledger copy, with that role in the address (postgresql://instar_owner@…); a new database gets its roles by: "
    "instar ledger role | psql DATABASE"
)


class PostgreSQL:
    """One connection to a ledger's database. Source: session.Engine"""

    def __init__(self, address: str, *, as_it_is: bool = False) -> None:
        """Open the ledger at ``address`` (postgresql://…, as libpq reads it), and bring its schema up.

        ``as_it_is``: it has to be of this version already, to look at it only.

        Raises:
            UsageError: it is no address, or a password is in it.
            LedgerUnreachable: nobody answers there, or whoever asks is not let in.
            LedgerNewer: a newer Instar wrote it.
            LedgerError: the role may not do what has to be done.
        """
        self._conninfo = database_address.read(address)
        self._address = database_address.shown(self._conninfo)
        self._transaction: str | None = None  # the number of the one that is open, and the timeline that it is of
        self._connection = self._connect()
        try:
            self._check(as_it_is=as_it_is)
        except BaseException:
            self._connection.close()
            raise

    @property
    def name(self) -> schema.EngineName:
        return "postgresql"

    @property
    def address(self) -> str:
        return self._address

    @property
    def in_transaction(self) -> bool:
        return self._status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def now(self) -> datetime:
        at = self.execute("SELECT clock_timestamp()", {})[0][0]
        assert isinstance(at, datetime)
        return at

    def execute(self, statement: str, values: Mapping[str, object], verb: str = "read") -> Sequence[Row]:
        with self._wrapped(verb):
            return self._on_a_live_connection(lambda: self._rows(_translated(statement), values))

    def change_mark(self) -> object | None:
        return None

    def begin(self) -> None:
        with self._wrapped("write"):
            found = self._on_a_live_connection(lambda: self._last_rows(_BEGIN))
            self._transaction = found[0][0]

    def begin_beside(self) -> None:
        """Begin a transaction that writes beside others, and waits for none of them. Source: leases.SharedEngine"""
        with self._wrapped("write"):
            self._transaction = self._on_a_live_connection(lambda: self._last_rows(_BEGIN_BESIDE))[0][0]

    def begin_reading(self) -> None:
        self.execute(_BEGIN_READING, {})

    def commit(self) -> None:
        number, self._transaction = self._transaction, None
        if self._status is not TransactionStatus.INTRANS:  # a COMMIT of a failed one says nothing and writes nothing
            raise LedgerError(f"cannot write '{self.address}': its transaction has been given up")
        try:
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            if not self._is_lost or number is None:
                raise self._error(error, "write") from error
            if not self._was_committed(number, error):
                raise self._unreachable("write", error) from error

    def rollback(self) -> None:
        self._transaction = None
        if self.in_transaction:
            self.execute("ROLLBACK", {}, "write")

    @contextlib.contextmanager
    def without_rules(self) -> Iterator[None]:
        tables = [row[0] for row in self.execute(_OWN_TABLES, {})]
        for table in tables:
            self.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER", {}, "write")
        yield
        for table in tables:
            self.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER", {}, "write")

    def find_damage(self) -> str | None:
        expected = (schema.files("postgresql")[0].parent / "objects.txt").read_text("utf-8").splitlines()
        changed = sorted(set(self.objects()) ^ set(expected))
        return f"its schema was changed: {changed[0].split(' ', 2)[1]}" if changed else None

    def objects(self) -> tuple[str, ...]:
        """Return every column, rule, index, trigger and function of the schema, each as one line."""
        return tuple(row[0] for row in self.execute(_OBJECTS, {}))

    def close(self) -> None:
        self._connection.close()

    @property
    def _status(self) -> TransactionStatus:
        return self._connection.info.transaction_status

    @property
    def _is_lost(self) -> bool:
        return bool(self._connection.closed or self._status is TransactionStatus.UNKNOWN)

    def _connect(self) -> psycopg.Connection[Row]:
        try:
            connection = psycopg.connect(**self._conninfo, autocommit=True, row_factory=_row_factory)
            for kind in ("json", "jsonb"):
                connection.adapters.register_loader(kind, TextLoader)
            connection.execute(f"{_SESSION}'{IDLE_AT_MOST_S}s'".encode())
        except psycopg.Error as error:
            raise self._not_connected(error) from error
        return connection

    def _check(self, *, as_it_is: bool) -> None:
        found = self.version()
        schema.require_known("postgresql", self.address, found)
        for file in schema.after("postgresql", found):
            if as_it_is:
                raise LedgerError(self._behind(found), hint=_AS_OWNER)
            try:
                self._migrate(file.read_text("utf-8"), schema.number(file))
            except LedgerUnreachable:
                raise
            except LedgerError as error:
                cause = error.__cause__
                denied = isinstance(cause, psycopg.Error) and cause.sqlstate == "42501"
                why = f" ({database_address.first_line(cause)})" if isinstance(cause, psycopg.Error) else ""
                raise type(error)(self._behind(found) + why, hint=_AS_OWNER if denied else error.hint) from error

    def _behind(self, found: int) -> str:
        needed = schema.latest("postgresql")
        state = f"its schema is number {found}, this Instar needs {needed}" if found else "it has no schema yet"
        return f"cannot use '{self.address}': {state}"

    def version(self) -> int:
        if not self.execute(_VERSION, {})[0][0]:
            return 0
        found = self.execute("SELECT version FROM ledger", {})
        if not found or not isinstance(found[0][0], int):
            raise LedgerDamaged(f"cannot use '{self.address}': it does not say of which version it is", hint=_PUT_BACK)
        return found[0][0]

    def _migrate(self, script: str, number: int) -> None:
        """Apply one migration. Two processes can do it at once: the second finds nothing left to do."""
        self.begin()
        try:
            if self.version() < number:
                with self._wrapped("upgrade"):
                    self._make_schema()
                    self._connection.execute(script.encode())
                self.execute(_SET_VERSION, {"version": number}, "upgrade")
            self.commit()
        except BaseException:
            with contextlib.suppress(LedgerError):
                self.rollback()
            raise

    def _make_schema(self) -> None:
        """CREATE SCHEMA IF NOT EXISTS would need the right to make one, also where it is there."""
        if not self._connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [SCHEMA]).fetchall():
            self._connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())

    def _rows(self, statement: bytes, values: Mapping[str, object]) -> Sequence[Row]:
        cursor = self._connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else ()

    def _last_rows(self, statements: str) -> Sequence[Row]:
        cursor = self._connection.execute(statements.encode())
        while cursor.nextset():
            pass
        return cursor.fetchall()

    def _on_a_live_connection(self, act: Callable[[], Sequence[Row]]) -> Sequence[Row]:
        """Do ``act``; on a new connection once more, where the one there was is lost and no transaction with it."""
        inside = self._transaction is not None or self.in_transaction
        if not inside and self._connection.closed:
            self._connection = self._connect()
        try:
            return act()
        except psycopg.Error:
            if inside or not self._is_lost:
                raise
        self._connection = self._connect()
        return act()

    def _was_committed(self, number: str, error: psycopg.Error) -> bool:
        """Ask what came of a transaction whose end nobody has heard. Source: PostgreSQL, pg_xact_status()"""
        deadline, (transaction, timeline) = time.monotonic() + _COMMIT_KNOWN_WITHIN_S, number.split()
        why = "nobody answers there now"
        while time.monotonic() < deadline:
            with contextlib.suppress(LedgerError, psycopg.OperationalError):
                self._connection = self._connect()
                state, now_on = self._what_became_of(transaction)
                if timeline != now_on:  # there the number may be another transaction's
                    why = "another server has taken its place, which may not have it"
                    break
                if state != "in progress":
                    return state == "committed"
            time.sleep(0.1)
        raise LedgerUnreachable(
            f"cannot write '{self.address}': the connection was lost meanwhile, and {why}",
            hint="look whether it was when the database is there again: instar history; doing it again does it once",
        ) from error

    def _what_became_of(self, transaction: str) -> tuple[str | None, str]:
        """Return the state of a transaction, None where the server knows nothing of it, and the server's timeline."""
        timeline = self._connection.execute(f"SELECT {_TIMELINE}".encode()).fetchall()[0][0]
        try:
            found = self._connection.execute("SELECT pg_xact_status(%s::xid8)", [transaction]).fetchall()
        except psycopg.DataError:  # it is of the future
            return None, timeline
        return found[0][0], timeline

    @contextlib.contextmanager
    def _wrapped(self, verb: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._error(error, verb) from error
        except UnicodeEncodeError as error:
            raise LedgerError(f"cannot {verb} '{self.address}': a value that it cannot hold: {error}") from error
        except (UnicodeDecodeError, NotImplementedError) as error:
            raise LedgerDamaged(f"cannot {verb} '{self.address}': a value that is none: {error}") from error

    def _error(self, error: psycopg.Error, verb: str) -> LedgerError:
        if self._is_lost:
            return self._unreachable(verb, error)
        code, cause = error.sqlstate or "", error.diag.message_primary or str(error)
        for prefix, text, hint in _CAUSES:
            if code.startswith(prefix):
                kind = LedgerDamaged if prefix in _DAMAGE else LedgerError
                return kind(f"cannot {verb} '{self.address}': {text or cause}", hint=hint)
        return LedgerError(f"cannot {verb} '{self.address}': {cause}")

    def _unreachable(self, verb: str, error: psycopg.Error) -> LedgerUnreachable:
        left = _NOT_WRITTEN if verb != "read" else "nothing was changed"
        return LedgerUnreachable(
            f"cannot {verb} '{self.address}': the connection was lost ({database_address.first_line(error)})",
            hint=f"{left}; do it again when the database answers: what runs goes on meanwhile",
        )

    def _not_connected(self, error: psycopg.Error) -> LedgerUnreachable:
        cause, hint = database_address.first_line(error), database_address.what_to_do(error)
        return LedgerUnreachable(f"cannot open '{self.address}': {cause}", hint=hint)


_DAMAGE = ("42P01", "42703", "XX")
_CAUSES = (
    ("42501", None, "give its role what it needs: instar ledger role; and as its owner: instar ledger upgrade"),
    ("55000", "it can only be read (a standby)", _NOT_WRITTEN),
    ("25006", "it can only be read (a standby, or default_transaction_read_only)", _NOT_WRITTEN),
    ("53100", "the database's disk is full", f"make room there; {_NOT_WRITTEN}"),
    ("53", None, _NOT_WRITTEN),
    ("55P03", f"another process has kept it locked for {LOCK_TIMEOUT_S} s", "see which one in pg_stat_activity"),
    ("42P01", None, _PUT_BACK),
    ("42703", None, _PUT_BACK),
    ("XX", None, _PUT_BACK),
)
_OWN_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'instar' ORDER BY tablename"
_SET_VERSION = """
    INSERT INTO ledger (one, version) VALUES (1, :version) ON CONFLICT (one) DO UPDATE SET version = excluded.version"""
_OBJECTS = r"""
    SELECT format('column %s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = 'instar'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('rule %s.%s %s %s', c.relname, o.conname, o.contype, o.convalidated)
      FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
     WHERE o.connamespace = 'instar'::regnamespace AND o.contype IN ('p', 'u', 'f', 'c')
    UNION ALL
    SELECT format('index %s unique=%s valid=%s', c.relname, i.indisunique, i.indisvalid)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'instar'::regnamespace
    UNION ALL
    SELECT format('trigger %s.%s %s %s %s', c.relname, t.tgname, t.tgtype, t.tgenabled, p.proname)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE c.relnamespace = 'instar'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT format('function %s %s', p.proname, encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))
      FROM pg_proc p WHERE p.pronamespace = 'instar'::regnamespace
    ORDER BY 1"""


class _PgRow(tuple[Any, ...]):
    """A row that is read by a column's name or its place, as SQLite's are."""

    __slots__ = ()
    columns: Mapping[str, int] = {}

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.columns[key] if isinstance(key, str) else key)

    def keys(self) -> Sequence[str]:
        return tuple(self.columns)


@functools.lru_cache(maxsize=256)
def _row_class(names: tuple[str, ...]) -> type[_PgRow]:
    return type("Row", (_PgRow,), {"columns": {name: number for number, name in enumerate(names)}, "__slots__": ()})


def _row_factory(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Row]:
    return _row_class(tuple(column.name for column in cursor.description or ()))


@functools.cache
def _translated(statement: str) -> bytes:
    """Return a statement with parameters as psycopg has them."""
    if not _PARAMETER.search(statement):
        return statement.encode()
    return _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%")).encode()
