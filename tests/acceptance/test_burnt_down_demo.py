"""The demo, backed up and restored beside itself in the middle of a load that reads and writes: nobody notices, and all
that was acknowledged before is there again.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import load
import pytest
from leftovers import remove_state
from project import Project, free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.thorough]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/guestbook"
STEADY = ("--rate", "60", "--connections", "4", "--closing", "2")
VOLUME = "volumes/guestbook/dev/data"
COPY = """\
import sqlite3
with sqlite3.connect('/var/lib/guestbook/entries.db') as found, sqlite3.connect('/var/lib/guestbook/kept.db') as kept:
    found.backup(kept)
"""  # as docs/backup.md has it: a database brings its own way to be copied


class Guests:
    """People who sign, one after the other in two rows; what was acknowledged is written down."""

    def __init__(self, url: str) -> None:
        self.signed: list[str] = []
        self.failed: list[str] = []
        self._url = url
        self._over = threading.Event()
        self._rows = [threading.Thread(target=self._sign, args=(row,)) for row in "ab"]

    def __enter__(self) -> Guests:
        for row in self._rows:
            row.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for row in self._rows:
            row.join()

    def _sign(self, row: str) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            text = f"{row}{number}"
            words = urllib.parse.urlencode({"name": "a guest", "text": text}).encode()
            try:
                with urllib.request.urlopen(self._url, words, timeout=20):
                    self.signed.append(text)
            except OSError as error:
                self.failed.append(f"{text}: {error}")
                return


@pytest.fixture
def guestbook(tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(EXAMPLE, tmp_path / "guestbook")
    made = Project(folder=tmp_path / "guestbook", home=tmp_path / "home", ports={"dev": free_port()})
    made.edit("listen: 127.0.0.1:8080", f"listen: 127.0.0.1:{made.ports['dev']}")
    yield made
    if made.home.exists():
        made.destroy_all()
        remove_state(made.home)


@pytest.fixture
def fresh(guestbook: Project, tmp_path: Path) -> Iterator[Project]:
    made = dataclasses.replace(guestbook, home=tmp_path / "fresh")
    yield made
    if made.home.exists():
        made.destroy_all()
        remove_state(made.home)


def entries(file: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [text for (text,) in database.execute("SELECT text FROM entries")]


def test_the_demo_is_there_again_with_all_that_was_acknowledged(guestbook: Project, fresh: Project) -> None:
    guestbook.instar("deploy", "dev", timeout_s=600)
    file = str(guestbook.folder.parent / "backup.tar")
    with load.running(guestbook.url(path="/"), *STEADY) as traffic, Guests(guestbook.url(path="/entries")) as guests:
        wait_for(lambda: len(guests.signed) > 100, lambda: f"they do not sign: {guests.failed}", timeout_s=120)
        before = set(guests.signed)
        guestbook.instar("run", "dev", "--", "python3", "-c", COPY)
        made = guestbook.json("backup", "--volumes", "--without-secrets", file)
        assert made["volumes"] == ["guestbook/dev data"] and made["lost"] == {}
        between = len(guests.signed)
        restored = fresh.instar("restore", "--machine", "new", file)
        assert "nothing runs yet" in restored.out
        wait_for(lambda: len(guests.signed) > between + 20, "they do not sign any more", timeout_s=60)
        report = traffic.stop()
    assert report["failed"] == 0 and report["served"] > 100, report
    assert guests.failed == []
    assert before <= set(entries(fresh.home / VOLUME / "kept.db"))
    written = entries(guestbook.home / VOLUME / "entries.db")
    assert sorted(guests.signed) == sorted(written), "nothing was lost, nothing came twice"

    digest = guestbook.json("status", "dev")["releases"][0]["image"]
    guestbook.instar("uninstall", "--yes", "--volumes")
    (fresh.home / VOLUME / "kept.db").replace(fresh.home / VOLUME / "entries.db")
    (fresh.home / VOLUME / "entries.db-journal").unlink(missing_ok=True)
    fresh.instar("agent", "--once")
    with load.running(fresh.url(path="/"), *STEADY) as traffic, Guests(fresh.url(path="/entries")) as guests:
        wait_for(lambda: len(guests.signed) > 20, lambda: f"they do not sign there: {guests.failed}", timeout_s=60)
        report = traffic.stop()
    assert (report["failed"], guests.failed) == (0, []), report
    assert before | set(guests.signed) <= set(entries(fresh.home / VOLUME / "entries.db"))
    assert fresh.json("status", "dev")["releases"][0]["image"] == digest
    assert fresh.json("drift", "dev")["clean"]
    fresh.instar("history", "--verify")
