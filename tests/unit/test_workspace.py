"""Where everything is kept: known by one name, and closed to everybody else."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from instar.errors import HostError
from instar.ledger import Ledger
from instar.ledger.schema import latest
from instar.model.component import Component
from instar.model.state import StateDirectory
from instar.operations.doctor import doctor
from instar.workspace import MachineWorkspace


def test_the_state_directory_is_closed_also_one_that_is_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    for folder in (home, home / "run"):
        folder.chmod(0o755)
    workspace = MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None)
    assert workspace.state_id == MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None).state_id
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home, home / "run")] == [0o700, 0o700]


def test_a_link_to_the_state_directory_is_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    home, link = (StateDirectory.from_environment({"INSTAR_HOME": str(tmp_path / name)}) for name in ("home", "link"))
    assert home == link


@pytest.mark.parametrize("text", ["", "123", "../..", "ABCDEF", "\0\0\0\0\0\0"])
def test_an_id_that_is_none_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "id").write_text(text)
    with pytest.raises(HostError, match=f"cannot use '{tmp_path}/id'"):
        MachineWorkspace({"INSTAR_HOME": str(tmp_path)}, lambda progress: None).state_id  # noqa: B018
    assert (tmp_path / "id").read_text() == text


def test_the_doctor_makes_nothing(tmp_path: Path) -> None:
    workspace = MachineWorkspace({"INSTAR_HOME": str(tmp_path / "home")}, lambda progress: None)
    assert doctor(workspace).components
    assert all(isinstance(warning, str) for warning in workspace.warnings())
    assert not (tmp_path / "home").exists()


def ledger_of(home: Path, **environ: str) -> Component:
    workspace = MachineWorkspace({"INSTAR_HOME": str(home), **environ}, lambda progress: None)
    (found,) = (one for one in workspace.components() if one.name == "ledger")
    return found


def test_the_doctor_says_whether_a_command_would_get_the_ledger(tmp_path: Path) -> None:
    assert ledger_of(tmp_path).found == "none yet"
    Ledger(tmp_path / "ledger/instar.db", actor="ann").close()
    assert ledger_of(tmp_path).found == f"schema {latest('sqlite')}"
    (tmp_path / "ledger/instar.db").write_text("no ledger")
    damaged = ledger_of(tmp_path)
    assert damaged.found is None and damaged.required and "put a copy back" in damaged.get
    (tmp_path / "ledger/instar.db").unlink()
    (tmp_path / "id").write_text("0a1b2c\n")
    assert "cannot find the ledger" in ledger_of(tmp_path).get
    unreached = ledger_of(tmp_path, INSTAR_LEDGER="postgresql://ann@127.0.0.1:1/instar")
    assert unreached.found is None and "refused" in unreached.get
    assert ledger_of(tmp_path, INSTAR_LEDGER="instar").found is None


def test_the_doctor_upgrades_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger/instar.db"
    Ledger(path, actor="ann").close()
    with contextlib.closing(sqlite3.connect(path)) as older:
        older.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    assert ledger_of(tmp_path).found == "schema 7"
    assert path.read_bytes() == before


@pytest.mark.root
@pytest.mark.parametrize(
    ("owner", "mode", "who"), [(65534, 0o700, "user 'nobody'"), (0, 0o777, "everybody"), (0, 0o1777, "e")]
)
def test_root_works_in_no_state_directory_that_others_wrote_to(tmp_path: Path, owner: int, mode: int, who: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "planted").touch()
    home.chmod(mode)
    os.chown(home, owner, owner)
    workspace = MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None)
    for part in ("ledger", "store"):
        with pytest.raises(
            HostError, match=f"cannot use the state directory '{home}': {who}.*decides what root runs"
        ) as caught:
            getattr(workspace, part)
        assert "-R" not in str(caught.value.hint), "volumes are in it, whose files are their services'"
    assert [one.name for one in home.iterdir()] == ["planted"]
    assert stat.S_IMODE(home.stat().st_mode) == mode


@pytest.mark.root
def test_the_doctor_says_that_root_works_in_no_such_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Ledger(home / "ledger/instar.db", actor="ann").close()
    os.chown(home, 65534, 65534)
    found = ledger_of(home)
    assert found.found is None and "user 'nobody' may write to it" in found.get
    (home / "id").write_text("0a1b2c\n")
    unreached = ledger_of(home, INSTAR_LEDGER="postgresql://ann@127.0.0.1:1/instar")
    assert "user 'nobody' may write to it" in unreached.get


@pytest.mark.root
def test_an_empty_state_directory_of_root_s_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o1777)
    with MachineWorkspace({"INSTAR_HOME": str(tmp_path / "home")}, lambda progress: None).ledger:
        assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


@pytest.mark.root
def test_a_state_directory_that_is_root_s_is_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None).ledger.close()
    os.chown(home, 0, 0)
    home.chmod(0o770)
    before = home.stat().st_ctime_ns
    MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None).ledger.close()
    assert home.stat().st_ctime_ns == before, "it was closed for a moment"
