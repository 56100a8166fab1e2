"""Backups of a machine whose ledger is a PostgreSQL database that it shares, with the database alive or gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_home import DEV, Home, add_image, fill, image_of

from instar.errors import LedgerUnreachable, MachineDoubled, Refused
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from instar.operations.locks import hold_environment
from instar.operations.machine_name import own_name
from postgres import PostgresServer
from simulated.values import configuration

pytestmark = pytest.mark.root
OTHER = EnvironmentId(service="web", name="of-another-machine")


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.address(postgres.wiped())


@pytest.fixture
def home(tmp_path: Path, address: str) -> Home:
    """A machine of two that share a ledger."""
    made = Home(tmp_path / "home", {"INSTAR_LEDGER": address})
    fill(made)
    ledger = made.open().ledger
    ledger.save_settings(OTHER, Settings())
    ledger.set_machine(OTHER, "web2 (77aa01)")
    ledger.close()
    return made


@pytest.fixture
def file(home: Home, tmp_path: Path) -> Path:
    home.back_up(tmp_path / "backup.age")
    return tmp_path / "backup.age"


@pytest.fixture
def elsewhere(postgres: PostgresServer) -> Iterator[str]:
    """Another database, with nothing in it."""
    name = postgres.database()
    yield postgres.address(name)
    postgres.drop(name)


def burn(home: Home) -> str:
    """Have the machine burn down; return what it was called."""
    machine = home.open().machine
    home.path.rename(home.path.with_name("burnt"))
    return machine


def fresh(tmp_path: Path, address: str | None) -> Home:
    return Home(tmp_path / "fresh", {"INSTAR_LEDGER": address} if address else None)


def kinds(home: Home) -> list[str]:
    with home.open().ledger as ledger:
        return [event.kind for event in ledger.history()]


def test_it_goes_on_as_the_machine_of_before_in_the_ledger_that_is_there(
    home: Home, file: Path, tmp_path: Path, address: str
) -> None:
    image, before = image_of(home), kinds(home)
    machine = burn(home)
    here = fresh(tmp_path, address)
    restored = here.restore(file)
    workspace = here.open()
    assert workspace.machine == machine != own_name(workspace.state)
    assert kinds(here) == before, "the ledger was there, and is as it was"
    assert not (here.path / "ledger").exists() and image_of(here) == image and restored.missing == ()
    with hold_environment(workspace, DEV):
        pass
    with pytest.raises(Refused, match="web2"), hold_environment(workspace, OTHER):
        pass


def test_what_was_released_after_the_backup_is_told(home: Home, file: Path, tmp_path: Path, address: str) -> None:
    workspace = home.open()
    newer = add_image(workspace, "newer")
    workspace.ledger.add_release(DEV, newer.digest, configuration())
    workspace.ledger.set_active(DEV, 2)
    workspace.ledger.close()
    burn(home)
    assert fresh(tmp_path, address).restore(file).missing == (str(DEV),)


def test_as_another_machine_it_is_beside_the_original(home: Home, file: Path, tmp_path: Path, address: str) -> None:
    original = home.open()
    with hold_environment(original, DEV):
        pass
    here = fresh(tmp_path, address)
    here.restore(file, machine="new")
    workspace = here.open()
    assert workspace.machine == own_name(workspace.state) != original.machine
    with pytest.raises(Refused), hold_environment(workspace, DEV):
        pass
    with hold_environment(home.open(), DEV):
        pass


def test_while_the_original_acts_nobody_becomes_it(home: Home, file: Path, tmp_path: Path, address: str) -> None:
    with hold_environment(home.open(), DEV):
        pass
    burn(home)
    here = fresh(tmp_path, address)
    with pytest.raises(Refused, match="and may still be there") as error:
        here.restore(file)
    assert error.value.hint is not None and "--original-is-gone" in error.value.hint
    assert not here.path.exists()
    here.restore(file, alone=True)


def test_one_of_the_two_that_act_is_refused(
    home: Home, file: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original is alive on another machine (another boot), whatever somebody said."""
    machine = home.open().machine
    identifier = home.path / "id"
    identifier.rename(identifier.with_name("id-of-the-other"))  # it is not on this machine
    here = fresh(tmp_path, address)
    here.restore(file, alone=True)
    with here.open().ledger as ledger:
        assert ledger.leases is not None
        ledger.leases.act_as(machine, "boot-of-the-original")
        ledger.leases.act_as(machine, "boot-of-another", take_over=True)
    with monkeypatch.context() as patched:
        patched.setattr("instar.operations.own_boot.boot_id", lambda: "boot-of-the-original")
        with pytest.raises(MachineDoubled), hold_environment(here.open(), DEV):
            pass


def test_with_the_database_gone_too_an_empty_one_is_filled(
    home: Home, file: Path, tmp_path: Path, elsewhere: str
) -> None:
    before, image = kinds(home), image_of(home)
    machine = burn(home)
    here = fresh(tmp_path, elsewhere)
    with pytest.raises(Refused, match="two would go on from one"):
        here.restore(file)
    here.restore(file, alone=True)
    assert kinds(here) == [*before, "ledger-restored"] and image_of(here) == image
    workspace = here.open()
    assert workspace.ledger.shared and workspace.machine == machine
    assert {state.machine for state in workspace.ledger.environments()} == {machine, "web2 (77aa01)"}
    workspace.ledger.verify()
    with hold_environment(workspace, DEV):
        pass


def test_killed_when_the_database_is_filled_it_goes_on(
    home: Home, file: Path, tmp_path: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, image = kinds(home), image_of(home)
    burn(home)
    here = fresh(tmp_path, elsewhere)

    def killed(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("instar.operations.restore_shared.own_name", killed)
        here.restore(file, alone=True)
    assert not (here.path / ".restore").exists() and not (here.path / "store").exists()
    here.restore(file)
    assert kinds(here) == [*before, "ledger-restored"] and image_of(here) == image


def test_into_another_ledger_it_is_refused(home: Home, file: Path, tmp_path: Path, elsewhere: str) -> None:
    with Ledger(elsewhere, actor="ann") as other:
        other.save_settings(OTHER, Settings())
    burn(home)
    here = fresh(tmp_path, elsewhere)
    with pytest.raises(Refused, match="it is another ledger than the backup's"):
        here.restore(file, alone=True)
    assert not here.path.exists()


def test_without_a_database_it_waits_for_one(home: Home, file: Path, tmp_path: Path, address: str) -> None:
    burn(home)
    here = fresh(tmp_path, None)
    (tmp_path / "fresh").mkdir(mode=0o700)
    with pytest.raises(Refused, match="nothing here names one"):
        here.restore(file, alone=True)
    with pytest.raises(LedgerUnreachable):
        fresh(tmp_path, "postgresql://nobody@127.0.0.1:9/none").restore(file, alone=True)
    assert not (here.path / "store").exists()
    fresh(tmp_path, address).restore(file)
    assert image_of(fresh(tmp_path, address)) is not None


def test_the_machines_own_file_names_it_again(home: Home, tmp_path: Path, address: str) -> None:
    named = Home(home.path)
    (home.path / "config.yaml").write_text(f"ledger: '{address}'\n")
    named.back_up(tmp_path / "named.age")
    burn(home)
    here = fresh(tmp_path, None)
    here.restore(tmp_path / "named.age")
    assert here.open().ledger.shared and image_of(here) is not None
