"""Two machines, that is two state directories, share a ledger in PostgreSQL, and one of them is given up."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, copied_project

from postgres import PostgresServer

pytestmark = [pytest.mark.root, pytest.mark.thorough]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.database(template=postgres.template)
    yield name
    postgres.drop(name)


@pytest.fixture
def machines(
    baked: Project, postgres: PostgresServer, database: str, tmp_path: Path
) -> Iterator[tuple[Project, Project]]:
    with copied_project(baked, tmp_path / "lost") as lost, copied_project(baked, tmp_path / "there") as there:
        for one in (lost, there):
            (one.home / "config.yaml").write_text(f'ledger: "{postgres.address(database)}"\n')
        yield lost, there


def test_what_was_given_up_is_made_elsewhere_and_ended_where_it_comes_back(
    machines: tuple[Project, Project], postgres: PostgresServer, database: str
) -> None:
    lost, there = machines
    lost.instar("deploy", "dev")
    refused = there.try_instar("deploy", "dev")
    assert refused.status == 1 and "instar destroy hello/dev --lost-machine" in refused.err, refused
    give_up = ("destroy", "hello/dev", "--lost-machine", os.uname().nodename, "--yes")
    early = there.try_instar(*give_up)
    assert early.status == 1 and "it acted last" in early.err, early
    an_hour_ago = "UPDATE instar.boots SET last_at = last_at - interval '1 hour'"
    postgres.execute("SET session_replication_role = replica", an_hour_ago, database=database)
    there.instar(*give_up)
    assert there.json("deploy", "dev")["release"] == 2
    assert there.get("dev") == lost.get("dev") == "hello from version 1\n"
    lost.instar("agent", "--once")
    with pytest.raises(urllib.error.URLError):
        lost.get("dev")
    assert there.get("dev") == "hello from version 1\n"
    assert there.try_instar("drift", "dev").status == 0
    there.instar("history", "--verify")
