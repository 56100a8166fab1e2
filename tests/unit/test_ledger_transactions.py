"""That every test is held to it: inside a transaction nobody outside the database is asked."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from instar import durable, locks
from instar.ledger import Ledger
from instar.store import Store
from simulated.values import note
from transactions import OutsideInTransaction, permitted


def connect(folder: Path) -> None:
    with socket.socket() as made:
        made.connect(("127.0.0.1", 9))


def lock(folder: Path) -> None:
    with locks.hold(folder / "lock", "it"):
        pass


OUTSIDE: dict[str, Callable[[Path], object]] = {
    "a file is read": lambda folder: durable.read(folder / "file"),
    "a file is removed": lambda folder: (folder / "file").unlink(),
    "a folder is listed": lambda folder: list(folder.iterdir()),
    "the store is asked": lambda folder: Store(folder).digests(),
    "a lock is taken": lock,
    "a process is run": lambda folder: subprocess.run(["/bin/true"], check=True),
    "somebody is called": connect,
}


@pytest.mark.parametrize("call", OUTSIDE.values(), ids=OUTSIDE)
def test_a_call_that_goes_outside_fails_and_undoes_all(tmp_path: Path, call: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("x")
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        with pytest.raises(OutsideInTransaction), ledger.transaction():
            ledger.record(note())
            call(tmp_path)
        assert ledger.history() == ()


def test_other_threads_and_what_comes_after_are_free(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    read = list[str]()
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        with ledger.transaction():
            with ledger.transaction():
                ledger.record(note())
            other = threading.Thread(target=lambda: read.append((tmp_path / "file").read_text()))
            other.start()
            other.join()
            with permitted():
                read.append((tmp_path / "file").read_text())
            with pytest.raises(OutsideInTransaction):
                (tmp_path / "file").read_text()
        read.append((tmp_path / "file").read_text())
    assert read == ["x", "x", "x"]
