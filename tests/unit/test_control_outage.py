"""How long a ledger that is away is waited for, by the clock of this process, and what is said."""

from __future__ import annotations

from datetime import timedelta

import pytest

from instar.cancellation import Cancellation
from instar.control.outage import PATIENCE, Outage, riding_out
from instar.errors import Cancelled, LedgerError, LedgerUnreachable
from instar.model.progress import Progress

AWAY = LedgerUnreachable("cannot read 'postgresql://db/instar': the connection was lost")


class Ledger:
    """Answers after ``failures`` errors."""

    def __init__(self, failures: int, error: LedgerError = AWAY) -> None:
        self.asked, self._failures, self._error = 0, failures, error

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return "answer"


def test_it_is_asked_again_with_longer_pauses_and_both_ends_are_said() -> None:
    told: list[Progress] = []
    slept: list[float] = []
    assert riding_out(Ledger(3), told.append, Cancellation(sleep=slept.append)) == "answer"
    assert sum(slept) == pytest.approx(1 + 2 + 4, abs=1)
    assert [(one.kind, one.text.partition(",")[0]) for one in told] == [
        ("warning", f"for the ledger (30 s at most): {AWAY.message}"),
        ("done", "is over: the ledger answers again"),
    ]


def test_one_that_does_not_come_back_in_time_is_the_error() -> None:
    slept: list[float] = []
    ledger = Ledger(1000)
    with pytest.raises(LedgerUnreachable):
        riding_out(ledger, lambda _: None, Cancellation(sleep=slept.append))
    assert sum(slept) == pytest.approx(PATIENCE.total_seconds(), abs=1) and ledger.asked < 10


def test_what_is_wrong_with_it_otherwise_is_said_at_once() -> None:
    with pytest.raises(LedgerError, match="full"):
        riding_out(Ledger(1, LedgerError("it is full")), lambda _: pytest.fail("nothing to wait for"), Cancellation())


def test_who_waits_can_be_ended() -> None:
    cancellation = Cancellation(sleep=lambda _: cancellation.request())
    with pytest.raises(Cancelled):
        riding_out(Ledger(1000), lambda _: None, cancellation)


def test_the_next_outage_begins_anew() -> None:
    told: list[Progress] = []
    outage = Outage(report=told.append)
    outage.is_over()
    for _ in range(2):
        pauses = [outage.pause_s(AWAY, timedelta(seconds=5)) for _ in range(3)]
        assert pauses == [1.0, 2.0, pytest.approx(2.0, abs=0.5)]
        with pytest.raises(LedgerUnreachable):
            outage.pause_s(AWAY, timedelta(seconds=5))
        outage.is_over()
    assert len(told) == 4


def test_an_agent_waits_without_an_end() -> None:
    outage = Outage(report=lambda _: None)
    assert all(outage.pause_s(AWAY, None) <= 10 for _ in range(1000))
