"""What the tables say of an environment, as one value: a checkpoint keeps it, and replayed events are held against it.

Settings stand there by their digest. What only names and numbers rows is left out.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from instar.ledger.rows import maintenance_value
from instar.ledger.session import Engine
from instar.model.codec import canonical, from_json, parse, to_json
from instar.model.environment import Settings
from instar.model.release import Maintenance, Stage

Rows = dict[str, dict[str, Any]]  # of a table: a row's key → its columns
Tables = dict[str, Rows]

_TABLES: Final = {
    "environments": ("id", "id = :environment"),
    "settings": ("version", "environment = :environment"),
    "releases": ("number", "environment = :environment"),
    "rollouts": ("id", "environment = :environment"),
    "instances": ("id", "environment = :environment"),
    "tasks": ("instance", "environment = :environment"),
}
_STILL_OPEN: Final = {
    "settings": "version = (SELECT max(version) FROM settings WHERE environment = :environment)",
    "rollouts": "state = 'running'",
    "instances": "removed_at IS NULL",
    "tasks": "outcome IS NULL",
}
_LEFT_OUT: Final = {"environment", "stem", "k", "serial", "service", "configuration", "provable_from"}
_BY_DIGEST: Final = {"value"}
_JSON: Final = {"taint", "tainted_members", "ending", "detail", "names", "origin", "command"}


def read_tables(engine: Engine, row_id: int, *, open_only: bool = False) -> Tables:
    """Return what the tables say of the environment whose row has that id; ``open_only``: without what has ended."""
    found: Tables = {}
    for table, (key, where) in _TABLES.items():
        more = f" AND {_STILL_OPEN[table]}" if open_only and table in _STILL_OPEN else ""
        query = f"SELECT * FROM {table} WHERE {where}{more}"  # noqa: S608  all of it stands above
        rows = engine.execute(query, {"environment": row_id})
        found[table] = {_key(table, row[key]): columns(row) for row in rows}
    return found


def _key(table: str, value: object) -> str:
    return "" if table == "environments" else str(value)


def columns(row: Any) -> dict[str, Any]:
    """Return a row's columns as they are compared."""
    return {name: _value(name, row[name]) for name in row.keys() if name not in _LEFT_OUT}  # noqa: SIM118  of a row


def _value(name: str, value: Any) -> Any:
    if name == "maintenance":
        return maintenance_columns(maintenance_value(value))
    if value is None:
        return None
    if name in _BY_DIGEST:
        return text_digest(value)
    if name == "stage":
        return stage_columns(from_json(Stage, parse(value)))
    return parse(value) if name in _JSON else value


def stage_columns(stage: Stage) -> dict[str, Any]:
    """Return where a rollout is as it is compared."""
    return {**to_json(stage), "settings_before": settings_digest(stage.settings_before)}


def maintenance_columns(said: Maintenance) -> dict[str, Any]:
    """Return whether an environment is in maintenance as it is compared."""
    return {"on": said.on, "page": said.page_word, "since": to_json(said.since)}


def settings_digest(settings: Settings | None) -> str | None:
    return None if settings is None else text_digest(canonical(settings).decode())


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
