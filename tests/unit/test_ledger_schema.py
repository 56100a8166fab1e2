"""Migrations: numbered without gaps, whole or not at all, and they end at the schema that is committed beside them."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged, LedgerNewer
from instar.ledger import Ledger, schema, sqlite
from instar.model.codec import canonical
from instar.model.environment import Settings
from instar.model.release import Stage
from simulated.values import ENV, NOTE, configuration, image, note

REPOSITORY = Path(__file__).parents[2]
AT = "2026-01-01T00:00:00.000000Z"


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The real migrations in a folder that a test can add to."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.files("sqlite")[0].parent, folder / "sqlite")
    monkeypatch.setattr(schema, "_FOLDER", folder)
    schema.files.cache_clear()
    yield folder / "sqlite"
    schema.files.cache_clear()


def test_the_numbers_are_without_gaps() -> None:
    numbers = [schema.number(path) for path in schema.files("sqlite")]
    assert numbers == sorted({*numbers}) and numbers[0] == 1


def test_a_new_ledger_has_every_table_and_its_triggers(connection: sqlite3.Connection) -> None:
    sqlite.migrate(connection)
    assert sqlite.is_ledger(connection)
    tables = {name for kind, name, _ in sqlite.objects(connection) if kind == "table"}
    rows = {"environments", "settings", "releases", "rollouts", "instances", "tasks"}
    assert tables == {*rows, "events", "secret_keys", "signing_keys", "secrets", "provider_records"}
    guarded = {
        sql.split(" ON ", 1)[1].split()[0]
        for kind, _, sql in sqlite.objects(connection)
        if kind == "trigger" and "DELETE" in sql
    }
    assert guarded == tables, "a table whose rows can be deleted"


def test_the_key_by_which_providers_sign_is_made_once_and_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db", actor="ann") as ledger, Ledger(tmp_path / "b.db", actor="ann") as other:
        assert ledger.find_signing_key() is None
        made = ledger.signing_key()
        assert len(made) == 32 and ledger.signing_key() == ledger.find_signing_key() == made != other.signing_key()
        assert made.hex() not in str(list(ledger.history()))
    with sqlite3.connect(tmp_path / "a.db") as connection:
        for change in ("UPDATE signing_keys SET value = value", "DELETE FROM signing_keys"):
            with pytest.raises(sqlite3.IntegrityError, match="key of a ledger is never"):
                connection.execute(change)


def test_every_table_is_strict(connection: sqlite3.Connection) -> None:
    sqlite.migrate(connection)
    assert all(row[5] for row in connection.execute("PRAGMA table_list") if not row[1].startswith("sqlite_"))


def test_every_table_is_documented(connection: sqlite3.Connection) -> None:
    sqlite.migrate(connection)
    text = (REPOSITORY / "docs/ledger.md").read_text()
    assert all(f"| `{name}` |" in text for kind, name, _ in sqlite.objects(connection) if kind == "table")


def test_a_ledger_of_an_older_instar_is_brought_up_and_keeps_what_it_has(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "instar.db"
    with Ledger(path, actor="ann") as ledger:
        ledger.record(note())
    (migrations / "9998_more.sql").write_text("CREATE TABLE more (a TEXT) STRICT;\nINSERT INTO more VALUES (';');\n")
    schema.files.cache_clear()
    with Ledger(path, actor="ann") as ledger:
        assert [event.kind for event in ledger.history()] == [NOTE]
        assert ledger.verify().events == 1
    with sqlite3.connect(path) as connection:
        assert sqlite.version(connection) == schema.latest("sqlite")
        assert connection.execute("SELECT a FROM more").fetchall() == [(";",)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "instar.db"
    Ledger(path, actor="ann").close()
    (migrations / "9998_bad.sql").write_text("CREATE TABLE more (a TEXT);\nINSERT INTO nowhere VALUES (1);\n")
    schema.files.cache_clear()
    with pytest.raises(LedgerDamaged, match="nowhere"):
        Ledger(path, actor="ann")
    with sqlite3.connect(path) as connection:
        assert sqlite.version(connection) == schema.number(schema.files("sqlite")[-2])
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'more'").fetchall()


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "instar.db"
    Ledger(path, actor="ann").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerNewer, match=f"schema 99, this one knows {schema.latest('sqlite')}") as caught:
        Ledger(path, actor="ann")
    assert caught.value.hint and "newer" in caught.value.hint
    assert path.read_bytes() == before


def test_a_ledger_of_the_first_version_goes_on_with_a_running_rollout(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "instar.db"
    later = sorted(migrations.glob("*.sql"))[1:]
    texts = {file: file.read_text() for file in later}
    for file in later:
        file.unlink()
    schema.files.cache_clear()
    old = sqlite3.connect(path, isolation_level=None)
    sqlite.migrate(old)
    settings = canonical({"listen": ["127.0.0.1:8080"], "instances": 2}).decode()
    made = configuration({"VERSION": "1"})
    old.execute("INSERT INTO environments (service, environment, created_at) VALUES ('guestbook', 'dev', ?)", (AT,))
    old.execute("INSERT INTO settings VALUES (1, 1, ?, ?)", (settings, AT))
    old.execute(
        "INSERT INTO releases (environment, number, image, configuration, configuration_digest, created_at)"
        " VALUES (1, 1, ?, ?, ?, ?)",
        (image().digest, canonical(made).decode(), made.digest, AT),
    )
    old.execute(
        "INSERT INTO rollouts (environment, kind, target, actor, started_at) VALUES (1, 'deploy', 1, 'ann', ?)", (AT,)
    )
    old.close()
    for file, text in texts.items():
        file.write_text(text)
    schema.files.cache_clear()
    with Ledger(path, actor="ann") as ledger:
        state = ledger.get_environment(ENV)
        assert state.settings.instances == 2 and state.settings.rollout.strategy == "blue-green"
        assert state.rollout is not None and state.rollout.stage == Stage()
        assert ledger.get_release(ENV, 1).configuration == made


def test_a_ledger_of_every_version_with_a_removed_environment_is_brought_up(tmp_path: Path, migrations: Path) -> None:
    texts = {file: file.read_text() for file in sorted(migrations.glob("*.sql"))}
    for number, newest in enumerate(texts):
        for file, text in texts.items():
            file.write_text(text) if file <= newest else file.unlink(missing_ok=True)
        schema.files.cache_clear()
        path = tmp_path / f"{number}.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
            sqlite.migrate(old)
            old.execute(
                "INSERT INTO environments (id, service, environment, created_at) VALUES (1, 'shop', 'old', ?)", (AT,)
            )
            old.execute("INSERT INTO settings VALUES (1, 1, ?, ?)", (canonical(Settings()).decode(), AT))
            old.execute("UPDATE environments SET destroying = 1")
            old.execute("UPDATE environments SET removed_at = ?", (AT,))
        for file, text in texts.items():
            file.write_text(text)
        schema.files.cache_clear()
        with Ledger(path, actor="ann") as ledger:
            assert (
                ledger.environments() == () and ledger.session.rows("SELECT removed_at FROM environments")[0][0] == AT
            )
            ledger.save_settings(ENV, Settings())
            ledger.verify()
