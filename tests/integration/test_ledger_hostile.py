"""What somebody who may write a shared ledger puts into its rows: root acts by nothing that no definition can say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instar.definition.kept import require_kept
from instar.errors import LedgerDamaged
from instar.ledger import Ledger
from instar.model.codec import canonical, to_json
from instar.model.configuration import Configuration
from instar.model.definition import Task, Volume
from instar.model.digest import Digest
from instar.model.environment import Allow, Network, Settings
from instar.model.host_names import HostNames
from instar.model.progress import silent
from instar.operations.ledger import move_ledger
from instar.operations.status import overview
from instar.workspace import MachineWorkspace
from postgres import PostgresServer
from simulated.values import ENV, configuration, image, service

OUT = "../../../../../etc/cron.d/x"
NOW = "'2026-01-31T12:00:00.000000Z'"


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.wiped()


@pytest.fixture
def ledger(postgres: PostgresServer, database: str) -> Iterator[Ledger]:
    with Ledger(postgres.address(database), actor="ann", check=require_kept) as opened:
        opened.save_settings(ENV, Settings(listen=("127.0.0.1:8080",)))
        opened.add_release(ENV, image().digest, configuration())
        yield opened


def write(postgres: PostgresServer, database: str, *statements: str) -> None:
    postgres.execute("SET search_path = instar", *statements, database=database)


def quoted(value: Any) -> str:
    return "'" + json.dumps(to_json(value)).replace("'", "''") + "'"


def settings_row(value: Any, environment: int = 1) -> str:
    return f"INSERT INTO settings SELECT {environment}, 2, {quoted(value)}, {NOW}"


@pytest.mark.parametrize("name", ["..", ".", "a b", "a\x1b[2J", "-x", "x" * 40, "a%s", "../x"[:2] + "x"])
def test_an_environment_whose_name_is_none_is_damage_and_the_others_are_read(
    postgres: PostgresServer, database: str, ledger: Ledger, name: str
) -> None:
    text = "E'" + name.replace("\x1b", "\\x1b") + "'"
    write(
        postgres,
        database,
        f"INSERT INTO environments (id, service, environment, created_at) VALUES (7, {text}, {text}, {NOW})",
        settings_row(Settings(), 7),
    )
    with pytest.raises(LedgerDamaged, match="is no name of a service or an environment"):
        ledger.environments()
    found, damaged = ledger.readable_environments()
    assert [state.id for state in found] == [ENV] and list(damaged) == [f"{name}/{name}"]


@pytest.mark.parametrize("stem", [OUT, "guestbook-dev-1/../x", "guestbook-dev", "guestbook-dev-1-2", "other-dev-1", ""])
def test_no_instance_has_an_id_that_is_a_path(
    postgres: PostgresServer, database: str, ledger: Ledger, stem: str
) -> None:
    row = f"INSERT INTO instances (serial, id, environment, release, stem, k, created_at) VALUES (9, '{stem}-1', 1, 1,"
    write(postgres, database, f"{row} '{stem}', 1, {NOW})")
    for read in (
        lambda: ledger.instances(ENV),
        ledger.instances,
        lambda: ledger.instance_names(ENV),
        lambda: ledger.instance_releases(ENV),
        lambda: ledger.set_made(f"{stem}-1"),
    ):
        with pytest.raises(LedgerDamaged, match="is no instance of 'guestbook/dev'"):
            read()


RULE = "web/dev accept\nadd rule ip T forward accept\n#"
WRONG_SETTINGS = [
    Settings(listen=("127.0.0.1:80 tcp-ut 1\n  option x",)),
    Settings(instances=10**9),
    Settings(instances=-1),
    Settings(network=Network(allow=(Allow(to=RULE),))),
    Settings(network=Network(allow=(Allow(to="machine", ports=("80 accept; flush ruleset/tcp",)),))),
    Settings(names=HostNames(https=("shop.example\nother",))),
    Settings(names=HostNames(redirect={"a b": "c"})),
    Settings(preview="127.0.0.1"),
    Settings(accept_proxy=("10.0.0.0/8 10.0.0.0/0",)),
]


@pytest.mark.parametrize("settings", WRONG_SETTINGS)
def test_settings_that_no_definition_can_say_are_refused_for_their_environment_alone(
    postgres: PostgresServer, database: str, ledger: Ledger, settings: Settings
) -> None:
    other = replace(ENV, name="production")
    ledger.save_settings(other, Settings())
    write(postgres, database, settings_row(settings))
    with pytest.raises(LedgerDamaged, match="cannot go by what the ledger says of 'guestbook/dev': no definition can"):
        ledger.find_environment(ENV)
    found, damaged = ledger.readable_environments()
    assert [state.id for state in found] == [other] and list(damaged) == ["guestbook/dev"]


WRONG_CONFIGURATIONS = [
    Configuration(service=service(volumes=(Volume(name=OUT, path="/data"),))),
    Configuration(service=service(volumes=(Volume(name="data", path="/data/../../etc"),))),
    Configuration(service=service(before=(Task(command=("x",), volumes=("..",)),))),
    Configuration(service=service(), secrets={OUT: Digest.of(b"x")}),
    Configuration(service=service(), config={"A=B\nC": "d"}),
    Configuration(service=service(capabilities=("CAP_EVERYTHING",))),
    Configuration(service=service(workdir="..")),
]


@pytest.mark.parametrize("wanted", WRONG_CONFIGURATIONS)
def test_no_release_leads_out_of_the_folders_of_its_environment(
    postgres: PostgresServer, database: str, ledger: Ledger, wanted: Configuration
) -> None:
    text = canonical(wanted).decode()
    row = "INSERT INTO releases (environment, number, image, configuration, configuration_digest, created_at)"
    digest = Digest.of(text.encode())
    quotes = text.replace("'", "''")
    write(postgres, database, f"{row} VALUES (1, 2, '{image().digest}', E'{_escaped(quotes)}', '{digest}', {NOW})")
    with pytest.raises(LedgerDamaged, match="no definition can say so"):
        ledger.get_release(ENV, 2)
    with pytest.raises(LedgerDamaged, match="no definition can say so"):
        ledger.releases(ENV)
    assert ledger.get_release(ENV, 1)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def test_a_machine_goes_by_no_such_row_and_shows_the_others(
    postgres: PostgresServer, database: str, ledger: Ledger, tmp_path: Path
) -> None:
    write(postgres, database, settings_row(WRONG_SETTINGS[3]))
    home = {"INSTAR_HOME": str(tmp_path), "INSTAR_LEDGER": postgres.address(database)}
    workspace = MachineWorkspace(home, silent)
    with workspace.ledger:
        assert list(overview(workspace, None).unknown) == ["guestbook/dev"]


@pytest.mark.root
def test_a_hostile_ledger_is_not_moved_into_the_machine_s_own(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    """Its chains hold: whoever has the role writes events, too."""
    address = postgres.address(database)
    with Ledger(address, actor="eve") as theirs:
        theirs.save_settings(ENV, WRONG_SETTINGS[3])
        theirs.verify()
    workspace = MachineWorkspace({"INSTAR_HOME": str(tmp_path)}, silent)
    with pytest.raises(LedgerDamaged, match="no definition can say so"):
        move_ledger(workspace, address, str(tmp_path / "new" / "instar.db"))


def test_what_definitions_say_is_let_pass(postgres: PostgresServer, database: str, ledger: Ledger) -> None:
    allowed = Network(allow=(Allow(to="web/dev", ports=("80/tcp",)), Allow(to="10.0.0.0/8"), Allow(to="machine")))
    names = HostNames(http=("shop.example/api",), https=("*.shop.example",), redirect={"a.example": "b.example"})
    written = Settings(listen=("0.0.0.0:80", "[::1]:80"), names=names, network=allowed, preview="header")
    ledger.save_settings(ENV, written)
    assert ledger.get_environment(ENV).settings == written
    volumes = (Volume(name="data", path="/var/lib/x", size_bytes=16 << 20),)
    made = Configuration(service=service(volumes=volumes), config={"A": ""}, secrets={"TOKEN": Digest.of(b"x")})
    assert ledger.add_release(ENV, image().digest, made).configuration == made
