"""What the tables say of themselves is held by the database, whoever writes: the triggers let nothing else in."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psycopg
import pytest

from instar.errors import Refused
from instar.ledger import Ledger
from instar.ledger.secrets import SecretName
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.release import Command, EnvironmentId
from postgres import PostgresServer
from simulated import VirtualClock
from simulated.values import configuration, image

DEV = EnvironmentId(service="guestbook", name="dev")
GONE = EnvironmentId(service="guestbook", name="gone")
NETWORK = IPv4Network("10.9.0.0/24")
OWN, OTHER = "0" * 32, "f" * 32
AT = "2026-01-01T00:00:00.000000Z"
LATE = "2099-01-01T00:00:00.000000Z"


def write_something(ledger: Ledger) -> None:
    """Put something in every table: an environment that is destroyed, one that goes, one that lives."""
    ledger.save_settings(GONE, Settings())
    ledger.add_release(GONE, image("one").digest, configuration())
    ledger.remove_environment(GONE)
    going = EnvironmentId(service="guestbook", name="going")
    ledger.save_settings(going, Settings())
    ledger.add_release(going, image("one").digest, configuration())
    ledger.set_destroying(going)
    ledger.save_settings(DEV, Settings())
    ledger.put_secrets({SecretName(DEV, "TOKEN", Digest.of(b"token")): "encrypted"})
    ledger.save_settings(DEV, Settings(instances=2))
    ledger.set_project(DEV, OWN)
    first = ledger.add_release(DEV, image("one").digest, configuration())
    ledger.add_release(DEV, image("two").digest, configuration({"A": "b"}))
    ledger.end_rollout(ledger.begin_rollout(DEV, "deploy", first.number), "done", {"switch_ms": 1})
    ledger.set_active(DEV, 1)
    ledger.set_alarm(DEV, "why")
    ledger.set_alarm(DEV, None)
    ledger.begin_rollout(DEV, "deploy", 2)
    ledger.add_instances(DEV, 1, 2)
    ledger.set_made("guestbook-dev-1-1")
    ledger.set_started("guestbook-dev-1-1")
    ledger.taint("guestbook-dev-1-1", "person", "why", after_ms=3_600_000, isolated=True)
    ledger.taint_member("guestbook-dev-1-1", "guestbook-dev-1-1-a", "drift", "why")
    ledger.remove_instance("guestbook-dev-1-2", "why")
    ledger.begin_task(DEV, 1, "before 1")
    ledger.end_task(DEV, 1, "before 1", "done", {})
    ledger.begin_task(DEV, 1, "before 2")
    ledger.begin_run(DEV, 1, Command(argv=("console",)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("guards") / "ledger" / "instar.db"
    with Ledger(found, actor="ann", clock=VirtualClock().now) as ledger:
        write_something(ledger)
    return found


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """One that anybody may have, with what it writes undone afterwards."""
    opened = sqlite3.connect(path, isolation_level=None)
    opened.execute("BEGIN")
    yield opened
    opened.execute("ROLLBACK")
    opened.close()


_DEV = "(SELECT id FROM environments WHERE environment = 'dev')"
_GONE = "(SELECT id FROM environments WHERE environment = 'gone')"
_GOING = "(SELECT id FROM environments WHERE environment = 'going')"
_FIRST = "id = 'guestbook-dev-1-1'"


def _new_release(environment: str, number: int, *, verb: str = "INSERT", row: str = "NULL") -> str:
    return (
        f"{verb} INTO releases (rowid, environment, number, image, configuration, configuration_digest, created_at)"
        f" SELECT {row}, {environment}, {number}, image, configuration, configuration_digest, created_at"
        " FROM releases LIMIT 1"
    )


REFUSED = {
    # what is taken back
    "a taint is taken back": f"UPDATE instances SET taint = NULL WHERE {_FIRST}",
    "a taint is for another reason": (f"UPDATE instances SET taint = json_set(taint, '$.why', 'other') WHERE {_FIRST}"),
    "a taint is somebody else's": f"UPDATE instances SET taint = json_set(taint, '$.actor', 'bob') WHERE {_FIRST}",
    "a taint is due later": f"UPDATE instances SET taint = json_set(taint, '$.due_at', '{LATE}') WHERE {_FIRST}",
    "a taint is never due": f"UPDATE instances SET taint = json_set(taint, '$.due_at', 'never') WHERE {_FIRST}",
    "a taint is not due": f"UPDATE instances SET taint = json_remove(taint, '$.due_at') WHERE {_FIRST}",
    "an isolated one gets traffic": (
        f"UPDATE instances SET taint = json_set(taint, '$.isolated', json('false')) WHERE {_FIRST}"
    ),
    "a taint is empty": f"UPDATE instances SET taint = '{{}}' WHERE {_FIRST}",
    "a member was never tainted": f"UPDATE instances SET tainted_members = NULL WHERE {_FIRST}",
    "a start is moved": f"UPDATE instances SET started_at = '{LATE}' WHERE {_FIRST}",
    "a start is taken back": f"UPDATE instances SET started_at = NULL WHERE {_FIRST}",
    "what was made is not": f"UPDATE instances SET made = 0 WHERE {_FIRST}",
    "a group is of another role": f"UPDATE instances SET role = 'worker' WHERE {_FIRST}",
    "a provider's record is added": (
        f"INSERT INTO provider_records (instance, value) SELECT id, '{{}}' FROM instances WHERE {_FIRST}"
    ),
    "a command is another one": "UPDATE instances SET command = '{}' WHERE command IS NOT NULL",
    "a command's task is another one": "UPDATE instances SET task = 'run 2' WHERE command IS NOT NULL",
    "a removed instance is back": "UPDATE instances SET removed_at = NULL WHERE removed_at IS NOT NULL",
    "a release never ran well": "UPDATE releases SET ran_well = 0 WHERE ran_well = 1",
    "a release never had traffic": "UPDATE releases SET last_active_at = NULL WHERE last_active_at IS NOT NULL",
    "a release had it earlier": f"UPDATE releases SET last_active_at = '{AT[:3]}' WHERE last_active_at IS NOT NULL",
    "a destruction is taken back": f"UPDATE environments SET destroying = 0 WHERE id = {_GOING}",
    "a gone environment is back": f"UPDATE environments SET removed_at = NULL WHERE id = {_GONE}",
    "an environment goes with what is in it": (
        f"UPDATE environments SET active = NULL, destroying = 1, removed_at = '{LATE}' WHERE id = {_DEV}"
    ),
    "an environment goes undecided": (
        f"UPDATE environments SET active = NULL, destroying = 0, removed_at = '{LATE}' WHERE id = {_DEV}"
    ),
    "failures count again": f"UPDATE environments SET counted_since = NULL WHERE id = {_DEV}",
    "failures count from before": f"UPDATE environments SET counted_since = '{AT[:3]}' WHERE id = {_DEV}",
    "a project forgets its environment": f"UPDATE environments SET project = NULL WHERE id = {_DEV}",
    "a project takes one over": f"UPDATE environments SET project = '{OTHER}' WHERE id = {_DEV}",
    "a running rollout has its end": "UPDATE rollouts SET detail = '{\"a\":1}' WHERE state = 'running'",
    "an ended rollout runs": "UPDATE rollouts SET state = 'running', ended_at = NULL WHERE state = 'done'",
    "a secret has another value": "UPDATE secrets SET value = 'another'",
    "a secret is another one": "UPDATE secrets SET name = 'OTHER', value = NULL",
    "an ended task has another end": "UPDATE tasks SET outcome = 'failed' WHERE name = 'before 1'",
    # what does not begin at the beginning
    "a rollout that is done begins": (
        "INSERT INTO rollouts (environment, kind, target, state, actor, started_at, ended_at)"
        f" VALUES ({_DEV}, 'deploy', 1, 'done', 'a', '{AT}', '{AT}')"
    ),
    "an environment that goes begins": (
        f"INSERT INTO environments (service, environment, destroying, created_at) VALUES ('a', 'b', 1, '{AT}')"
    ),
    "a release that ran well begins": (
        "INSERT INTO releases (environment, number, image, configuration, configuration_digest, created_at, ran_well)"
        f" SELECT {_DEV}, 9, image, configuration, configuration_digest, created_at, 1 FROM releases LIMIT 1"
    ),
    "an instance that runs begins": (
        "INSERT INTO instances (id, environment, release, role, stem, k, members, created_at, started_at)"
        f" VALUES ('s-9', {_DEV}, 1, '', 's', 9, 1, '{AT}', '{AT}')"
    ),
    "a task that is done begins": (
        "INSERT INTO tasks (environment, release, name, instance, began_at, ended_at, outcome)"
        f" VALUES ({_DEV}, 1, 'after 1', 'guestbook-dev-1-1', '{AT}', '{AT}', 'done')"
    ),
    # what is added where nothing may be
    "settings of one that goes": f"INSERT INTO settings SELECT {_GOING}, 9, value, created_at FROM settings LIMIT 1",
    "settings of one that has gone": f"INSERT INTO settings SELECT {_GONE}, 9, value, created_at FROM settings LIMIT 1",
    "a release of one that goes": _new_release(_GOING, 9),
    "a rollout of one that goes": (
        "INSERT INTO rollouts (environment, kind, target, actor, started_at)"
        f" VALUES ({_GOING}, 'deploy', 1, 'a', '{AT}')"
    ),
    "an instance of one that goes": (
        "INSERT INTO instances (id, environment, release, role, stem, k, members, created_at)"
        f" VALUES ('s-9', {_GOING}, 1, '', 's', 9, 1, '{AT}')"
    ),
    "a number that is used": _new_release(_DEV, 2),
    # what takes another row's place: by a key, and by the number that every row has
    "an environment in another's place": (
        "INSERT OR REPLACE INTO environments (id, service, environment, created_at)"
        f" VALUES ({_DEV}, 'guestbook', 'new', '{AT}')"
    ),
    "an environment of another's name": (
        f"INSERT OR REPLACE INTO environments (service, environment, created_at) VALUES ('guestbook', 'dev', '{AT}')"
    ),
    "a rollout in another's place": (
        "INSERT OR REPLACE INTO rollouts (id, environment, kind, target, actor, started_at)"
        f" VALUES (1, {_GONE}, 'deploy', 1, 'a', '{AT}')"
    ),
    "a rollout in the running one's place": (
        "INSERT OR REPLACE INTO rollouts (environment, kind, target, actor, started_at)"
        f" VALUES ({_DEV}, 'deploy', 1, 'a', '{AT}')"
    ),
    "an instance in another's place": (
        "INSERT OR REPLACE INTO instances (serial, id, environment, release, role, stem, k, members, created_at)"
        f" VALUES (1, 's-9', {_DEV}, 1, '', 's', 9, 1, '{AT}')"
    ),
    "an instance of another's name": (
        "INSERT OR REPLACE INTO instances (id, environment, release, role, stem, k, members, created_at)"
        f" SELECT id, environment, 1, role, stem, k, members, created_at FROM instances WHERE {_FIRST}"
    ),
    "a task with another's instance": (
        "INSERT OR REPLACE INTO tasks (environment, release, name, instance, began_at)"
        " SELECT environment, release, 'after 1', instance, began_at FROM tasks WHERE name = 'before 2'"
    ),
    "a release in another's row": _new_release(_DEV, 9, verb="INSERT OR REPLACE", row="1"),
    "settings in another's row": (
        "INSERT OR REPLACE INTO settings (rowid, environment, version, value, created_at)"
        f" VALUES (1, {_DEV}, 9, '{{}}', '{AT}')"
    ),
    **{
        f"{table} by their rows": f"UPDATE OR REPLACE {table} SET rowid = 1 WHERE rowid = 2"
        for table in ("environments", "settings", "releases", "rollouts", "instances", "tasks", "events")
    },
    "instances by another word for a row": "UPDATE OR REPLACE instances SET _rowid_ = 1 WHERE rowid = 2",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_tables_say_of_themselves_is_held(connection: sqlite3.Connection, case: str) -> None:
    tables = ("environments", "settings", "releases", "rollouts", "instances", "tasks", "events")

    def everything() -> list[list[tuple[object, ...]]]:
        secrets = connection.execute("SELECT * FROM secrets").fetchall()
        return [secrets, *(connection.execute(f"SELECT rowid, * FROM {table}").fetchall() for table in tables)]

    before = everything()
    connection.execute("SAVEPOINT one")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(REFUSED[case])
    assert everything() == before


@pytest.fixture(scope="module")
def on_postgresql(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """Anybody's connection to the same ledger on PostgreSQL, with what it writes undone."""
    address = postgres.address(postgres.wiped())
    with Ledger(address, actor="ann", clock=VirtualClock().now) as ledger:
        write_something(ledger)
    with psycopg.connect(address, options="-c search_path=instar") as connection:
        yield connection
        connection.rollback()


