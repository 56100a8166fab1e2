"""A ledger in a real PostgreSQL: who is let in, what is said of a database that fails, and connections that are cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from cutting_proxy import CuttingProxy
from instar.errors import LedgerDamaged, LedgerError, LedgerNewer, LedgerUnreachable, UsageError
from instar.ledger import Ledger, schema
from instar.ledger.postgresql import PostgreSQL
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.waiting import Deadline
from postgres import PostgresServer
from simulated.values import NOTE, OTHER, configuration, image, note, other

DEV = EnvironmentId(service="guestbook", name="dev")


def test_the_schema_is_the_one_that_is_committed_beside_the_migrations(address: str) -> None:
    committed = (schema.files("postgresql")[0].parent / "objects.txt").read_text().splitlines()
    with Ledger(address, actor="ann") as ledger:
        assert isinstance(ledger.session.engine, PostgreSQL)
        assert list(ledger.session.engine.objects()) == committed


def test_both_engines_are_of_the_same_version() -> None:
    assert schema.latest("postgresql") == schema.latest("sqlite")


# cut connections


def say_until_written(ledger: Ledger, number: int) -> int:
    """Write a group of two events as whoever is told that it was not written: again. Return how often it was tried."""
    for tries in range(1, 5):
        try:
            with ledger.transaction():
                ledger.record(note(number))
                ledger.record(other(number))
            return tries
        except LedgerUnreachable:
            continue
    raise AssertionError("it is never written")


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_a_connection_that_is_cut_at_any_statement_loses_nothing_and_doubles_nothing(
    by_proxy: str, proxy: CuttingProxy, heard: bool
) -> None:
    with Ledger(by_proxy, actor="ann") as ledger:
        at, cuts = 0, -1
        while cuts < proxy.cuts:
            cuts = proxy.cuts
            proxy.arm(at, heard=heard)
            say_until_written(ledger, at)
            proxy.arm(None)
            told = [(event.kind, event.detail) for event in ledger.history()]
            written = [(kind, detail["what" if kind == NOTE else "volume"]) for kind, detail in told]
            assert written == [(kind, str(number)) for number in range(at + 1) for kind in (NOTE, OTHER)]
            at += 1
        assert at > 10, "a group is more than ten statements"
        assert ledger.verify().events == 2 * at


def test_a_commit_that_was_heard_is_known_to_be_written(by_proxy: str, proxy: CuttingProxy) -> None:
    with Ledger(by_proxy, actor="ann") as ledger:
        ledger.record(note())
        proxy.arm(None)
        ledger.session.engine.begin()
        ledger.session.engine.execute("SELECT 1", {})
        proxy.arm(0, heard=True)
        ledger.session.engine.commit()
        assert proxy.cuts == 1


def test_a_verb_that_is_cut_is_done_once_when_it_is_asked_again(by_proxy: str, proxy: CuttingProxy) -> None:
    """A release and its rollout are one decision: after each cut there is the whole of it or nothing."""
    with Ledger(by_proxy, actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        at, cuts, done = 0, -1, 0
        while cuts < proxy.cuts:
            cuts = proxy.cuts
            proxy.arm(at, heard=bool(at % 2))
            _until_done(lambda: _deploy(ledger))
            proxy.arm(None)
            state = ledger.get_environment(DEV)
            assert state.rollout is not None and state.rollout.target == done + 1
            assert [release.number for release in ledger.releases(DEV)] == list(range(done + 1, 0, -1))
            ledger.end_rollout(state.rollout, "done")
            at, done = at + 3, done + 1
        ledger.verify()


def _deploy(ledger: Ledger) -> None:
    with ledger.transaction():
        if ledger.get_environment(DEV).rollout is None:
            release = ledger.add_release(DEV, image().digest, configuration())
            ledger.begin_rollout(DEV, "deploy", release.number)


def _until_done(act: Callable[[], None]) -> None:
    for _ in range(5):
        try:
            return act()
        except LedgerUnreachable:
            continue
    raise AssertionError("it is never done")


def test_reads_go_on_over_a_new_connection(by_proxy: str, proxy: CuttingProxy) -> None:
    with Ledger(by_proxy, actor="ann") as ledger:
        ledger.record(note())
        proxy.cut_all()
        assert [event.kind for event in ledger.history()] == [NOTE]
        proxy.cut_all()
        assert ledger.record(other()).seq == 2


# who is let in, and what is said


def test_no_message_has_the_password(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("*:*:*:*:hunter2-wrong\n")
    wrong.chmod(0o600)
    for address in (
        postgres.tcp_address(database, user="ann", passfile=wrong),
        postgres.tcp_address(database, user="ann", passfile=tmp_path / "none"),
        postgres.tcp_address(database, user="ann").replace("ann@", "ann:hunter2-wrong@"),
        "postgresql://ann:hunter2-wrong%zz@host/x",
    ):
        with pytest.raises((LedgerUnreachable, UsageError)) as caught:
            Ledger(address, actor="ann")
        chain: list[BaseException | None] = [caught.value, caught.value.__cause__]
        assert not any("hunter2" in f"{error} {getattr(error, 'hint', '')}" for error in chain)
        assert caught.value.hint and ("passfile" in caught.value.hint or "service" in caught.value.hint)


def test_a_database_that_is_not_there(postgres: PostgresServer, password_file: Path) -> None:
    with pytest.raises(LedgerUnreachable, match=r'cannot open .*"nowhere" does not exist'):
        Ledger(postgres.tcp_address("nowhere", user="ann", passfile=password_file), actor="ann")
    with pytest.raises(LedgerUnreachable, match="refused") as caught:
        Ledger(postgres.tcp_address("x", user="ann", port=1), actor="ann")
    assert caught.value.hint and "what runs goes on without it" in caught.value.hint


def test_a_database_that_does_not_exist_has_its_own_hint(postgres: PostgresServer, password_file: Path) -> None:
    for address in (
        postgres.address("nowhere"),
        postgres.tcp_address("nowhere", user="ann", passfile=password_file),
    ):
        with pytest.raises(LedgerUnreachable) as caught:
            Ledger(address, actor="ann")
        assert caught.value.hint is not None
        assert "createdb -E UTF8 -T template0 nowhere" in caught.value.hint
        assert "password" not in caught.value.hint and "instar ledger role" in caught.value.hint


def test_a_role_that_is_not_there_and_a_machine_that_is_not_let_in_have_theirs(
    postgres: PostgresServer, database: str
) -> None:
    with pytest.raises(LedgerUnreachable, match='role "nobody" does not exist') as caught:
        Ledger(postgres.address(database, user="nobody"), actor="ann")
    assert caught.value.hint == f"the roles of a ledger are made by: instar ledger role | psql {database}"
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(before.replace("host all", "hostssl all"))
    postgres.execute("SELECT pg_reload_conf()")
    try:
        refused = Deadline.after(30)
        while True:
            with pytest.raises(LedgerUnreachable) as caught:
                Ledger(postgres.tcp_address(database, user="ann"), actor="ann")
            if "no pg_hba.conf entry" in caught.value.message or refused.is_over:
                break
        assert caught.value.hint and f"whether the name '{database}' is right" in caught.value.hint
        assert "hostssl with ?sslmode=require" in caught.value.hint
    finally:
        rules.write_text(before)
        postgres.execute("SELECT pg_reload_conf()")


def test_why_there_is_no_password_is_said(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    file = tmp_path / "pass"

    def hint() -> str:
        with pytest.raises(LedgerUnreachable) as caught:
            Ledger(postgres.tcp_address(database, user="ann", passfile=file), actor="ann")
        assert caught.value.hint is not None and "hunter2" not in caught.value.hint
        return caught.value.hint

    assert f"there is no file '{file}'" in hint()
    file.write_text(f"127.0.0.1:{postgres.port}:{database}:ben:hunter2\n# a:b:c:d:e\n\n")
    file.chmod(0o640)
    assert f"chmod 0600 '{file}'" in hint()
    file.chmod(0o600)
    assert f"'{file}' has no line of 127.0.0.1:{postgres.port}:{database}:ann:PASSWORD" in hint()
    file.write_text(f"127.0.0.1:{postgres.port}:*:\\ann:hunter2\n")
    assert "where it is the password of 'ann' that is refused" in hint()
    file.unlink()
    file.mkdir(mode=0o700)
    assert f"'{file}' cannot be read (is a directory)" in hint()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://db.example/instar?sslmod=require", "no parameter 'sslmod'; did you mean 'sslmode'?"),
        ("postgresql://db.example/instar?sslmode=require&pasfile=/x", "'pasfile'; did you mean 'passfile'?"),
        ("postgresql://db.example/instar?hunter2=x", "it is not one that libpq can read"),
    ],
)
def test_a_misspelt_parameter_is_named_with_its_nearest_word(address: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Ledger(address, actor="ann")
    assert told in caught.value.message and "hunter2" not in caught.value.message


def test_a_newer_ledger_is_refused_and_left_alone(postgres: PostgresServer, database: str, address: str) -> None:
    postgres.execute("UPDATE instar.ledger SET version = 99", database=database)
    with pytest.raises(LedgerNewer, match="schema 99, this one knows"):
        Ledger(address, actor="ann")
    assert postgres.execute("SELECT version FROM instar.ledger", database=database) == [(99,)]


def test_one_that_can_only_be_read_is_read(postgres: PostgresServer, database: str, address: str) -> None:
    with Ledger(address, actor="ann") as ledger:
        ledger.record(note())
    postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with Ledger(address, actor="ann") as ledger:
        assert [event.kind for event in ledger.history()] == [NOTE]
        with pytest.raises(LedgerError, match="it can only be read"):
            ledger.record(other())


@pytest.fixture
def small_space(postgres: PostgresServer) -> Iterator[str]:
    """A database on a disk of its own, which has little room beside it. Its folder is one that the server can enter."""
    folder = Path(tempfile.mkdtemp(prefix="instar-pg-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m,mode=0777", "instar-test", folder], check=True)
    folder.chmod(0o755)
    try:
        inside = folder / "space"
        inside.mkdir(mode=0o777)
        shutil.chown(inside, "postgres")
        name = postgres.database(template=postgres.template)
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{inside}'", f"ALTER DATABASE {name} SET TABLESPACE small")
        yield postgres.address(name)
        postgres.drop(name)
        postgres.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.mark.root
def test_a_full_disk_loses_nothing(postgres: PostgresServer, small_space: str) -> None:
    with Ledger(small_space, actor="ann") as ledger:
        written = 0
        with pytest.raises(LedgerError, match="the database's disk is full") as caught:
            for _ in range(500):
                ledger.record(note(os.urandom(50_000).hex()))
                written += 1
        assert caught.value.hint and "this was not written down" in caught.value.hint
        assert 0 < written == len(ledger.history())
        ledger.verify()


def test_the_printed_roles_are_all_that_it_needs(postgres: PostgresServer) -> None:
    database = postgres.database()
    postgres.execute(schema.role_script(), database=database)
    try:
        with pytest.raises(LedgerError, match=r"cannot use .*: it has no schema yet \(permission denied") as caught:
            Ledger(postgres.address(database, user="instar"), actor="ann")
        assert caught.value.hint and "instar ledger upgrade" in caught.value.hint and "ledger copy" in caught.value.hint
        Ledger(postgres.address(database, user="instar_owner"), actor="ann").close()
        with Ledger(postgres.address(database, user="instar"), actor="ann") as ledger:
            ledger.save_settings(DEV, Settings())
            _deploy(ledger)
            ledger.verify()
            assert ledger.leases is not None
            with ledger.leases.holding(DEV, "ann", machine="web1"):
                ledger.set_active(DEV, 1)
            for statement in ("DELETE FROM events", "TRUNCATE events", "ALTER TABLE events DISABLE TRIGGER ALL"):
                with pytest.raises(LedgerError, match=r"permission denied|must be owner"):
                    ledger.session.engine.execute(statement, {}, "write")
    finally:
        postgres.drop(database)
        postgres.execute("DROP ROLE instar", "DROP ROLE instar_owner")


def test_a_role_without_rights_is_told_where_to_get_them(postgres: PostgresServer, database: str) -> None:
    postgres.execute("DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    with pytest.raises(LedgerError, match="permission denied") as caught:
        Ledger(postgres.address(database, user="poor"), actor="poor")
    assert (
        caught.value.hint == "give its role what it needs: instar ledger role; and as its owner: instar ledger upgrade"
    )


def test_a_writer_that_never_ends_is_named_as_the_cause(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(address, actor="ann") as one, Ledger(address, actor="bob") as other, one.transaction():
        other.session.engine.execute("SET lock_timeout = '50ms'", {})
        with pytest.raises(LedgerError, match="another process has kept it locked"):
            other.record(note())
        assert other.history() == ()


def test_a_changed_schema_is_found(postgres: PostgresServer, database: str, address: str) -> None:
    with Ledger(address, actor="ann") as ledger:
        ledger.record(note())
        ledger.verify()
        postgres.execute("ALTER TABLE instar.events DISABLE TRIGGER events_kept", database=database)
        with pytest.raises(LedgerDamaged, match="its schema was changed: events"):
            ledger.verify()


def test_a_changed_event_is_found(postgres: PostgresServer, database: str, address: str) -> None:
    with Ledger(address, actor="ann") as ledger:
        for number in range(3):
            ledger.record(note(number))
        with pytest.raises(psycopg.errors.RaiseException, match="rows of events are never changed"):
            postgres.execute("UPDATE instar.events SET actor = 'eve'", database=database)
        postgres.execute(
            "ALTER TABLE instar.events DISABLE TRIGGER events_unchanged",
            "UPDATE instar.events SET actor = 'eve' WHERE seq = 2",
            "ALTER TABLE instar.events ENABLE TRIGGER events_unchanged",
            database=database,
        )
        with pytest.raises(LedgerDamaged, match="event 2 is not what was written"):
            ledger.verify()
