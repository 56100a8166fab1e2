"""A ledger moved into another database, row by row as it is, with its chains.

The copy is one transaction of each. The new one's comes first: whoever is killed between them finds the same copy
there, and goes on. The old ledger's last event says where it goes on; from then on it is read, and no longer written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from instar.errors import Refused
from instar.ledger.events import MOVED, moved
from instar.ledger.ledger import Ledger
from instar.ledger.session import Row, Session
from instar.ledger.sqlite import SQLite
from instar.model.codec import parse
from instar.model.events import read
from instar.model.happenings import LedgerCopied, LedgerMoved, LedgerRestored

_TABLES = (
    *("environments", "settings", "releases", "rollouts", "instances", "provider_records", "tasks"),
    *("secret_keys", "signing_keys", "secrets", "events"),
)
_ORDER = {
    **{"environments": "id", "rollouts": "id", "instances": "serial", "provider_records": "instance"},
    **{"secret_keys": "one", "signing_keys": "one", "events": "seq"},
}
_LAST = "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1"
_LAST_KIND = "SELECT kind, detail FROM events ORDER BY seq DESC LIMIT 1"
_AT = "SELECT hash FROM events WHERE seq = :seq"
_PATIENT = "SET LOCAL idle_in_transaction_session_timeout = 0"  # it waits for the copy
_ACTIVE = "UPDATE environments SET active = :active WHERE id = :id"


def move(
    source: Ledger,
    target: Ledger,
    machines: Mapping[str, str | None],
    complete: Callable[[Ledger], None] = lambda target: None,
) -> int:
    """Copy all of ``source`` into ``target``, which has nothing yet, and close it; return how many events there were.

    ``machines`` says of a provider which machine its environments are on from now on, where they are on one;
    ``complete`` puts into the copy what the source had elsewhere. Asked again after it was killed, it does what is
    left to do.

    Raises Refused where the source was moved before, or the target has something else; LedgerDamaged where the source
    is not what was written, or the copy isn't.
    """
    with source.transaction():
        last, to = source.session.row(_LAST), moved_to(source)
        if to is not None:
            raise moved(source.address, to)
        if source.shared:
            source.session.write(_PATIENT)
        source.verify()
        with target.transaction():
            if not _is_copied(target.session, last):
                _copy(source.session, target.session)
                _settle(target, source.address, machines)
                complete(target)
        target.verify()
        source.record(LedgerMoved(to=target.address))
    return int(last["seq"]) if last else 0


def copy_to_file(source: Ledger, path: Path) -> None:
    """Copy all of ``source``, as it is at one moment, into a new ledger at ``path``. What is written meanwhile waits no
    longer than the copy of a file takes, or not at all. Raises LedgerError and its kinds."""
    engine = source.session.engine
    if isinstance(engine, SQLite):
        engine.copy_to(path)
        return
    with Ledger(path, actor=source.actor) as target, source.session.reading() as read:
        read.execute(_PATIENT, {})
        with target.transaction():
            _copy(source.session, target.session)


def fill(source: Ledger, target: Ledger, restored: LedgerRestored) -> None:
    """Copy all of ``source``, which stays as it is, into ``target``, and write there that it was. Raises Refused where
    the target has anything, LedgerDamaged where the copy is not what was written."""
    with source.session.reading(), target.transaction():
        if target.session.row(_LAST) is not None:
            raise Refused(f"cannot fill '{target.address}': somebody has written to it meanwhile", hint="ask again")
        _copy(source.session, target.session)
        target.record(restored)
    target.verify()


def moved_to(ledger: Ledger) -> str | None:
    """Return where a ledger goes on that was moved; None of one that was not."""
    row = ledger.session.row(_LAST_KIND)
    if row is None or row["kind"] != MOVED:
        return None
    with contextlib.suppress(ValueError):  # what nobody can read says of no other ledger
        what = read(row["kind"], parse(row["detail"]))
        return what.to if isinstance(what, LedgerMoved) else None
    return None


def _is_copied(target: Session, last: Row | None) -> bool:
    """Tell whether the target has the very events already. Raises Refused where it has others."""
    if target.row(_LAST) is None:
        return False
    same = target.row(_AT, seq=last["seq"]) if last is not None else None
    if same is not None and last is not None and same["hash"] == last["hash"]:
        return True
    raise Refused(
        f"cannot copy into '{target.engine.address}': there is a ledger with events of its own",
        hint="a ledger is moved into one that has nothing yet",
    )


def _copy(source: Session, target: Session) -> None:
    with target.engine.without_rules():
        for table in _TABLES:
            for row in _rows(source, table):
                values = {name: row[name] for name in row.keys()}  # noqa: SIM118  of a row
                if table == "environments":
                    values["active"] = None  # until its releases are there
                names = ", ".join(values)
                places = ", ".join(f":{name}" for name in values)
                target.write(f"INSERT INTO {table} ({names}) VALUES ({places})", **values)  # noqa: S608
        for row in _rows(source, "environments"):
            target.write(_ACTIVE, id=row["id"], active=row["active"])


def _rows(source: Session, table: str) -> list[Row]:
    order = _ORDER.get(table, "environment")
    return list(source.rows(f"SELECT * FROM {table} ORDER BY {order}"))  # noqa: S608


def _settle(target: Ledger, address: str, machines: Mapping[str, str | None]) -> None:
    target.record(LedgerCopied(source=address))
    for state in target.environments():
        machine = machines.get(state.settings.provider)
        if target.shared and machine is not None and state.machine is None:
            target.set_machine(state.id, machine)
