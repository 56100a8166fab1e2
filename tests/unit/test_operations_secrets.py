"""Secrets are kept by a keyed digest, and never taken from outside of the author's folder."""

from pathlib import Path

import pytest

from instar.errors import Refused
from instar.model.environment import Environment, SecretSource
from instar.model.state import StateDirectory
from instar.operations.secrets import keep_secrets, look_at_secrets


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path / "home")})


def environment(file: str = "token") -> Environment:
    return Environment(name="dev", secrets={"TOKEN": SecretSource(file=file)})


def test_a_secret_is_kept_for_root_alone_and_its_digest_changes_with_it(tmp_path: Path, state: StateDirectory) -> None:
    (tmp_path / "token").write_text("one")
    first = keep_secrets(state, tmp_path, environment())
    assert state.secret(first["TOKEN"]).read_text() == "one"
    assert state.secret(first["TOKEN"]).stat().st_mode & 0o777 == 0o600
    assert look_at_secrets(state, tmp_path, environment()) == first
    (tmp_path / "token").write_text("two")
    assert look_at_secrets(state, tmp_path, environment()) != first
    assert len(list(state.secrets.iterdir())) == 2  # looking wrote nothing: the key and the first


def test_another_machine_gives_another_digest(tmp_path: Path, state: StateDirectory) -> None:
    (tmp_path / "token").write_text("one")
    other = StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path / "other")})
    assert keep_secrets(state, tmp_path, environment()) != keep_secrets(other, tmp_path, environment())


def test_a_link_is_not_followed(tmp_path: Path, state: StateDirectory) -> None:
    (tmp_path / "token").symlink_to("/etc/shadow")
    with pytest.raises(Refused, match="it is a link"):
        keep_secrets(state, tmp_path, environment())
