"""Secrets that no kept release needs are removed, and no others; a rollback to what needed them is refused."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from instar.errors import Refused
from instar.ledger import Ledger
from instar.ledger.secrets import SecretName
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.environment import Environment, SecretSource, Settings
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.operations.locks import hold_needs, keep_from_gc
from instar.operations.old_secrets import remove_old_secrets, remove_old_secrets_if_free
from instar.operations.secret_values import require_values
from instar.operations.secrets import keep_secrets
from instar.operations.workspace import Workspace
from simulated.values import configuration, image
from transactions import permitted

DEV = EnvironmentId(service="web", name="dev")


class World:
    """An environment of which one release is kept beside the active one; each has its own secret."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self.state = StateDirectory.from_environment({"INSTAR_HOME": str(folder / "home")})
        self.ledger = ledger
        self.workspace = cast(Workspace, SimpleNamespace(state=self.state, ledger=ledger, report=lambda progress: None))
        ledger.save_settings(DEV, Settings())

    def release(self, content: str) -> Digest:
        (self.folder / "token").write_text(content)
        secrets = keep_secrets(
            self.state, self.folder, Environment(name="dev", secrets={"TOKEN": SecretSource(file="token")})
        )
        made = Configuration(service=configuration().service, config={}, secrets=secrets)
        number = self.ledger.add_release(DEV, image().digest, made).number
        self.ledger.add_instances(DEV, number, 1)
        return secrets["TOKEN"]

    def kept(self) -> set[str]:
        return {path.name for path in self.state.secrets.iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Ledger(tmp_path / "ledger" / "instar.db", actor="ann") as ledger:
        yield World(tmp_path, ledger)


def test_what_a_release_with_instances_has_stays_and_goes_with_it(world: World) -> None:
    one, two = world.release("one"), world.release("two")
    assert remove_old_secrets(world.workspace) == 0 and world.kept() == {"key", one.hex, two.hex}
    world.ledger.remove_instance("web-dev-1-1", "over")
    assert remove_old_secrets(world.workspace, dry_run=True) == 1 and world.kept() == {"key", one.hex, two.hex}
    assert remove_old_secrets(world.workspace) == 1 and world.kept() == {"key", two.hex}


def test_one_that_two_releases_share_stays_as_long_as_either(world: World) -> None:
    one = world.release("one")
    assert world.release("one") == one
    world.ledger.remove_instance("web-dev-1-1", "over")
    assert remove_old_secrets(world.workspace) == 0 and world.kept() == {"key", one.hex}


def test_of_a_removed_environment_nothing_stays_nor_what_a_killed_process_was_writing(world: World) -> None:
    one = world.release("one")
    (world.state.secrets / f".{one.hex}.4711").write_text("on")
    (world.state.secrets / "NOTES").write_text("somebody's own")
    world.ledger.remove_instance("web-dev-1-1", "over")
    world.ledger.remove_environment(DEV)
    remove_old_secrets_if_free(world.workspace)
    assert world.kept() == {"key", "NOTES"}


def test_nothing_is_removed_while_somebody_makes_a_release(world: World) -> None:
    one = world.release("one")
    world.ledger.remove_instance("web-dev-1-1", "over")
    with keep_from_gc(world.workspace):
        remove_old_secrets_if_free(world.workspace)
    assert world.kept() == {"key", one.hex}
    remove_old_secrets_if_free(world.workspace)
    assert world.kept() == {"key"}


def test_a_rollback_to_what_needed_it_is_refused(world: World) -> None:
    world.release("one")
    release = world.ledger.get_release(DEV, 1)
    require_values(world.workspace, release)
    world.ledger.remove_instance("web-dev-1-1", "over")
    remove_old_secrets(world.workspace)
    with pytest.raises(Refused, match="cannot go to release 1: its secret 'TOKEN' was removed") as caught:
        require_values(world.workspace, release)
    assert "keep.releases" in (caught.value.hint or "")


def test_one_that_was_damaged_is_kept_anew(world: World) -> None:
    one = world.release("one")
    world.state.secret(one).write_text("no")
    world.release("one")
    assert world.state.secret(one).read_text() == "one"
    assert world.state.secret(one).stat().st_mode & 0o777 == 0o600


def test_who_begins_to_need_one_that_is_being_removed_waits_and_finds_it_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release("one")
    release = world.ledger.get_release(DEV, 1)
    world.ledger.remove_instance("web-dev-1-1", "over")
    genuine, refused = world.ledger.remove_secrets, []

    def needs_it() -> None:
        with hold_needs(world.workspace):
            try:
                require_values(world.workspace, release)
            except Refused as error:
                refused.append(error)

    other = threading.Thread(target=needs_it)

    def late(needed: Collection[SecretName], *, dry_run: bool) -> Iterable[Digest]:
        with permitted():
            other.start()
            other.join(0.2)
        assert other.is_alive()
        return genuine(needed, dry_run=dry_run)

    monkeypatch.setattr(world.ledger, "remove_secrets", late)
    assert remove_old_secrets(world.workspace) == 1
    other.join()
    assert refused
