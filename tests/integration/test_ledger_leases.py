"""Two processes, one environment of a shared ledger: one acts, and whoever was stopped, cut off or killed does not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cutting_proxy import CuttingProxy
from instar.errors import EnvironmentBusy, InstarError, LeaseLost, LedgerUnreachable
from instar.ledger import Ledger, leases, postgresql
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from postgres import PostgresServer
from simulated.values import NOTE, OTHER, note, other

DEV = EnvironmentId(service="guestbook", name="dev")
PRODUCTION = EnvironmentId(service="guestbook", name="production")
SHORT_S = 1.2
LOST = ("LeaseLost", "LedgerUnreachable")  # the other one where it was stopped while it wrote


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LASTS_S", SHORT_S)
    monkeypatch.setattr(postgresql, "IDLE_AT_MOST_S", 1)


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    found = postgres.address(postgres.wiped())
    with Ledger(found, actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.save_settings(PRODUCTION, Settings())
    return found


def open_leases(ledger: Ledger) -> leases.Leases:
    assert ledger.leases is not None
    return ledger.leases


class Holder:
    """A process on another machine that holds an environment, and acts on it all the time: it asks for its lease, then
    moves a weight (a line in a file), then writes that it did."""

    def __init__(self, address: str, weights: Path, *, machine: str = "web2", stop_inside: bool = False) -> None:
        self.weights = weights
        self._read, self._write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._hold(address, machine, stop_inside)
            except InstarError as error:
                os.write(self._write, type(error).__name__.encode())
            finally:
                os._exit(0)
        os.close(self._write)
        assert os.read(self._read, 7) == b"holding"

    def _hold(self, address: str, machine: str, stop_inside: bool) -> None:
        ledger = Ledger(address, actor="bob")
        with ledger, open_leases(ledger).holding(DEV, f"bob on {machine}", machine=machine):
            os.write(self._write, b"holding")
            while True:
                ledger.require_lease(DEV)
                with self.weights.open("a") as file:
                    file.write("weight\n")
                with ledger.transaction():
                    ledger.record(note(os.getpid()), DEV)
                    if stop_inside:
                        os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> str:
        """Wait until it has ended; return what ended it."""
        said = os.read(self._read, 64).decode()
        os.waitpid(self.pid, 0)
        os.close(self._read)
        return said

    def moved(self) -> int:
        return len(self.weights.read_text().splitlines()) if self.weights.exists() else 0


@pytest.fixture
def holder(address: str, tmp_path: Path) -> Iterator[Holder]:
    made = Holder(address, tmp_path / "weights")
    yield made
    with _gone_is_fine():
        made.signal(signal.SIGKILL)
        os.waitpid(made.pid, 0)


def _gone_is_fine() -> pytest.RaisesContext:  # type: ignore[name-defined]

    return contextlib.suppress(ProcessLookupError, ChildProcessError)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take(ledger: Ledger, seconds: float = 20.0) -> float:
    """Take the lease on DEV as soon as it is free, and say that it is held; return how long that took."""
    began = time.monotonic()
    while True:
        try:
            with open_leases(ledger).holding(DEV, "ann on web1", machine="web1"):
                ledger.record(other(), DEV)
                return time.monotonic() - began
        except EnvironmentBusy:
            assert time.monotonic() - began < seconds
            time.sleep(0.02)


def test_who_only_looks_is_told_that_another_machine_acts_and_takes_nothing_from_it(address: str) -> None:
    with Ledger(address, actor="ann") as ledger, Ledger(address, actor="bob") as their:
        here, there = open_leases(ledger), open_leases(their)
        assert not here.holder_elsewhere(DEV, machine="web1")
        with there.holding(DEV, "bob on web2", machine="web2"):
            assert here.holder_elsewhere(DEV, machine="web1") == "bob on web2"
            assert not here.holder_elsewhere(DEV, machine="web2"), "its own lock says more"
            assert not here.holder_elsewhere(PRODUCTION, machine="web1")
            there.require(DEV)
        assert not here.holder_elsewhere(DEV, machine="web1")


def test_one_acts_and_the_other_is_told_who_and_since_when(address: str, holder: Holder) -> None:
    with Ledger(address, actor="ann") as ledger:
        until(lambda: holder.moved() > 3)
        time.sleep(2 * SHORT_S)  # it renews
        with (
            pytest.raises(EnvironmentBusy, match=r"bob on web2 works on it since 20\d\d-.* UTC") as caught,
            open_leases(ledger).holding(DEV, "ann", machine="web1"),
        ):
            pass
        assert caught.value.exit_status == 75
        with open_leases(ledger).holding(PRODUCTION, "ann", machine="web1"):  # another environment is free
            ledger.record(note(), PRODUCTION)


def test_who_was_stopped_loses_it_and_neither_writes_nor_moves_a_weight(address: str, holder: Holder) -> None:
    with Ledger(address, actor="ann") as ledger:
        until(lambda: holder.moved() > 3)
        holder.signal(signal.SIGSTOP)
        take(ledger)
        moved, written = holder.moved(), len(ledger.history(DEV))
        holder.signal(signal.SIGCONT)
        assert holder.end() in LOST
        assert holder.moved() <= moved + 1, "one call of a provider may have been on its way"
        assert len(ledger.history(DEV)) == written
        ledger.verify()


def test_who_was_killed_loses_it_in_time(address: str, holder: Holder) -> None:
    with Ledger(address, actor="ann") as ledger:
        holder.signal(signal.SIGKILL)
        assert take(ledger) <= SHORT_S + 1


def test_a_dead_holder_of_ones_own_machine_is_known_to_be_dead(address: str, holder: Holder) -> None:
    """Who asks has the machine's lock, which a holder that lives would have."""
    with Ledger(address, actor="ann") as ledger:
        holder.signal(signal.SIGKILL)
        with open_leases(ledger).holding(DEV, "ann on web2", machine="web2"):
            ledger.record(note(), DEV)


