"""What a restore that is refused leaves: nothing, where there was nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import Refused
from instar.locks import hold
from instar.model.state import StateDirectory
from instar.operations import restore, state_directory


def refused(root: Path) -> None:
    """Refuse a restore into ``root``, once it is held."""
    state = StateDirectory(root, root / "run")
    workspace: Any = SimpleNamespace(state=state, make_state=lambda: state_directory.close(state))
    with pytest.raises(Refused), restore._as_it_was(workspace), hold(state.locks / "restore", "a restore"):
        assert state.run.is_dir()
        raise Refused("no")


def test_a_refused_restore_leaves_no_directory_that_was_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "again")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "run/lock").mkdir(parents=True)
    (tmp_path / "run/lock/restore").touch()
    (tmp_path / "shop.yaml").touch()
    refused(tmp_path)
    assert (tmp_path / "run/lock/restore").exists() and (tmp_path / "shop.yaml").exists()


def test_a_directory_of_somebody_elses_files_loses_what_the_restore_made_alone(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").touch()
    refused(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["shop.yaml"]
