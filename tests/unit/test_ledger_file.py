"""A ledger's file that is broken, cut, foreign, read-only or on a full disk: what is said, and what is left alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged, LedgerError
from instar.ledger import Ledger, sqlite
from simulated.values import note


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with some hundred pages."""
    path = tmp_path / "ledger" / "instar.db"
    with Ledger(path, actor="ann") as ledger, ledger.transaction():
        for number in range(1000):
            ledger.record(note(f"{number:0200}"))
    return path


def cut_to(size: int) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        os.truncate(path, size)

    return cut


def overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return write


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (seq)")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut_to(0), id="empty"),
        pytest.param(cut_to(40), id="half a header"),
        pytest.param(cut_to(8192), id="two pages left"),
        pytest.param(lambda path: path.write_text("not a database, whatever its name says\n" * 99), id="text"),
        pytest.param(overwrite(0, b"\0" * 100), id="header zeroed"),
        pytest.param(overwrite(100, b"\xff" * 900), id="schema overwritten"),
        pytest.param(another_database, id="another database"),
    ],
)
def test_what_is_no_whole_ledger_is_refused_at_once(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(LedgerDamaged, match=f"cannot open '{path}'") as caught:
        Ledger(path, actor="ann")
    assert caught.value.hint and "what runs goes on without it" in caught.value.hint
    assert path.read_bytes() == before


def test_broken_pages_in_the_middle_are_found_by_reading_and_by_verifying(path: Path) -> None:
    overwrite(path.stat().st_size // 8192 * 4096, b"\xff" * 4096 * 20)(path)
    with Ledger(path, actor="ann") as ledger:
        with pytest.raises(LedgerDamaged):
            ledger.verify()
        with pytest.raises(LedgerDamaged, match="cannot read"):
            ledger.history()


def test_a_journal_without_its_ledger_is_not_played_into_a_new_one(path: Path) -> None:
    path.rename(path.with_name("instar.db-journal"))
    with pytest.raises(LedgerDamaged, match="the file is gone, its journal is still there"):
        Ledger(path, actor="ann")
    assert not path.exists()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger(tmp_path, actor="ann")
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger(tmp_path / "file" / "ledger" / "instar.db", actor="ann")


def test_a_writer_that_never_ends_is_named_as_the_cause(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    with Ledger(path, actor="ann") as one, Ledger(path, actor="bob") as other, one.transaction():
        with pytest.raises(LedgerError, match="another process has kept it locked") as caught:
            other.record(note())
        assert caught.value.hint == f"see which one with: fuser {path}"
        assert len(other.history()) == 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "instar-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.root
def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "ledger" / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        written = 0
        with pytest.raises(LedgerError, match="the disk is full") as caught:
            for _ in range(1000):
                ledger.record(note("x" * 1000))
                written += 1
        assert caught.value.hint and "make room" in caught.value.hint
        assert written > 10
    with Ledger(path, actor="ann") as ledger:
        assert ledger.verify().events == written


@pytest.mark.root
def test_a_transaction_that_was_given_up_writes_nothing_any_more(small_disk: Path) -> None:
    """SQLite itself rolls a whole transaction back on a full disk; whoever catches that must not write on alone."""
    path = small_disk / "ledger" / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        ledger.session.engine.execute("PRAGMA cache_size = 10", {})  # write pages early, not at the commit
        with pytest.raises(LedgerError, match="given up"), ledger.transaction():
            with pytest.raises(LedgerError, match="the disk is full"):
                for _ in range(200):
                    ledger.record(note("x" * 4000))
            ledger.record(note())
        assert ledger.verify().events == 0


@pytest.mark.root
def test_no_room_for_a_new_ledger_leaves_none(small_disk: Path) -> None:
    (small_disk / "fill").write_bytes(b"x" * 240 * 1024)
    with pytest.raises(LedgerError, match="No space left on device") as caught:
        Ledger(small_disk / "ledger" / "instar.db", actor="ann")
    assert caught.value.hint and "make room" in caught.value.hint
    assert list((small_disk / "ledger").iterdir()) == []
    (small_disk / "fill").unlink()
    Ledger(small_disk / "ledger" / "instar.db", actor="ann").close()


@pytest.mark.root
def test_what_can_only_be_read_is_read(small_disk: Path) -> None:
    path = small_disk / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        ledger.record(note())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with Ledger(path, actor="ann") as ledger:
        assert len(ledger.history()) == 1
        with pytest.raises(LedgerError, match="it can only be read") as caught:
            ledger.record(note())
        assert caught.value.hint and "mount options" in caught.value.hint
    with pytest.raises(LedgerError, match="Read-only file system"):
        Ledger(small_disk / "other" / "instar.db", actor="ann")


@pytest.mark.root
def test_somebody_else_is_told_to_be_root(path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            Ledger(path, actor="nobody")
        except LedgerError as error:
            told = "Permission denied" in error.message and error.hint == "run as root (sudo)"
            os._exit(0 if told else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_number_of_the_schema_that_was_changed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerDamaged, match="its schema is not number 1, which it says that it is: duplicate column"):
        Ledger(path, actor="ann")
    assert path.read_bytes() == before


def test_where_nothing_was_the_folders_are_root_s_alone(tmp_path: Path) -> None:
    Ledger(tmp_path / "home" / "ledger" / "instar.db", actor="ann").close()
    for folder in (tmp_path / "home", tmp_path / "home" / "ledger"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.root
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_root_opens_no_ledger_that_somebody_else_wrote(path: Path, whose: str) -> None:
    os.chown(path if whose == "file" else path.parent, 65534, 65534)
    with pytest.raises(LedgerError, match=r"user 'nobody' may write to .*, and root acts by what it says"):
        Ledger(path, actor="root")


@pytest.mark.root
def test_root_plays_no_journal_that_somebody_else_wrote(path: Path) -> None:
    """SQLite removes the file that a journal names as the one above it, whatever that is."""
    victim = path.parent.parent / "victim"
    victim.write_text("precious")
    name = str(victim).encode()
    page = path.read_bytes()[16:18]
    size = int.from_bytes(page, "big")
    pages = path.stat().st_size // size
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + bytes(4) + bytes(4) + pages.to_bytes(4, "big") + (512).to_bytes(4, "big") + page.rjust(4, b"\0")
    above = ((1 << 30) // size + 1).to_bytes(4, "big") + name + len(name).to_bytes(4, "big")
    above += sum(name).to_bytes(4, "big") + magic
    path.with_name("instar.db-journal").write_bytes(header.ljust(512, b"\0") + above)
    os.chown(path.parent, 65534, 65534)
    with contextlib.suppress(LedgerError):
        Ledger(path, actor="root").close()
    assert victim.exists()
