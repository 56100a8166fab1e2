"""A database of the first schema that PostgreSQL had, with rows of every table as the Instar of then wrote them
(``ledger_postgresql_5.sql``: two environments, one of them removed, in the middle of a rollout), opened by this one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from leftovers import remove_state

from cutting_proxy import CuttingProxy
from instar.errors import LedgerError, LedgerUnreachable
from instar.ledger import Ledger, schema
from instar.model.environment import Settings
from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.providers.local import allocations
from instar.providers.local.names import Names
from instar.workspace import MachineWorkspace
from postgres import PASSWORD, PostgresServer

ROWS = Path(__file__).with_name("ledger_postgresql_5.sql")
DEV = EnvironmentId(service="guestbook", name="dev")
TABLES = ("events", "environments", "settings", "releases", "rollouts", "instances", "tasks")
PROVIDERS = ("address", "boot_id", "pid", "start_time")  # columns that are the provider's since schema 13
BOOT = "0b0f2f3c-5c5e-4b7e-8a64-1f1d2c3b4a59"
Rows = Mapping[str, list[dict[str, Any]]]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.database()
    first = schema.files("postgresql")[0]
    assert first.name == "0005_ledger.sql"
    postgres.execute(
        "CREATE SCHEMA instar",
        "SET search_path = instar",
        first.read_text(),
        "SET session_replication_role = replica",
        ROWS.read_text(),
        database=name,
    )
    yield name
    postgres.drop(name)


@pytest.fixture
def address(postgres: PostgresServer, database: str) -> str:
    return postgres.address(database)


def rows(postgres: PostgresServer, database: str) -> Rows:
    found = {}
    for table in TABLES:
        query = f"SELECT to_jsonb(t)::text FROM instar.{table} t ORDER BY 1"
        found[table] = [json.loads(str(text)) for (text,) in postgres.execute(query, database=database)]
    return found


def test_every_row_is_kept_and_all_of_it_is_what_was_written(
    postgres: PostgresServer, database: str, address: str
) -> None:
    before = rows(postgres, database)
    assert all(before.values()), "a table without rows proves nothing"
    with Ledger(address, actor="ben") as ledger:
        verified = ledger.verify()
        after = rows(postgres, database)
        kinds = [event.kind for event in ledger.history()][len(before["events"]) :]
    assert verified.events == len(before["events"]) + len(kinds)
    assert set(kinds) == {"chain-closed", "checkpoint"}
    for table in TABLES:
        for row in before[table]:
            kept = {name: value for name, value in row.items() if table != "instances" or name not in PROVIDERS}
            assert any(kept.items() <= one.items() for one in after[table]), (table, row)
        assert len(after[table]) == len(before[table]) + (len(kinds) if table == "events" else 0)


def test_it_goes_on_in_the_middle_of_its_rollout(address: str) -> None:
    with Ledger(address, actor="ben") as ledger:
        state = ledger.get_environment(DEV)
        assert state.settings == Settings(listen=("127.0.0.1:8080",), instances=2)
        assert (state.active, state.alarm, state.project) == (1, "5 replacements in 10 minutes", "0123456789abcdef" * 2)
        rollout = state.rollout
        assert rollout is not None and (rollout.source, rollout.target, rollout.stage.step) == (1, 2, 1)
        first = ledger.get_release(DEV, 1)
        assert first.pinned and first.ran_well and first.configuration.config == {"VERSION": "1"}
        made = {one.id: (one.made, one.task) for one in ledger.instances(DEV)}
        assert made == {
            "guestbook-dev-1-2": (True, None),
            "guestbook-dev-1-4": (True, None),
            "guestbook-dev-2-1": (False, None),
            "guestbook-dev-2-2": (False, "before 1"),
        }
        tainted = next(one for one in ledger.instances(DEV) if one.taint is not None)
        assert tainted.id == "guestbook-dev-1-2" and tainted.taint is not None and tainted.taint.why == "a look inside"
        ending = ledger.find_ending("guestbook-dev-1-3")
        assert ending is not None and ending.exit_status == 3
        assert [(task.name, task.outcome) for task in ledger.tasks(DEV, 1)] == [("before 1", "done")]
        for one in ledger.instances(DEV):
            ledger.set_made(one.id)
            ledger.set_started(one.id)
        ledger.end_task(DEV, 2, "before 1", "done", {})
        ledger.set_active(DEV, 2)
        ledger.end_rollout(rollout, "done")
        assert ledger.add_instances(DEV, 2, 1)[0].id == "guestbook-dev-2-3"
        assert ledger.add_release(DEV, first.image, first.configuration).number == 3
        ledger.verify()


def test_a_role_that_may_not_upgrade_it_is_told_who_may(postgres: PostgresServer, database: str) -> None:
    postgres.execute(
        "DROP ROLE IF EXISTS dora",
        "CREATE ROLE dora LOGIN",
        "GRANT USAGE ON SCHEMA instar TO dora",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA instar TO dora",
        database=database,
    )
    before = rows(postgres, database)
    with pytest.raises(LedgerError, match=r"cannot use .*: its schema is number 5, this Instar needs \d+ ") as caught:
        Ledger(postgres.address(database, user="dora"), actor="dora")
    assert caught.value.hint and "instar ledger upgrade" in caught.value.hint and "instar_owner@" in caught.value.hint
    assert rows(postgres, database) == before
    postgres.execute("DROP OWNED BY dora", "DROP ROLE dora", database=database)


@pytest.mark.root
def test_its_instances_are_taken_over_by_their_provider(address: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    workspace = MachineWorkspace({"INSTAR_HOME": str(home), "INSTAR_LEDGER": address}, silent)
    try:
        workspace.provider("local")
        names = Names(workspace.state, workspace.state_id)
        found = {one.id: allocations.find(names.instance(one.id, one.serial)) for one in workspace.ledger.instances()}
        processes = {
            name: one and one.process and (one.process.boot_id, one.process.pid) for name, one in found.items()
        }
        assert processes == {
            "guestbook-dev-1-2": (BOOT, 4100),
            "guestbook-dev-1-4": (BOOT, 4200),
            "guestbook-dev-2-1": None,
            "guestbook-dev-2-2": None,
        }
        assert len({one.address for one in found.values() if one is not None}) == len(found)
    finally:
        workspace.ledger.close()
        remove_state(home)


@pytest.mark.thorough
def test_an_upgrade_that_is_cut_at_any_statement_loses_nothing_and_doubles_nothing(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    events = len(rows(postgres, database)["events"])
    postgres.execute("DROP ROLE IF EXISTS carl", f"CREATE ROLE carl LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    password = tmp_path / "pass"
    password.write_text(f"*:*:*:*:{PASSWORD}\n")
    password.chmod(0o600)
    proxy, at, cuts, told = CuttingProxy(postgres.port), 0, -1, 0
    while cuts < proxy.cuts:
        cuts, copy = proxy.cuts, postgres.database(template=database)
        address = postgres.tcp_address(copy, user="carl", port=proxy.port, passfile=password)
        proxy.arm(at, heard=bool(at % 2))
        try:
            Ledger(address, actor="ben").close()
        except LedgerUnreachable:
            told += 1
        proxy.arm(None)
        with Ledger(address, actor="ben") as ledger:
            kinds = [event.kind for event in ledger.history()][events:]
            assert sorted(kinds) == ["chain-closed", "checkpoint"]
            assert ledger.verify().events == events + 2
        postgres.drop(copy)
        at += 3
    proxy.close()
    assert told > 5, "most of an upgrade is inside transactions"
