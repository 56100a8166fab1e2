"""Leases: the right to act on an environment of a shared ledger, with an end and a number that only grows.

A holder renews its lease every ten seconds; one that was stopped, cut off or killed loses it after thirty. The lease
is asked for before every call of a provider, and every write about an environment that this process holds is made with
its number: one with an older number is refused. Where a ledger is one machine's own, a lock of the machine is the
lease, and nothing here is used.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from instar.errors import EnvironmentBusy, InstarError, LeaseLost, LedgerDamaged
from instar.ledger.boots import ACT_ON, Boots
from instar.ledger.session import Engine, Row, Session
from instar.model.lease import HeldLease
from instar.model.release import EnvironmentId

LASTS_S = 30.0
RENEWED_IN_IT = 3  # so often
AGAIN_S = 1.0  # where that could not be said: a ledger that comes back in time finds its holder
AGENTS = "*/agents"  # the lease of the one that leads: no environment is called so
_ADD = "INSERT INTO leases (place, number) VALUES (:place, 0) ON CONFLICT DO NOTHING"
# A transaction that writes with the number keeps the row from this, and from no renewal.
_LOCK = """
    SELECT number, machine, holder, since, ends_at, ends_at > clock_timestamp() AS held
      FROM leases WHERE place = :place FOR UPDATE"""
_TAKE = """
    UPDATE leases SET number = number + 1, machine = :machine, holder = :holder, since = clock_timestamp(),
                      ends_at = clock_timestamp() + make_interval(secs => :lasts)
     WHERE place = :place RETURNING number"""
_RENEW = """
    UPDATE leases SET ends_at = clock_timestamp() + make_interval(secs => :lasts)
     WHERE place = :place AND number = :number AND ends_at > clock_timestamp() RETURNING number"""
_GIVE_BACK = """
    UPDATE leases SET machine = NULL, holder = NULL, since = NULL, ends_at = NULL
     WHERE place = :place AND number = :number RETURNING number"""
_HOLDS = "SELECT number FROM leases WHERE place = :place AND number = :number AND ends_at > clock_timestamp()"
_HOLDS_AND_WRITES = f"{_HOLDS} FOR KEY SHARE"
_HOLDER = "SELECT holder, since, machine FROM leases WHERE place = :place AND ends_at > clock_timestamp()"


class SharedEngine(Engine, Protocol):
    """An engine of a ledger that several machines share."""

    def begin_beside(self) -> None:
        """Begin a transaction that writes beside others, and waits for none of them."""


class Leases:
    """The leases of this process in a shared ledger, kept over a connection of their own.

    That connection waits for nobody's transaction, so that a lease is renewed also while something long is written.
    """

    def __init__(self, session: Session, connect: Callable[[], SharedEngine]) -> None:
        self._session = session
        self._connect = connect
        self._engine: SharedEngine | None = None
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._boots = Boots()
        self._holders: dict[str, str] = {}  # by the same as the session's numbers
        self._boot: dict[str, str] | None = None  # of this machine, as it has acted here

    def act_as(self, machine: str, boot: str, *, take_over: bool = False) -> float:
        """Be ``boot`` of ``machine`` from now on; return 0, or for how many seconds to wait before asking again.

        Raises MachineDoubled where another boot of it acts, or has since this one did, unless it is to ``take_over``.
        """
        with self._guard, self._transaction() as engine:
            wait_s = self._boots.act_as(engine, machine, boot, take_over=take_over)
        if not wait_s:
            self._boot = {"machine": machine, "boot": boot}
        return wait_s

    @contextlib.contextmanager
    def holding(
        self, environment: EnvironmentId, holder: str, *, machine: str, take_over: bool = False
    ) -> Iterator[int]:
        """Hold the lease on ``environment`` inside; give its number. ``take_over``: whoever holds it loses it.

        ``holder`` is who it is, for messages. The caller has ``machine``'s lock on the environment: a lease of that
        machine is one of a process that has ended.

        Raises EnvironmentBusy, which says who holds it and since when.
        """
        place = str(environment)
        number = self._hold(place, holder, machine, take_over)
        try:
            yield number
        finally:
            self._give_back(place, number)

    def lead(self, holder: str, *, machine: str) -> bool:
        """Be the agent that leads of all that share the ledger, and stay it; False: another one is. The caller is the
        only agent of ``machine``, or of what says so."""
        number = self._session.leases.get(AGENTS)
        if number is not None:
            if self._execute(_HOLDS, place=AGENTS, number=number):
                return True
            del self._session.leases[AGENTS], self._holders[AGENTS]  # it was cut off for too long
        try:
            self._hold(AGENTS, holder, machine, take_over=False)
        except EnvironmentBusy:
            return False
        return True

    def stop_leading(self) -> None:
        """Let another agent lead at once."""
        number = self._session.leases.get(AGENTS)
        if number is not None:
            self._give_back(AGENTS, number)

    def leader(self) -> tuple[str, datetime] | None:
        """Return which agent leads, and since when; None: none does."""
        found = self._session.rows(_HOLDER, place=AGENTS)
        return (str(found[0]["holder"]), found[0]["since"]) if found else None

    def leader_elsewhere(self, *, machine: str) -> str | None:
        """Return which agent leads, where it is another's than ``machine``'s."""
        return self._held_elsewhere(AGENTS, machine)

    def held(self, environment: EnvironmentId) -> HeldLease | None:
        """Return the lease that this process took on ``environment``, None where it has none."""
        place = str(environment)
        number, holder = self._session.leases.get(place), self._holders.get(place)
        return None if number is None or holder is None else HeldLease(number=number, holder=holder)

    def holder_elsewhere(self, environment: EnvironmentId, *, machine: str) -> str | None:
        """Return who acts on ``environment`` from another than ``machine``, whose own lock says more than its lease."""
        return self._held_elsewhere(str(environment), machine)

    def _held_elsewhere(self, place: str, machine: str) -> str | None:
        found = self._session.rows(_HOLDER, place=place)
        return str(found[0]["holder"]) if found and found[0]["machine"] != machine else None

    def require(self, environment: EnvironmentId) -> None:
        """Raise LeaseLost unless this process still holds ``environment``; nothing where it never did."""
        number = self._session.leases.get(str(environment))
        if number is not None and not self._execute(_HOLDS, place=str(environment), number=number):
            raise self._lost(environment)

    def require_to_write(self, environment: EnvironmentId) -> None:
        """The same, inside a transaction: until it has ended nobody else gets the lease."""
        place = str(environment)
        number = self._session.leases.get(place)
        if number is not None and not self._session.rows(_HOLDS_AND_WRITES, place=place, number=number):
            raise self._lost(environment)

    def renew(self) -> None:
        """Renew all leases that this process holds. One that has ended meanwhile is not taken again."""
        if self._boot is not None and self._session.leases:
            self._execute(f"{ACT_ON} RETURNING number", **self._boot)
        for place, number in list(self._session.leases.items()):
            self._execute(_RENEW, place=place, number=number, lasts=LASTS_S)

    def close(self) -> None:
        self._ended.set()
        with self._guard:
            if self._engine is not None:
                self._engine.close()

    def _hold(self, place: str, holder: str, machine: str, take_over: bool) -> int:
        number = self._take(place, holder, machine, take_over)
        self._holders[place] = holder
        self._session.leases[place] = number
        self._renew_from_now_on()
        return number

    def _give_back(self, place: str, number: int) -> None:
        del self._session.leases[place], self._holders[place]
        with contextlib.suppress(InstarError):  # then it ends by itself
            self._execute(_GIVE_BACK, place=place, number=number)

    def _take(self, place: str, holder: str, machine: str, take_over: bool) -> int:
        with self._guard, self._transaction() as engine:
            engine.execute(_ADD, {"place": place}, "write")
            found = _one(engine, _LOCK, {"place": place})
            if found["held"] and found["machine"] != machine and not take_over:
                raise _busy(place, found["holder"], found["since"], found["ends_at"])
            values = {"place": place, "holder": holder, "machine": machine, "lasts": LASTS_S}
            return int(_one(engine, _TAKE, values)[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[SharedEngine]:
        engine = self._connected()
        engine.begin_beside()
        try:
            yield engine
            engine.commit()
        except BaseException:
            with contextlib.suppress(InstarError):
                engine.rollback()
            raise

    def _execute(self, statement: str, **values: object) -> bool:
        with self._guard:
            return bool(self._connected().execute(statement, values, "write"))

    def _connected(self) -> SharedEngine:
        if self._engine is None:
            self._engine = self._connect()
        return self._engine

    def _renew_from_now_on(self) -> None:
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        pause_s = LASTS_S / RENEWED_IN_IT
        while not self._ended.wait(pause_s):
            try:
                self.renew()
                pause_s = LASTS_S / RENEWED_IN_IT
            except InstarError:  # the next write, or call of a provider, sees what came of it
                pause_s = min(AGAIN_S, pause_s)

    def _lost(self, environment: EnvironmentId) -> LeaseLost:
        found = self._session.rows(_HOLDER, place=str(environment))
        who = f"{found[0]['holder']} has it since {_time(found[0]['since'])}" if found else "nobody has it now"
        return LeaseLost(
            f"cannot go on with '{environment}': its lease has ended meanwhile, {who}",
            hint=f"nothing was done since; see where it is: instar status {environment}",
        )


def _one(engine: Engine, statement: str, values: Mapping[str, object]) -> Row:
    """Return the row of a lease. Raises LedgerDamaged where it is none: a rule that is not of the schema hides it."""
    found = engine.execute(statement, values, "write")
    if not found:
        raise LedgerDamaged(
            f"cannot write '{engine.address}': a lease that is written is not there: its schema was changed",
            hint="see what was: instar history --verify",
        )
    return found[0]


def _busy(environment: str, holder: str, since: datetime, ends_at: datetime) -> EnvironmentBusy:
    return EnvironmentBusy(
        f"cannot work on '{environment}': {holder} works on it since {_time(since)}",
        pid=None,
        hint="wait until that has finished, or end it and go on where it stopped: add --take-over; "
        f"what was stopped or cut off there loses it at {_time(ends_at)}",
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