def for_postgresql(statement: str) -> str:
    """Return a statement that SQLite understands as PostgreSQL does: JSON has other functions, rows have no number, and
    who adds a row says its number."""
    statement = re.sub(
        r"json_set\(taint, '\$\.(\w+)', '(\w[^']*)'\)", r"""(taint::jsonb || '{"\1": "\2"}')::json""", statement
    )
    statement = re.sub(
        r"json_set\(taint, '\$\.(\w+)', json\('(\w+)'\)\)", r"""(taint::jsonb || '{"\1": \2}')::json""", statement
    )
    statement = re.sub(r"json_remove\(taint, '\$\.(\w+)'\)", r"(taint::jsonb - '\1')::json", statement)
    statement = statement.replace("(rowid, ", "(").replace("SELECT NULL, ", "SELECT ")
    for table, key in (("rollouts", "id"), ("environments", "id"), ("instances", "serial")):
        statement = re.sub(
            rf"INTO {table} \((?!{key}, )(.*?)\) (VALUES \(|SELECT )",
            rf"INTO {table} ({key}, \1) \g<2>9999, ",
            statement,
        )
    return statement


@pytest.mark.parametrize("case", [case for case in REFUSED if " OR REPLACE " not in REFUSED[case]])
def test_postgresql_holds_the_same(on_postgresql: psycopg.Connection[Any], case: str) -> None:
    refusal = (psycopg.errors.RaiseException, psycopg.errors.InvalidDatetimeFormat)
    with pytest.raises(refusal), on_postgresql.transaction():
        on_postgresql.execute(for_postgresql(REFUSED[case]).encode())


