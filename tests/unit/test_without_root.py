"""Which state directory is whose, and what a user without root is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar import workspace as module
from instar.cli.options import find_environment
from instar.errors import NotFound, NotRoot
from instar.model.state import StateDirectory
from instar.workspace import MachineWorkspace


def test_a_user_has_a_state_directory_of_their_own(tmp_path: Path) -> None:
    def root(environ: dict[str, str], *, of_root: bool) -> Path:
        return StateDirectory.from_environment(environ, of_root=of_root).root

    assert root({}, of_root=True) == Path("/var/lib/instar").resolve()
    assert root({"HOME": "/home/ann", "XDG_STATE_HOME": "/x"}, of_root=True) == Path("/var/lib/instar").resolve()
    assert root({"HOME": "/home/ann"}, of_root=False) == Path("/home/ann/.local/state/instar")
    assert root({"HOME": "/home/ann", "XDG_STATE_HOME": "/x/y"}, of_root=False) == Path("/x/y/instar")
    assert root({"HOME": "/home/ann", "XDG_STATE_HOME": "y"}, of_root=False) == Path("/home/ann/.local/state/instar")
    for whose in (True, False):
        assert root({"INSTAR_HOME": str(tmp_path), "HOME": "/home/ann"}, of_root=whose) == tmp_path


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineWorkspace:
    """The workspace of somebody who is not root, on a machine on which root has environments."""
    (tmp_path / "roots").mkdir()
    monkeypatch.setattr(module, "ROOTS_STATE", tmp_path / "roots")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    return MachineWorkspace({"HOME": str(tmp_path)}, lambda progress: None)


def test_what_may_be_roots_is_said_in_one_sentence(user: MachineWorkspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        find_environment(user, "shop/dev", tmp_path / "instar.yaml")
    own = tmp_path / ".local/state/instar"
    assert caught.value.hint == f"only your own environments ('{own}') are asked for: those of root need sudo"
    (tmp_path / "roots").rmdir()
    assert user.other_state is None, "root has none"


def test_a_provider_that_needs_root_is_not_opened_without(user: MachineWorkspace) -> None:
    with pytest.raises(NotRoot, match="cannot use the provider 'local': it makes mounts, namespaces and cgroups"):
        user.provider("local")
    assert user.provider_package("local").traits.needs_root
