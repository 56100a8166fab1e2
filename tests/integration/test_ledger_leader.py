"""Several agents, one shared ledger: one leads, and another takes its place when it ends, is killed or stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from instar.ledger import Ledger, leases
from instar.waiting import Deadline, until
from postgres import PostgresServer

SHORT_S = 1.2


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LASTS_S", SHORT_S)


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.address(postgres.wiped())


@pytest.fixture
def here(address: str) -> Iterator[leases.Leases]:
    with Ledger(address, actor="agent") as ledger:
        assert ledger.leases is not None
        yield ledger.leases


def lead(of: leases.Leases, machine: str = "here") -> bool:
    return of.lead(f"the agent on {machine}", machine=machine)


class Other:
    """An agent on another machine that asks all the while whether it leads."""

    def __init__(self, address: str) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ledger = Ledger(address, actor="agent")
                assert ledger.leases is not None
                while True:
                    os.write(write, b"1" if lead(ledger.leases, "there") else b"0")
                    signal.sigtimedwait([signal.SIGUSR1], 0.05)
            finally:
                os._exit(1)
        os.close(write)

    def leads(self) -> bool:
        return os.read(self._read, 1) == b"1"

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._read)


@pytest.fixture
def other(address: str) -> Iterator[Other]:
    made = Other(address)
    yield made
    made.close()


def test_the_first_leads_for_as_long_as_it_does_and_the_next_at_once_when_it_ends(
    address: str, here: leases.Leases
) -> None:
    with Ledger(address, actor="agent") as ledger:
        assert ledger.leases is not None
        assert here.leader() is None
        assert lead(here)
        assert (lead(here), lead(ledger.leases, "there")) == (True, False)
        found = ledger.leases.leader()
        assert found is not None
        assert found[0] == "the agent on here"
        assert here.leader_elsewhere(machine="here") is None
        assert ledger.leases.leader_elsewhere(machine="there") == "the agent on here"
        here.stop_leading()
        assert (lead(ledger.leases, "there"), lead(here)) == (True, False)


def test_who_was_killed_leads_until_its_lease_is_over(here: leases.Leases, other: Other) -> None:
    assert until(other.leads, Deadline.after(10))
    assert not lead(here)
    other.send(signal.SIGKILL)
    assert until(lambda: lead(here), Deadline.after(30))


def test_who_was_stopped_learns_that_it_leads_no_more(here: leases.Leases, other: Other) -> None:
    assert until(other.leads, Deadline.after(10))
    other.send(signal.SIGSTOP)
    assert until(lambda: lead(here), Deadline.after(30))
    other.send(signal.SIGCONT)
    assert until(lambda: not other.leads(), Deadline.after(10))
    assert lead(here)


def test_a_machine_that_was_started_again_has_its_place_at_once(address: str, here: leases.Leases) -> None:
    assert lead(here)
    with Ledger(address, actor="agent") as again:
        assert again.leases is not None
        assert lead(again.leases)
