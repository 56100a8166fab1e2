"""Several processes at one ledger: killed in the middle of a write, and writing at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from instar.ledger import Ledger
from instar.ledger.sqlite import SQLite
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from simulated.values import NOTE, OTHER, configuration, image, note, other


def engine_of(ledger: Ledger) -> SQLite:
    assert isinstance(ledger.session.engine, SQLite)
    return ledger.session.engine


GROUP = (NOTE, OTHER, NOTE)


class Child:
    """A forked process, and what it has said so far."""

    def __init__(self, work: Callable[[Callable[[int], None]], None]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work(lambda number: _say(write, number))
            finally:
                os._exit(0)
        os.close(write)
        self.said: list[int] = []

    def hear(self) -> bool:
        """Wait for its next number; False when it has ended."""
        data = os.read(self._read, 4)
        if data:
            self.said.append(int.from_bytes(data, "big"))
        return bool(data)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        while self.hear():
            pass
        os.waitpid(self.pid, 0)
        os.close(self._read)


def _say(descriptor: int, number: int) -> None:
    os.write(descriptor, number.to_bytes(4, "big"))


def write_groups(path: Path, name: str, limit: int = 100_000) -> Callable[[Callable[[int], None]], None]:
    """Return work that writes groups of events, and says the number of each group's last one after its commit."""

    def work(say: Callable[[int], None]) -> None:
        with Ledger(path, actor=name) as ledger:
            for _ in range(limit):
                with ledger.transaction():
                    for one in (note, other, note):
                        last = ledger.record(one("x" * 500))
                say(last.seq)

    return work


def check(path: Path) -> int:
    """Verify the ledger and that every group in it is whole; return how many events there are."""
    with Ledger(path, actor="ann") as ledger:
        events = ledger.history()
        assert ledger.verify().events >= len(events)  # more, where somebody writes meanwhile
    count = len(events)
    assert tuple(event.kind for event in events) == GROUP * (count // 3)
    assert all(len({event.actor for event in events[start : start + 3]}) == 1 for start in range(0, count, 3))
    return count


def test_a_writer_that_is_killed_loses_nothing_that_it_was_told_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "instar.db"
    chance = random.Random(7)
    for _ in range(30):
        child = Child(write_groups(path, "ann"))
        for _ in range(chance.randint(1, 4)):
            child.hear()
        child.kill()
        assert check(path) >= max(child.said) > 0


def test_a_maker_that_is_killed_leaves_a_whole_ledger_or_none(tmp_path: Path) -> None:
    for number in range(30):
        path = tmp_path / str(number) / "instar.db"
        child = Child(write_groups(path, "ann"))
        time.sleep(number / 2000)  # not waiting for anything: it is killed wherever it happens to be
        child.kill()
        assert check(path) >= max(child.said, default=0)


def test_a_half_written_transaction_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "instar.db"
    Child(write_groups(path, "ann", limit=2)).wait()

    def half(say: Callable[[int], None]) -> None:
        with Ledger(path, actor="bob") as ledger, ledger.transaction():
            engine_of(ledger).connection.execute("PRAGMA cache_size = 5")  # pages reach the file before the commit
            for _ in range(100):
                ledger.record(note("x" * 4000))
            say(100)
            signal.pause()

    child = Child(half)
    assert child.hear()
    child.kill()
    assert path.with_name("instar.db-journal").stat().st_size > 0
    assert path.stat().st_size > 100 * 4000
    assert check(path) == 6
    assert not path.with_name("instar.db-journal").exists()


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "instar.db"
    children = [Child(write_groups(path, name, limit=40)) for name in ("ann", "bob")]
    for child in children:
        child.wait()
    assert [len(child.said) for child in children] == [40, 40]
    assert check(path) == 240


def test_two_makers_make_one(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / str(number) / "instar.db"
        children = [Child(write_groups(path, name, limit=2)) for name in ("ann", "bob")]
        for child in children:
            child.wait()
        assert check(path) == 12
        assert [each.name for each in path.parent.iterdir()] == ["instar.db"]


def test_a_reader_sees_whole_transactions_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "instar.db"
    child = Child(write_groups(path, "ann", limit=60))
    counts = []
    while child.hear():
        counts.append(check(path))
    child.wait()
    assert counts == sorted(counts) and check(path) == 180


def test_what_status_reads_does_not_grow_with_history(tmp_path: Path) -> None:
    """By counting SQLite's own steps, which do not depend on how busy this machine is."""
    environment = EnvironmentId(service="guestbook", name="dev")
    path = tmp_path / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        ledger.save_settings(environment, Settings())
        ledger.add_release(environment, image().digest, configuration())

        def steps() -> int:
            counted = 0

            def count() -> int:
                nonlocal counted
                counted += 1
                return 0

            engine_of(ledger).connection.set_progress_handler(count, 1)
            ledger.environments()
            ledger.get_environment(environment)
            ledger.recent(environment, 2)
            ledger.instances(environment)
            ledger.history(environment, last=1)
            ledger.record(note(), environment=environment)
            engine_of(ledger).connection.set_progress_handler(None, 0)
            return counted

        before = steps()
        with ledger.transaction():
            for number in range(20_000):
                ledger.record(note(number), environment=environment)
        assert steps() < before * 1.2
