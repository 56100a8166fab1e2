"""What a ledger in a file keeps, and what SQLite refuses for it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged, LedgerError
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from ledger_tampering import tamper
from simulated import VirtualClock
from simulated.values import configuration, image, note

DEV = EnvironmentId(service="guestbook", name="dev")
PRODUCTION = EnvironmentId(service="guestbook", name="production")
NETWORK = IPv4Network("10.9.0.0/29")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "instar.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, actor="ann", clock=VirtualClock().now) as opened:
        yield opened


@pytest.fixture
def released(ledger: Ledger) -> Ledger:
    """With an environment and two releases."""
    ledger.save_settings(DEV, Settings())
    ledger.add_release(DEV, image("one").digest, configuration())
    ledger.add_release(DEV, image("two").digest, configuration({"A": "b"}))
    return ledger


def kinds(ledger: Ledger, environment: EnvironmentId | None = None) -> list[str]:
    return [event.kind for event in ledger.history(environment)]


def test_only_its_owner_can_look(ledger: Ledger, path: Path) -> None:
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET actor = 'eve'",
        "DELETE FROM events WHERE seq = 3",
        "INSERT OR REPLACE INTO events SELECT seq, at, 'eve', kind, place, release, image, detail, hash FROM events",
        "INSERT INTO events SELECT seq + 100, at, actor, kind, place, release, image, detail, hash FROM events",
        "UPDATE releases SET image = 'sha256:' || hex(zeroblob(32))",
        "UPDATE releases SET configuration = '{}'",
        "INSERT OR REPLACE INTO releases SELECT * FROM releases",
        "DELETE FROM releases",
        "UPDATE settings SET value = '{}'",
        "UPDATE rollouts SET target = 1",
        "UPDATE rollouts SET state = 'done'",
        "UPDATE instances SET role = 'worker'",
        "UPDATE instances SET removed_at = NULL",
        "UPDATE environments SET environment = 'prod'",
        "DELETE FROM environments",
    ],
)
def test_what_is_written_stays_written(released: Ledger, path: Path, change: str) -> None:
    released.end_rollout(released.begin_rollout(DEV, "deploy", 2), "failed")
    for one in released.add_instances(DEV, 1, 1):
        released.remove_instance(one.id, "x")
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match=r"never|keeps|only ever"):
        connection.execute(change)


def test_a_changed_configuration_is_noticed_when_it_is_read(released: Ledger, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER releases_unchanged")
        connection.execute("UPDATE releases SET configuration = replace(configuration, '\"b\"', '\"c\"')")
    assert released.get_release(DEV, 1)
    with pytest.raises(LedgerDamaged, match="number 2 of 'guestbook/dev'"):
        released.get_release(DEV, 2)


def test_it_needs_little_more_than_sqlite() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, instar.ledger; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    ).stdout.split()
    assert not {"pydantic", "yaml", "click", "rich", "difflib", "tempfile", "subprocess", "asyncio"} & set(seen)


def test_what_the_file_cannot_hold_is_said(released: Ledger) -> None:
    with pytest.raises(LedgerError, match="a value that it cannot hold"):
        released.get_release(DEV, 10**20)
    with pytest.raises(LedgerError, match="a value that it cannot hold"):
        released.find_environment(EnvironmentId(service="guestbook", name="\udc80"))


def test_a_row_that_cannot_be_read_back_is_damage(released: Ledger, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE releases SET last_active_at = 'yesterday'")
    with pytest.raises(LedgerDamaged, match=r"cannot read 'release' in the ledger: .*yesterday"):
        released.releases(DEV)


def test_events_that_cannot_be_read_hide_none_that_come_after_them(ledger: Ledger, path: Path) -> None:
    for _ in range(5):
        ledger.record(note())
    tamper(path, "UPDATE events SET at = '2026-99-01T00:00:00.000000Z' WHERE seq IN (2, 3, 5)")
    assert [event.seq for event in ledger.events_after(0, 2)] == [1]
    assert [event.seq for event in ledger.events_after(1, 2)] == [4]
    assert ledger.events_after(4, 2) == ()


def test_an_interrupt_as_a_transaction_begins_leaves_nothing_open(ledger: Ledger, path: Path) -> None:
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.2, lambda: (os.kill(os.getpid(), signal.SIGINT), other.execute("ROLLBACK"))).start()
        with pytest.raises(KeyboardInterrupt):
            ledger.record(note())
    assert ledger.record(note()).seq == 1
