"""Is the ledger what was written? Every page, every event of the chain, and what events say of releases and traffic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import field

from instar.errors import LedgerDamaged, LedgerNewer
from instar.frozen import dataclass
from instar.ledger import chain
from instar.ledger.replay import Replayed
from instar.ledger.session import Engine, Row
from instar.model.codec import parse
from instar.model.digest import Digest
from instar.model.events import read
from instar.model.happenings import DamagedHappening, EnvironmentMade, ReleaseMade, UnknownHappening
from instar.model.rollout_happenings import TrafficShifted

_EVENTS = """
    SELECT seq, at, actor, kind, place, release, image, detail, hash FROM events
     WHERE seq > :seq ORDER BY seq LIMIT 1000"""
_RELEASES = """
    SELECT e.service || '/' || e.environment AS place, r.number, r.image, r.configuration, r.configuration_digest
      FROM releases r JOIN environments e ON e.id = r.environment ORDER BY r.environment, r.number"""
_CLOSED = "SELECT seq FROM events WHERE kind = 'chain-closed' ORDER BY seq LIMIT 1"
_ACTIVE = """
    SELECT service || '/' || environment AS place, active FROM environments
     WHERE removed_at IS NULL ORDER BY service, environment"""
_BEGINNINGS = """
    SELECT id, service || '/' || environment AS place, provable_from FROM environments
     WHERE provable_from IS NOT NULL"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """How many events there are, and the hash of the last (64 zeros when there is none).

    ``heads`` are those of all chains: by environment, "-" for what is about none. ``unprovable``: the environments
    that are older than their checkpoint, and the number of that event: what had ended before it does not follow from
    events. ``unproven_stages``: of how many rollouts of an environment, which an older Instar began, it does not follow
    where they were.
    """

    events: int
    head: str
    heads: Mapping[str, str] = field(default_factory=dict)
    unprovable: Mapping[str, int] = field(default_factory=dict)
    unproven_stages: Mapping[str, int] = field(default_factory=dict)


def verify(engine: Engine) -> Verified:
    """Check everything. Raises LedgerDamaged, naming the first event that is not what was written.

    A cut-off end of the chain shows only when the result is compared with a head that was kept elsewhere.
    """
    found = engine.find_damage()
    if found:
        raise _damaged(engine.address, found)
    closed = engine.execute(_CLOSED, {})
    closed_at = closed[0]["seq"] if closed else 0
    claims = _Claims(closed_at)
    try:
        verified = _follow(engine, claims, _Chains(closed_at))
        checks = (claims.changed_releases, claims.changed_traffic, claims.differences)
        for found in itertools.chain.from_iterable(check(engine) for check in checks):
            raise _damaged(engine.address, found)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a value of another kind than was written
        raise _damaged(engine.address, f"what it holds is not of the form that was written: {error}") from error
    return verified


class _Claims:
    """What the events say of the tables beside them."""

    def __init__(self, closed_at: int) -> None:
        self._releases: dict[tuple[str, int], tuple[int, str, str]] = {}  # seq, image, configuration's digest
        self._active: dict[str, tuple[int, int | None]] = {}  # seq, release
        self._replayed: dict[str, Replayed] = {}
        self._ended: list[Replayed] = []  # of environments that were made again
        self._closed_at = closed_at

    def take(self, event: Row) -> None:
        seq, environment, release = event["seq"], event["place"], event["release"]
        match read(event["kind"], parse(event["detail"])):
            case UnknownHappening():
                raise LedgerNewer(
                    f"cannot verify the ledger: event {seq} is of a kind that is not known here, '{event['kind']}'",
                    hint="a newer Instar wrote it: verify with that one; what was written before is not changed",
                )
            case DamagedHappening(cause=cause):
                raise ValueError(f"event {seq}: {cause}")
            case ReleaseMade(configuration=configuration):
                self._releases[environment, release] = (seq, event["image"], configuration)
            case EnvironmentMade() | TrafficShifted():
                self._active[environment] = (seq, release)
        if environment is not None and seq > self._closed_at:
            one = self._replayed.setdefault(environment, Replayed(environment))
            if event["kind"] == "environment" and one.tables is not None:
                self._ended.append(one)
                one = self._replayed[environment] = Replayed(environment)
            one.take(event)

    def older(self) -> dict[str, int]:
        """Return the environments that begin with a checkpoint, and its number."""
        return {place: one.seq for place, one in sorted(self._replayed.items()) if one.is_checkpoint}

    def unproven_stages(self) -> dict[str, int]:
        """Return of how many rollouts of each environment nothing tells where they were."""
        found = {place: one.unproven_stages() for place, one in sorted(self._replayed.items())}
        return {place: count for place, count in found.items() if count}

    def differences(self, engine: Engine) -> Iterator[str]:
        """Yield what is not as the replayed events say."""
        began = {(row["place"], row["provable_from"]): row["id"] for row in engine.execute(_BEGINNINGS, {})}
        told = {(one.place, one.seq): one for one in (*self._ended, *self._replayed.values()) if one.tables is not None}
        for place, seq in sorted(began.keys() - told.keys()):
            yield f"no event {seq} tells how {place} began"
        for (place, seq), one in sorted(told.items()):
            if (place, seq) in began:
                yield from one.differences(engine, began[place, seq])
            else:
                yield f"event {seq} tells of {place}, which is not there"

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


def _follow(engine: Engine, claims: _Claims, chains: _Chains) -> Verified:
    seq = 0
    while events := engine.execute(_EVENTS, {"seq": seq}):
        for event in events:
            seq += 1
            if event["seq"] != seq or chains.link(event) != event["hash"]:
                raise _damaged(engine.address, f"event {seq} is not what was written")
            claims.take(event)
    return Verified(
        events=seq,
        head=chains.last,
        heads=chains.heads,
        unprovable=claims.older(),
        unproven_stages=claims.unproven_stages(),
    )


class _Chains:
    """The heads of all chains, as far as events were followed. Up to the event that closed it there is one for all."""

    def __init__(self, closed_at: int) -> None:
        self.last = self._begin = chain.START
        self.heads: dict[str, str] = {}
        self._closed_at = closed_at

    def link(self, event: Row) -> str:
        one = event["seq"] <= self._closed_at
        place = event["place"] or "-"
        before = self.last if one else self.heads.get(place, self._begin)
        self.last = chain.link(before, *tuple(event)[:-1])
        if one:
            self._begin = self.last
        else:
            self.heads[place] = self.last
        return self.last


def _damaged(address: str, cause: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"cannot verify '{address}': {cause}",
        hint="what runs goes on; compare with a copy, and with the heads in the system log: docs/ledger.md",
    )
