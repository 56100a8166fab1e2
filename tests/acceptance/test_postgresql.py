"""The examples postgresql and notes: a database on a volume of its own, and a Django site that finds it by its name.

One report for each, since each step needs the one before it.
"""

from __future__ import annotations

import http.cookiejar
import os
import re
import secrets
import shutil
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import pytest
from leftovers import remove_state
from project import Project, free_port, wait_for
from typist import at_terminal

pytestmark = [pytest.mark.root, pytest.mark.long]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEADY = ("--rate", "40", "--connections", "4", "--tally", "X-Release")
ADDED = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]
    operations = [migrations.AddField("note", "pinned", models.BooleanField(null=True))]
"""
BROKEN = ADDED.replace("0001_initial", "0002_pinned").replace('AddField("note", "pinned",', 'AddField("note", "text",')


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("database") / "home"
    yield made
    remove_state(made)


@pytest.fixture(scope="module")
def db(home: Path) -> Iterator[Project]:
    shutil.copytree(EXAMPLES / "postgresql", home.with_name("db"), ignore=shutil.ignore_patterns("secrets"))
    made = Project(folder=home.with_name("db"), home=home, ports={})
    keep_secret(made, "PASSWORD", secrets.token_hex())
    made.instar("deploy", "dev", timeout_s=600)
    yield made
    made.destroy_all()


@pytest.fixture(scope="module")
def notes(db: Project) -> Iterator[Project]:
    shutil.copytree(EXAMPLES / "notes", db.folder.with_name("notes"), ignore=shutil.ignore_patterns("secrets"))
    made = Project(folder=db.folder.with_name("notes"), home=db.home, ports={"dev": free_port()})
    made.edit("127.0.0.1:8087", f"127.0.0.1:{made.ports['dev']}")
    keep_secret(made, "DB_PASSWORD", (db.folder / "secrets/PASSWORD").read_text())
    keep_secret(made, "SECRET_KEY", secrets.token_hex())
    made.instar("deploy", "dev", timeout_s=600)
    yield made
    made.instar("destroy", "dev", "--yes")


def keep_secret(project: Project, name: str, value: str) -> None:
    (project.folder / "secrets").mkdir(exist_ok=True)
    (project.folder / "secrets" / name).write_text(value)


def asked(db: Project, query: str) -> str:
    """Return what the database answers to psql in an instance of its own."""
    return db.instar("run", "dev", "--", "psql", "-At", "app", "-c", query).out.strip()


def write(notes: Project, text: str) -> None:
    with urllib.request.urlopen(notes.url(path="/"), text.encode(), timeout=40) as answer:
        assert text in answer.read().decode()


def test_a_configuration_is_a_release_and_the_data_is_there_whatever_comes_and_goes(db: Project) -> None:
    asked(db, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    with (db.folder / "conf/postgresql.conf").open("a") as file:
        file.write("work_mem = 7MB\n")
    changed = db.json("deploy", "dev")
    assert changed["outcome"] == "done" and changed["gap_ms"] > 0, "the volume has one server at a time"
    assert asked(db, "SHOW work_mem") == "7MB"
    assert db.json("rollback", "dev")["release"] == 1
    assert asked(db, "SHOW work_mem") == "4MB"
    os.kill(db.pid(active(db)["instances"][0]["id"]), signal.SIGKILL)
    wait_for(lambda: (db.instar("agent", "--once"), serves(db))[1], "nothing stands in for it")
    assert asked(db, "SELECT count(*) FROM kept") == "1000"
    assert "COPY public.kept" in db.instar("run", "dev", "--", "pg_dump", "app").out
    db.instar("schedule", "dev", "run", "dump")
    kept = db.home / "volumes/db/dev/data"
    wait_for(lambda: (db.instar("agent", "--once"), list(kept.glob("*day.sql")))[1] != [], "it is not dumped")
    broken = db.folder / "conf/postgresql.conf"
    broken.write_text(broken.read_text().replace("work_mem = 7MB", "work_mem = lots"))
    failed = db.try_instar("deploy", "dev")
    assert failed.status == 1 and "work_mem" in failed.err, "what PostgreSQL says is shown"
    assert asked(db, "SELECT count(*) FROM kept") == "1000", "the release before has the volume again"
    assert db.instar("drift", "dev").status == 0


def active(project: Project) -> dict[str, Any]:
    shown = project.json("status", "dev")
    found: dict[str, Any] = next(one for one in shown["releases"] if one["number"] == shown["active"])
    return found


def serves(project: Project) -> bool:
    return [one["healthy"] for one in active(project)["instances"]] == [True]


def test_a_site_is_migrated_administered_and_served_on_while_it_and_its_database_are_replaced(
    db: Project, notes: Project
) -> None:
    write(notes, "the first")
    with at_terminal(notes, "run", "dev", "--", "./manage.py", "createsuperuser") as typist:
        for prompt, answer in (
            ("Username", "admin"),
            ("Email", "admin@example.org"),
            ("Password", "a long-winded word"),
            ("(again)", "a long-winded word"),
        ):
            typist.until(prompt)
            typist.type(f"{answer}\n")
        typist.until("Superuser created")
        assert typist.end() == 0
    assert "long-winded" not in typist.shown + notes.instar("history", "dev").out
    assert "Select note to change" in administered(notes)
    app = notes.folder / "app/notes"
    with load.running(notes.url(path="/"), *STEADY) as traffic:
        (app / "migrations/0002_pinned.py").write_text(ADDED)
        notes.edit("    written =", "    pinned = models.BooleanField(null=True)\n    written =", "app/notes/models.py")
        deployed = notes.json("deploy", "dev")
        assert (deployed["outcome"], deployed["release"]) == ("done", 2)
        write(notes, "the second")
        assert asked(db, "SELECT count(pinned), count(*) FROM notes_note") == "0|2"
        (app / "migrations/0003_broken.py").write_text(BROKEN)
        failed = notes.try_instar("deploy", "dev")
        assert failed.status == 1 and 'column "text" of relation' in failed.err, "what the migration says is shown"
        assert notes.json("rollback", "dev")["release"] == 1
        write(notes, "the third, of the old release on the new table")
        with (db.folder / "conf/postgresql.conf").open("a") as file:
            file.write("work_mem = 6MB\n")
        assert db.json("deploy", "dev")["gap_ms"] > 0, "who connects meanwhile waits in the router"
        report = traffic.stop()
    assert report["failed"] == 0, report
    assert set(report["tally"]) == {"1", "2"}
    write(notes, "the fourth")
    assert asked(db, "SELECT count(*) FROM notes_note") == "4"
    assert "Select note to change" in administered(notes), "she is still there"
    assert notes.instar("drift", "dev").status == 0


def administered(notes: Project) -> str:
    """Sign in to the admin as a browser does, with its style sheet, and return what it shows of the notes."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = notes.url(path="/admin/login/?next=/admin/notes/note/")
    with browser.open(page, timeout=30) as answer:
        form = answer.read().decode()
    (style, *_), (token,) = (
        re.findall(pattern, form) for pattern in (r'href="(/static/\S+?\.css)"', r'csrfmiddlewaretoken" value="(\w+)"')
    )
    with browser.open(notes.url(path=style), timeout=30) as answer:
        assert "immutable" in answer.headers["Cache-Control"], "its name changes with what is in it"
    words = {"username": "admin", "password": "a long-winded word", "csrfmiddlewaretoken": token}
    with browser.open(page, urllib.parse.urlencode(words).encode(), timeout=30) as answer:
        shown: str = answer.read().decode()
        return shown