@pytest.mark.parametrize(
    "table", ["events", "environments", "settings", "releases", "rollouts", "instances", "tasks", "secrets"]
)
@pytest.mark.parametrize("how", ["DELETE FROM", "TRUNCATE"])
def test_postgresql_deletes_nothing(on_postgresql: psycopg.Connection[Any], table: str, how: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="never deleted"), on_postgresql.transaction():
        on_postgresql.execute(f"{how} {table}{' CASCADE' if how == 'TRUNCATE' else ''}".encode())


@pytest.mark.parametrize("table", ["events", "settings"])
def test_postgresql_changes_no_event_and_no_settings(on_postgresql: psycopg.Connection[Any], table: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="never changed"), on_postgresql.transaction():
        on_postgresql.execute(f"UPDATE {table} SET {'seq = seq' if table == 'events' else 'version = 9'}".encode())


def test_what_the_tables_allow_goes_through(path: Path, connection: sqlite3.Connection) -> None:
    for statement in (
        f"UPDATE instances SET taint = json_set(taint, '$.due_at', '{AT}') WHERE {_FIRST}",
        "UPDATE instances SET made = 1 WHERE made = 0 AND removed_at IS NULL",
        "UPDATE instances SET started_at = '9' WHERE made = 1 AND started_at IS NULL AND removed_at IS NULL",
        f"UPDATE releases SET last_active_at = '{LATE}' WHERE last_active_at IS NOT NULL",
        _new_release(_DEV, 3),
        "UPDATE rollouts SET state = 'failed', detail = '{\"a\":1}', ended_at = '9' WHERE state = 'running'",
        f"INSERT INTO environments (service, environment, created_at) VALUES ('guestbook', 'gone', '{AT}')",
        "UPDATE releases SET pinned = 1",
        "UPDATE releases SET pinned = 0",
        "UPDATE secrets SET value = NULL",
        "UPDATE secrets SET value = 'again'",
    ):
        assert connection.execute(statement).rowcount, statement
    number_again = _new_release("(SELECT max(id) FROM environments)", 1)
    with pytest.raises(sqlite3.IntegrityError, match="never used again"):
        connection.execute(number_again)


