"""A ledger's file, changed as whoever may write it can: with its rules taken away and put back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instar.ledger import chain

Written = tuple[str, dict[str, Any]]  # an event's kind and detail


def tamper(path: Path, statement: str, *values: object) -> None:
    with _without_rules(path) as connection:
        assert connection.execute(statement, values).rowcount > 0, statement


def rewrite_last(path: Path, change: Callable[[str, dict[str, Any]], Written]) -> None:
    """Write the last event otherwise, and chain it to the one before, so that no chain tells."""
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        last = connection.execute("SELECT * FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        before = connection.execute(
            "SELECT hash FROM events WHERE place IS ? AND seq < ? ORDER BY seq DESC LIMIT 1",
            (last["place"], last["seq"]),
        ).fetchone()
    kind, detail = change(last["kind"], json.loads(last["detail"]))
    row = {**dict(last), "kind": kind, "detail": chain.detail_text(detail)}
    del row["hash"]
    row["hash"] = chain.link(before["hash"] if before else chain.START, *row.values())
    statement = "UPDATE events SET kind = ?, detail = ?, hash = ? WHERE seq = ?"
    tamper(path, statement, row["kind"], row["detail"], row["hash"], row["seq"])


@contextmanager
def _without_rules(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        rules = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in rules:
            connection.execute(sql)
    finally:
        connection.close()