def test_who_is_taken_over_from_stops_at_once(address: str, holder: Holder) -> None:
    with Ledger(address, actor="ann") as ledger:
        with open_leases(ledger).holding(DEV, "ann", machine="web1", take_over=True) as number:
            assert holder.end() == "LeaseLost"
            moved = holder.moved()
            ledger.record(note(), DEV)
            assert number == 2
        assert holder.moved() == moved


def test_who_is_cut_off_loses_it(postgres: PostgresServer, address: str, tmp_path: Path) -> None:
    proxy = CuttingProxy(postgres.port)
    name = address.split("?", maxsplit=1)[0].rpartition("/")[2]
    postgres.execute("CREATE ROLE far LOGIN SUPERUSER PASSWORD 'far'")
    secret = tmp_path / "pass"
    secret.write_text("*:*:*:*:far\n")
    secret.chmod(0o600)
    there = postgres.tcp_address(name, user="far", port=proxy.port, passfile=secret, tcp_user_timeout=500)
    try:
        with Ledger(there, actor="bob") as cut_off, Ledger(address, actor="ann") as ledger:
            with (
                pytest.raises((LedgerUnreachable, LeaseLost)),
                open_leases(cut_off).holding(DEV, "bob", machine="web2"),
            ):
                cut_off.record(note(), DEV)
                proxy.close()
                take(ledger)
                cut_off.require_lease(DEV)
            with pytest.raises(LedgerUnreachable):
                cut_off.record(note(), DEV)
            assert [event.kind for event in ledger.history(DEV)] == ["environment", NOTE, OTHER]
    finally:
        proxy.close()
        postgres.execute("DROP ROLE far")


def test_an_older_number_writes_nothing(address: str) -> None:
    old, ledger = Ledger(address, actor="bob"), Ledger(address, actor="ann")
    with old, ledger, open_leases(old).holding(DEV, "bob", machine="web2"):
        with open_leases(ledger).holding(DEV, "ann", machine="web1", take_over=True):
            with pytest.raises(LeaseLost, match="its lease has ended meanwhile, ann has it since") as caught:
                old.save_settings(DEV, Settings(instances=9))
            assert caught.value.exit_status == 75
            assert old.get_environment(DEV).settings.instances == 1
            old.record(note(), PRODUCTION)  # what it does not hold it writes as anybody may
        with pytest.raises(LeaseLost, match="nobody has it now"):
            old.require_lease(DEV)


def test_a_clock_that_jumps_on_one_machine_does_nothing(address: str) -> None:
    far = datetime.now(UTC) + timedelta(days=400)
    jumped, ledger = Ledger(address, actor="bob", clock=lambda: far), Ledger(address, actor="ann")
    with jumped, ledger, open_leases(jumped).holding(DEV, "bob", machine="web2"):
        with pytest.raises(EnvironmentBusy), open_leases(ledger).holding(DEV, "ann", machine="web1"):
            pass
        jumped.require_lease(DEV)
    with Ledger(address, actor="ann") as ledger:
        assert abs(ledger.now() - datetime.now(UTC)) < timedelta(minutes=5), "the time is the database's"


def test_numbers_only_grow_and_leases_are_never_deleted(postgres: PostgresServer, address: str) -> None:
    name = address.split("?", maxsplit=1)[0].rpartition("/")[2]
    with Ledger(address, actor="ann") as ledger:
        for expected in (1, 2, 3):
            with open_leases(ledger).holding(DEV, "ann", machine="web1") as number:
                assert number == expected
        for statement in (
            "UPDATE instar.leases SET number = 1",
            "DELETE FROM instar.leases",
            "TRUNCATE instar.leases",
        ):
            with pytest.raises(Exception, match=r"only grows|never deleted"):
                postgres.execute(statement, database=name)


def test_a_holder_that_is_stopped_inside_a_transaction_keeps_nobody_for_long(
    address: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    name = address.split("?", maxsplit=1)[0].rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET statement_timeout = 0")
    stopped = Holder(address, tmp_path / "weights", stop_inside=True)
    try:
        with Ledger(address, actor="ann") as ledger:
            until(lambda: Path(f"/proc/{stopped.pid}/stat").read_text().split()[2] == "T")
            take(ledger, 40)
            stopped.signal(signal.SIGCONT)
            assert stopped.end() in LOST
            assert [event.kind for event in ledger.history(DEV)] == ["environment", OTHER]
    finally:
        with _gone_is_fine():
            stopped.signal(signal.SIGKILL)
