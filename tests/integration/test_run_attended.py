"""Who waits for the end of a command that runs in an instance of its own, as others who share the ledger see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.ledger import Ledger
from instar.model.state import StateDirectory
from instar.operations.attendance import attend, is_attended
from instar.operations.locks import hold_environment
from postgres import PostgresServer
from simulated.values import ENV

RUN = "guestbook-dev-1-2"


def workspace(ledger: Ledger, home: Path, machine: str) -> Any:
    state = StateDirectory(home / machine, home / machine / "run")
    return SimpleNamespace(ledger=ledger, state=state, machine=machine, actor="ann", report=lambda progress: None)


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.address(postgres.database())


@pytest.fixture
def two(address: str, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    with Ledger(address, actor="ann") as one, Ledger(address, actor="bob") as other:
        yield workspace(one, tmp_path, "web1"), workspace(other, tmp_path, "web2")


def test_another_machine_sees_that_somebody_waits_until_nobody_does(two: tuple[Any, Any]) -> None:
    one, other = two
    assert not is_attended(one, RUN) and not is_attended(other, RUN)
    with hold_environment(one, ENV, patient=False):
        attending = attend(one, RUN)
        attending.__enter__()
    with hold_environment(other, ENV, patient=False):  # meanwhile the other may act
        assert is_attended(one, RUN) and is_attended(other, RUN)
        assert not is_attended(other, "guestbook-dev-1-3")
    attending.__exit__(None, None, None)
    assert not is_attended(one, RUN) and not is_attended(other, RUN)
    assert list((one.state.locks).glob("run--*")) == []


def test_where_the_ledger_is_one_machines_own_its_lock_says_so(tmp_path: Path) -> None:
    with Ledger(tmp_path / "instar.db", actor="ann") as ledger:
        alone = workspace(ledger, tmp_path, "web1")
        with attend(alone, RUN):
            assert is_attended(alone, RUN)
        assert not is_attended(alone, RUN)
