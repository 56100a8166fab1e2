"""Boots: which of those that say that they are one machine may act in a shared ledger.

A copy of a machine (a virtual one that was cloned, a disk that was put back beside the original) has its name, its
state directory and its id; what it has not is its boot. The boot that acted last is the machine. Another is taken for a
reboot once the one before has not acted for as long as one that lives does not rest, and is the machine from then on:
a boot that has ended never acts again. One that does, although another came after it, is a second machine.
All times are the database's.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from instar.errors import MachineDoubled, Refused
from instar.ledger.session import Row, Session

if TYPE_CHECKING:
    from instar.ledger.leases import SharedEngine

RESTS_AT_MOST_S = 12.0  # who holds a lease, or runs an agent that looks every five seconds, is heard of by then
_KEY = 0x626F6F74  # of the advisory locks that boots hold, each machine's beside those of others
_ALONE = f"SELECT pg_advisory_xact_lock({_KEY}, hashtext(:machine))"
_NEWEST_AND_OWN = """
    SELECT boot, number, last_at, extract(epoch FROM clock_timestamp() - last_at)::float8 AS rested_s
      FROM boots
     WHERE machine = :machine AND (boot = :boot OR number = (SELECT max(number) FROM boots WHERE machine = :machine))
     ORDER BY number DESC"""
_ACT = """
    INSERT INTO boots (machine, boot, number) VALUES (:machine, :boot, :number)
    ON CONFLICT (machine, boot) DO UPDATE SET number = excluded.number, last_at = clock_timestamp()"""
SILENT_FOR_S = 600.0  # before a machine may be taken for lost
_HEARD = """
    SELECT max(last_at) AS at, extract(epoch FROM clock_timestamp() - max(last_at))::float8 AS rested_s
      FROM boots WHERE machine = :machine"""
ACT_ON = "UPDATE boots SET last_at = clock_timestamp() WHERE machine = :machine AND boot = :boot"


class Boots:
    """What one process knows of the boots of its machine."""

    def __init__(self) -> None:
        self._doubted: tuple[str, datetime] | None = None  # the boot before, and when it had acted last
        self._doubted_at = 0.0  # by this machine's own clock: the database's may be set back

    def act_as(self, engine: SharedEngine, machine: str, boot: str, *, take_over: bool) -> float:
        """Write down that ``boot`` of ``machine`` acts, inside a transaction of ``engine``; return 0.

        Returns for how many seconds to wait, and ask again, where the boot before has acted only just now: it may
        still be there. ``take_over``: nobody is waited for, nor refused. Raises MachineDoubled where it is there.
        """
        engine.execute(_ALONE, {"machine": machine}, "write")
        known = engine.execute(_NEWEST_AND_OWN, {"machine": machine, "boot": boot})
        newest = known[0] if known else None
        number = newest["number"] if newest is not None else 1
        if newest is not None and newest["boot"] != boot:
            number += 1
            if not take_over:
                if any(row["boot"] == boot for row in known) or self._has_acted(newest["boot"], newest["last_at"]):
                    raise _doubled(machine, boot, newest["boot"], newest["last_at"])
                wait_s = self._wait_s(newest)
                if wait_s > 0:
                    return wait_s
        engine.execute(_ACT, {"machine": machine, "boot": boot, "number": number}, "write")
        self._doubted = None
        return 0.0

    def _wait_s(self, newest: Row) -> float:
        if self._doubted is None:
            self._doubted, self._doubted_at = (newest["boot"], newest["last_at"]), time.monotonic()
        waited_s = time.monotonic() - self._doubted_at
        return RESTS_AT_MOST_S - max(float(newest["rested_s"]), waited_s)

    def _has_acted(self, boot: str, at: datetime) -> bool:
        """Tell whether the boot before has acted since it was first seen here."""
        return self._doubted is not None and self._doubted != (boot, at)


def require_silent(session: Session, machine: str) -> datetime | None:
    """Return when ``machine`` acted last, None where it never did. Raises Refused where it has lately."""
    at, rested_s = heard(session, machine)
    if at is not None and rested_s < SILENT_FOR_S:
        raise Refused(
            f"cannot give up what is on {machine}: it acted last {max(rested_s, 0):.0f} s ago",
            hint=f"one that is gone for good has not for {SILENT_FOR_S / 60:g} minutes; while it lives, ask there",
        )
    return at


def heard(session: Session, machine: str) -> tuple[datetime | None, float]:
    """Return when ``machine`` acted last, and how many seconds ago; None where it never did."""
    found = session.rows(_HEARD, machine=machine)[0]
    at: datetime | None = found["at"]
    return at, 0.0 if at is None else float(found["rested_s"])


def _doubled(machine: str, boot: str, other: str, at: datetime) -> MachineDoubled:
    return MachineDoubled(
        f"cannot act as {machine}: two machines say that they are it. This one is boot {boot[:8]}; boot {other[:8]} "
        f"acted last, at {at:%Y-%m-%d %H:%M:%S} UTC",
        hint="nothing was changed. One is a copy of the other (a clone, a disk put back): see which is which by "
        "/proc/sys/kernel/random/boot_id, and end the copy, or give it an id of its own (docs/ledger.md, Copies of a "
        "machine). If the other is gone, say so once here: add --take-over",
    )
