"""What the contract of the ledger is held against: a new ledger on each of its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from instar.ledger import Ledger
from postgres import PostgresServer
from simulated import VirtualClock

ENGINES = ("sqlite", "postgresql")


class LedgerBench:
    """A place for one ledger, which several can have open at once."""

    def __init__(self, address: Path | str) -> None:
        self.address = address
        self.clock = VirtualClock()
        self._opened: list[Ledger] = []

    def open(self, actor: str = "ann", clock: Callable[[], datetime] | None = None) -> Ledger:
        ledger = Ledger(self.address, actor=actor, clock=clock or self.clock.now)
        self._opened.append(ledger)
        return ledger

    def close(self) -> None:
        for ledger in self._opened:
            ledger.close()


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerBench]:
    """A ledger's bench on each engine. The server is started only for those who ask for it."""
    made = LedgerBench(tmp_path / "ledger" / "instar.db" if request.param == "sqlite" else _database(request))
    yield made
    made.close()


@pytest.fixture
def ledger(bench: LedgerBench) -> Ledger:
    return bench.open()


def _database(request: pytest.FixtureRequest) -> str:
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.address(server.wiped())
