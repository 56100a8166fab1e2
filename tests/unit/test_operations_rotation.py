"""A rotated secret: what a release, the history and a rollback say of it, and the older release with today's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.definition import load
from instar.errors import ImageNotFound, Refused
from instar.model.configuration import Configuration
from instar.model.digest import Digest
from instar.model.outcome import RolloutOutcome
from instar.model.release import EnvironmentId, Release
from instar.model.rollout_happenings import RolloutBegun
from instar.model.uses import Used
from instar.operations.deploy import deploy
from instar.operations.rollback import rollback, with_todays_secrets
from instar.views.events import detail_line
from simulated.workspace import SimulatedWorkspace

WEB = EnvironmentId(service="web", name="dev")


class World:
    """An environment with a secret that is changed, and one that is not."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, SimulatedWorkspace(folder / "home")
        self.ledger = self.workspace.ledger
        (folder / "same").write_text("same")

    def deploy(self, image: str, secret: str, declared: str = "{TOKEN: {file: token}, SAME: {file: same}}") -> Digest:
        (self.folder / "token").write_text(secret)
        (self.folder / "instar.yaml").write_text(
            "name: web\nimage: {base: debian:bookworm}\nservice: {command: [serve], port: 80}\n"
            f"environments:\n  dev: {{listen: '127.0.0.1:8080', keep: {{hot: 1}}, secrets: {declared}}}\n"
        )
        made = self.workspace.bake(image).digest
        deploy(self.workspace, load(self.folder / "instar.yaml"), "dev", image=made)
        return made

    def back(self, to: int | None = None, *, keep_secrets: bool = False) -> RolloutOutcome:
        self.workspace.told.clear()
        return rollback(self.workspace, self.ledger.get_environment(WEB), to=to, keep_secrets=keep_secrets)

    def told(self) -> list[str]:
        return [one.text for one in self.workspace.told if one.stage == "secrets"]

    def active(self) -> Release:
        return self.ledger.get_release(WEB, self.ledger.get_environment(WEB).active or 0)

    def value(self, name: str = "TOKEN") -> str:
        return self.workspace.state.secret(self.active().configuration.secrets[name]).read_text()

    def begun(self) -> list[tuple[str, ...] | None]:
        """Return what the history has of each rollout."""
        whats = [(one.seq, one.what) for one in self.ledger.history(WEB)]
        return [what.secrets for _, what in sorted(whats, key=lambda one: one[0]) if isinstance(what, RolloutBegun)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.workspace.ledger.close()


def test_a_release_and_the_history_say_which_secrets_changed_by_their_names(world: World) -> None:
    world.deploy("one", "first")
    assert world.told() == []
    world.deploy("one", "second")
    assert world.told() == ["other values than before: TOKEN"]
    world.workspace.told.clear()
    world.deploy("two", "second")
    assert world.told() == []
    world.deploy("two", "second", "{SAME: {file: same}, NEW: {file: token}}")
    assert world.begun() == [None, ("TOKEN",), None, ("NEW", "TOKEN")]
    begun = {"rollout": 2, "kind": "deploy", "from": 1, "secrets": ["A", "B"]}
    assert detail_line("rollout", begun) == "deploy from release 1 · other secrets: A, B"
    assert "first" not in str(list(world.ledger.history(WEB)))


def test_a_rollback_says_first_which_secrets_go_back_and_takes_them_as_they_were(world: World) -> None:
    world.deploy("one", "first")
    world.deploy("two", "second")
    world.back()
    assert world.active().number == 1 and world.value() == "first"
    [text] = world.told()
    assert text.startswith("TOKEN: as release 1 was made with, not as release 2 has it; where that was revoked since:")
    assert world.workspace.told[0].stage == "secrets", "before anything is done"
    assert world.begun()[-1] == ("TOKEN",)


def test_the_older_release_is_made_anew_with_todays_secrets(world: World) -> None:
    one = world.deploy("one", "first")
    world.deploy("two", "second")
    outcome = world.back(keep_secrets=True)
    assert outcome.outcome == "done" and world.told() == []
    made = world.active()
    assert (made.number, made.image, world.value(), world.value("SAME")) == (3, one, "second", "same")
    assert made.origin is not None and made.origin.message == "release 1 with the secrets of release 2"
    assert made.ran_well and world.begun()[-1] is None
    again = world.back(1, keep_secrets=True)
    assert again.outcome == "unchanged" and world.active().number == 3
    assert [one.release for one in world.ledger.instances(WEB) if one.release == 3]


def test_what_the_older_release_used_keeps_nobody_from_going_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("one", "first")
    world.deploy("two", "second")
    used = Used(environment="redis/dev", port=6379, at="redis-dev.ns.svc:80")  # which is gone

    def with_uses(active: Release, target: Release) -> Configuration:
        return dataclasses.replace(with_todays_secrets(active, target), uses=(used,))

    monkeypatch.setattr("instar.operations.rollback.with_todays_secrets", with_uses)
    assert world.back(keep_secrets=True).outcome == "done"
    told = [one.text for one in world.workspace.told if "redis/dev" in one.text]
    assert told == ["it uses redis/dev, which is not there; nobody answers at redis-dev.ns.svc:80"]


def test_where_no_secret_differs_it_is_a_rollback_like_any_other(world: World) -> None:
    world.deploy("one", "same")
    world.deploy("two", "same")
    world.back(keep_secrets=True)
    assert world.active().number == 1 and world.told() == [] and len(list(world.ledger.releases(WEB))) == 2


def test_a_secret_that_the_active_release_does_not_have_is_the_older_ones(world: World) -> None:
    world.deploy("one", "first")
    world.deploy("two", "second", "{TOKEN: {file: token}, NEW: {file: same}}")
    world.back(keep_secrets=True)
    assert world.active().configuration.secrets.keys() == {"TOKEN", "SAME"}
    assert (world.value(), world.value("SAME")) == ("second", "same")


def test_what_is_gone_is_said_and_what_runs_goes_on(world: World) -> None:
    world.deploy("one", "first")
    world.deploy("two", "second")
    active = world.active()
    world.workspace.state.secret(active.configuration.secrets["TOKEN"]).unlink()
    with pytest.raises(Refused, match="its secret 'TOKEN' was removed"):
        world.back(keep_secrets=True)
    assert world.active() == active and len(list(world.ledger.releases(WEB))) == 2
    world.deploy("two", "third")
    with pytest.MonkeyPatch.context() as patched:

        def gone(digest: Digest) -> None:
            raise ImageNotFound(f"cannot find image '{digest.short}'")

        patched.setattr(world.workspace.store, "image", gone)
        with pytest.raises(ImageNotFound):
            world.back(1, keep_secrets=True)
    assert world.active().number == 3
