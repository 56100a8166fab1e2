"""Is the ledger what was written? Every page, every event of the chain, and what events say of releases and traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instar.errors import LedgerDamaged
from instar.ledger import chain
from instar.ledger.session import Engine, Row
from instar.model.codec import parse
from instar.model.digest import Digest

_EVENTS = """
    SELECT seq, at, actor, kind, place, release, image, detail, hash FROM events
     WHERE seq > :seq ORDER BY seq LIMIT 1000"""
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


def verify(engine: Engine) -> Verified:
    """Check everything. Raises LedgerDamaged, naming the first event that is not what was written.

    A cut-off end of the chain shows only when the result is compared with a head that was kept elsewhere.
    """
    found = engine.find_damage()
    if found:
        raise _damaged(engine.address, found)
    claims = _Claims()
    try:
        verified = _follow(engine, claims)
        for found in (*claims.changed_releases(engine), *claims.changed_traffic(engine)):
            raise _damaged(engine.address, found)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a value of another kind than was written
        raise _damaged(engine.address, f"what it holds is not of the form that was written: {error}") from error
    return verified


class _Claims:
    """What the events say of the tables beside them."""

    def __init__(self) -> None:
        self._releases: dict[tuple[str, int], tuple[int, str, str]] = {}  # seq, image, configuration's digest
        self._active: dict[str, tuple[int, int | None]] = {}  # seq, release

    def take(self, event: Row) -> None:
        seq, environment, release = event["seq"], event["place"], event["release"]
        if event["kind"] == "release":
            self._releases[environment, release] = (seq, event["image"], parse(event["detail"]).get("configuration"))
        elif event["kind"] in ("environment", "shift"):
            self._active[environment] = (seq, release)

    def changed_releases(self, engine: Engine) -> Iterator[str]:
        for row in engine.execute(_RELEASES, {}):
            name = f"release {row['number']} of {row['place']}"
            seq, *then = self._releases.get((row["place"], row["number"]), (0, None, None))
            if not seq:
                yield f"no event tells of {name}"
            digest = Digest.of(row["configuration"].encode())
            if [row["image"], row["configuration_digest"], digest] != [*then, row["configuration_digest"]]:
                yield f"{name} is not what event {seq} says"

    def changed_traffic(self, engine: Engine) -> Iterator[str]:
        for row in engine.execute(_ACTIVE, {}):
            seq, release = self._active.get(row["place"], (0, None))
            if row["active"] != release:
                yield f"the active release of {row['place']} is {row['active']}, event {seq} says {release}"


def _follow(engine: Engine, claims: _Claims) -> Verified:
    seq, head = 0, chain.START
    while events := engine.execute(_EVENTS, {"seq": seq}):
        for event in events:
            seq += 1
            head = chain.link(head, *tuple(event)[:-1])
            if event["seq"] != seq or head != event["hash"]:
                raise _damaged(engine.address, f"event {seq} is not what was written")
            claims.take(event)
    return Verified(events=seq, head=head)


def _damaged(address: str, cause: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"cannot verify '{address}': {cause}",
        hint="what runs goes on; compare with a copy, and with the heads in the system log: docs/ledger.md",
    )
