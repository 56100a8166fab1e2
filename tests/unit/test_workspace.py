"""Where everything is kept: known by one name, and closed to everybody else."""

from __future__ import annotations

import stat
from pathlib import Path

from instar.model.state import StateDirectory
from instar.workspace import Workspace


def test_the_state_directory_is_closed_also_one_that_is_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    for folder in (home, home / "run"):
        folder.chmod(0o755)
    workspace = Workspace({"INSTAR_HOME": str(home)}, lambda progress: None)
    assert workspace.state_id == Workspace({"INSTAR_HOME": str(home)}, lambda progress: None).state_id
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home, home / "run")] == [0o700, 0o700]


def test_a_link_to_the_state_directory_is_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    home, link = (StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path / name)}) for name in ("home", "link"))
    assert home == link
