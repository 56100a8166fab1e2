"""Is the ledger what was written? Every page, every event of the chain, and what events say of releases and traffic."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instar.errors import LedgerDamaged
from instar.ledger import chain, schema
from instar.model.codec import parse
from instar.model.digest import Digest

_EVENTS = "SELECT seq, at, actor, kind, place, release, image, detail, hash FROM events ORDER BY seq"
_RELEASES = """
    SELECT e.service || '/' || e.environment AS place, r.number, r.image, r.configuration, r.configuration_digest
      FROM releases r JOIN environments e ON e.id = r.environment ORDER BY r.environment, r.number"""
_ACTIVE = """
    SELECT service || '/' || environment AS place, active FROM environments
     WHERE removed_at IS NULL ORDER BY service, environment"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """How many events there are, and the hash of the last (64 zeros when there is none)."""

    events: int
    head: str


def verify(connection: sqlite3.Connection, path: Path) -> Verified:
    """Check everything. Raises LedgerDamaged, naming the first event that is not what was written.

    A cut-off end of the chain shows only when the result is compared with a head that was kept elsewhere.
    """
    for cause in (_broken_page, _changed_schema):
        found = cause(connection)
        if found:
            raise _damaged(path, found)
    claims = _Claims()
    try:
        verified = _follow(connection, path, claims)
        for found in (*claims.changed_releases(connection), *claims.changed_traffic(connection)):
            raise _damaged(path, found)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a value of another kind than was written
        raise _damaged(path, f"what it holds is not of the form that was written: {error}") from error
    return verified


class _Claims:
    """What the events say of the tables beside them."""

    def __init__(self) -> None:
        self._releases: dict[tuple[str, int], tuple[int, str, str]] = {}  # seq, image, configuration's digest
        self._active: dict[str, tuple[int, int | None]] = {}  # seq, release

    def take(self, event: sqlite3.Row) -> None:
        seq, environment, release = event["seq"], event["place"], event["release"]
        if event["kind"] == "release":
            self._releases[environment, release] = (seq, event["image"], parse(event["detail"]).get("configuration"))
        elif event["kind"] in ("environment", "shift"):
            self._active[environment] = (seq, release)

    def changed_releases(self, connection: sqlite3.Connection) -> Iterator[str]:
        for row in connection.execute(_RELEASES):
            name = f"release {row['number']} of {row['place']}"
            seq, *then = self._releases.get((row["place"], row["number"]), (0, None, None))
            if not seq:
                yield f"no event tells of {name}"
            digest = Digest.of(row["configuration"].encode())
            if [row["image"], row["configuration_digest"], digest] != [*then, row["configuration_digest"]]:
                yield f"{name} is not what event {seq} says"

    def changed_traffic(self, connection: sqlite3.Connection) -> Iterator[str]:
        for row in connection.execute(_ACTIVE):
            seq, release = self._active.get(row["place"], (0, None))
            if row["active"] != release:
                yield f"the active release of {row['place']} is {row['active']}, event {seq} says {release}"


def _broken_page(connection: sqlite3.Connection) -> str | None:
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        return f"its pages do not fit together: {found}"
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    return f"a row of {orphan[0]} points nowhere" if orphan else None


def _changed_schema(connection: sqlite3.Connection) -> str | None:
    changed = schema.objects(connection) ^ schema.expected_objects()
    return f"its schema was changed: {sorted(changed)[0][1]}" if changed else None


def _follow(connection: sqlite3.Connection, path: Path, claims: _Claims) -> Verified:
    seq, head = 0, chain.START
    for event in connection.execute(_EVENTS):
        seq += 1
        head = chain.link(head, *tuple(event)[:-1])
        if event["seq"] != seq or head != event["hash"]:
            raise _damaged(path, f"event {seq} is not what was written")
        claims.take(event)
    return Verified(events=seq, head=head)


def _damaged(path: Path, cause: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"cannot verify '{path}': {cause}",
        hint="what runs goes on; compare with a copy, and with the heads in the system log: docs/ledger.md",
    )
