"""A ledger's server that is none, is another than before, or has rules and settings of its own."""

from __future__ import annotations

import socket
import threading
from typing import Any

import psycopg
import pytest

from cutting_proxy import CuttingProxy
from instar.errors import LedgerDamaged, LedgerError, LedgerUnreachable
from instar.ledger import Ledger
from instar.ledger.postgresql import PostgreSQL
from instar.model.release import EnvironmentId
from postgres import PostgresServer
from simulated.values import NOTE, note, other

DEV = EnvironmentId(service="guestbook", name="dev")


def standby(postgres: PostgresServer) -> None:
    """Have the server started again as one that follows another, and can only be read."""
    postgres.halt()
    (postgres.data / "standby.signal").touch()
    postgres.start()


def test_a_commit_is_not_taken_for_written_by_a_server_that_took_the_place_of_another(
    by_proxy: str, proxy: CuttingProxy, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There its number may be that of another transaction."""
    with Ledger(by_proxy, actor="ann") as ledger:
        ledger.record(note())
        engine = ledger.session.engine
        assert isinstance(engine, PostgreSQL)
        connect, left = engine._connect, [lambda: (standby(postgres), postgres.execute("SELECT pg_promote()"))]

        def after_a_failover() -> psycopg.Connection[Any]:
            for fail_over in left:
                left.clear()
                fail_over()
            return connect()

        monkeypatch.setattr(engine, "_connect", after_a_failover)
        engine.begin()
        engine.execute("SELECT 1", {})
        proxy.arm(0, heard=True)
        with pytest.raises(LedgerUnreachable, match="another server has taken its place, which may not have it"):
            engine.commit()
        monkeypatch.undo()
        assert [event.kind for event in ledger.history()] == [NOTE]
        ledger.record(other())
        ledger.verify()


def test_a_commit_that_the_server_has_never_heard_of_was_not_written(address: str) -> None:
    with Ledger(address, actor="ann") as ledger:
        engine = ledger.session.engine
        assert isinstance(engine, PostgreSQL)
        engine.begin()
        assert engine._transaction is not None
        number, timeline = engine._transaction.split()
        engine.rollback()
        assert not engine._was_committed(f"{int(number) + 10**6} {timeline}", psycopg.OperationalError("lost"))
        assert not engine._was_committed(f"{number} {timeline}", psycopg.OperationalError("lost"))


def test_a_standby_is_read_and_says_what_it_is(postgres: PostgresServer, address: str) -> None:
    with Ledger(address, actor="ann") as ledger:
        ledger.record(note())
        standby(postgres)
        try:
            assert [event.kind for event in ledger.history()] == [NOTE]
            with pytest.raises(LedgerError, match="it can only be read"):
                ledger.record(other())
        finally:
            postgres.execute("SELECT pg_promote()")
        ledger.record(other())


HIDE = "CREATE FUNCTION instar.hide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"


@pytest.mark.parametrize("changed", ["INSERT", "UPDATE"])
def test_a_lease_that_a_rule_hides_is_damage(
    postgres: PostgresServer, database: str, address: str, changed: str
) -> None:
    hides = f"CREATE TRIGGER hide BEFORE {changed} ON instar.leases FOR EACH ROW EXECUTE FUNCTION instar.hide()"
    postgres.execute(HIDE, hides, database=database)
    with Ledger(address, actor="ann") as ledger:
        assert ledger.leases is not None
        with (
            pytest.raises(LedgerDamaged, match="a lease that is written"),
            ledger.leases.holding(DEV, "a", machine="b"),
        ):
            pass


@pytest.mark.parametrize("change", ["DELETE FROM instar.ledger", "UPDATE instar.ledger SET version = NULL"])
def test_one_that_does_not_say_its_version_is_damage(
    postgres: PostgresServer, database: str, address: str, change: str
) -> None:
    open_to_all = (
        "ALTER TABLE instar.ledger DISABLE TRIGGER USER",
        "ALTER TABLE instar.ledger ALTER version DROP NOT NULL",
    )
    postgres.execute(*open_to_all, change, database=database)
    with pytest.raises(LedgerDamaged, match="it does not say of which version it is"):
        Ledger(address, actor="ann")


def test_what_a_role_prefers_changes_nothing(postgres: PostgresServer, database: str) -> None:
    settings = ("datestyle = 'German, DMY'", "timezone = 'Asia/Kolkata'", "client_encoding = 'LATIN1'")
    postgres.execute("CREATE ROLE otto LOGIN SUPERUSER", *(f"ALTER ROLE otto SET {one}" for one in settings))
    try:
        with Ledger(postgres.address(database, user="otto"), actor="añ漢") as ledger:
            event = ledger.record(note())
            assert event.actor == "añ漢" and abs((ledger.now() - event.at).total_seconds()) < 600
            ledger.verify()
    finally:
        postgres.execute("DROP ROLE otto")


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"J\0\0\0\n8.0.30\0", b"N\xff\xff\xff\xff"])
def test_what_is_no_postgresql_is_a_ledger_out_of_reach(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            client, _ = odd.accept()
            with client:
                client.recv(4096)
                client.sendall(said)
                client.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LedgerUnreachable, match="cannot open 'postgresql://ann@127"):
            Ledger(f"postgresql://ann@127.0.0.1:{odd.getsockname()[1]}/x", actor="ann")
        thread.join(60)