def test_a_second_taint_makes_the_first_due_earlier_and_isolates(tmp_path: Path) -> None:
    clock = VirtualClock()
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann", clock=clock.now) as ledger:
        ledger.save_settings(DEV, Settings())
        ledger.add_release(DEV, image("one").digest, configuration())
        ledger.add_instances(DEV, 1, 1)
        first = ledger.taint("guestbook-dev-1-1", "person", "first", after_ms=60_000)
        clock.sleep(1.5)
        second = ledger.taint("guestbook-dev-1-1", "shell", "second", after_ms=1_000, isolated=True)
        assert (second.why, second.at, second.isolated) == ("first", first.at, True)
        assert second.due_at < first.due_at - timedelta(seconds=50)
        third = ledger.taint("guestbook-dev-1-1", "drift", "third", after_ms=3_600_000)
        assert third == second


def test_an_environment_remembers_whose_it_is(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        ledger.save_settings(DEV, Settings())
        assert ledger.get_environment(DEV).project is None
        ledger.set_project(DEV, OWN)
        ledger.set_project(DEV, OWN)
        with pytest.raises(Refused, match="another project of that name has it"):
            ledger.set_project(DEV, OTHER)
        assert ledger.get_environment(DEV).project == OWN
        ledger.set_project(DEV, OTHER, adopt=True)
        assert ledger.get_environment(DEV).project == OTHER
        told = [(event.kind, event.detail) for event in ledger.history(DEV)][1:]
        assert told == [
            ("project", {"project": OWN}),
            ("name-adopted", {"project": OTHER, "from": OWN}),
        ]
        ledger.remove_environment(DEV)
        ledger.save_settings(DEV, Settings())
        assert ledger.get_environment(DEV).project is None, "a name that was given up is free"
        assert ledger.verify().events == len(ledger.history())
