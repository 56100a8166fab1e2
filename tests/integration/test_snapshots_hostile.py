"""Snapshots of volumes whose service works against them: nested without end, leased, changed while they are copied."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leases import lease_held

from deep_folders import depth_of, nest
from instar.errors import HostError
from instar.host.filesystems import copying, sized
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.providers.local.names import Names
from instar.providers.local.snapshots import LocalSnapshots

pytestmark = pytest.mark.root
ENV = EnvironmentId(service="guestbook", name="dev")
STAGING = EnvironmentId(service="guestbook", name="staging")


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    made = Names(StateDirectory(tmp_path / "home", tmp_path / "run"), "0123ab")
    yield made
    for environment in (ENV, STAGING):
        for name in sized.names(made.volumes(environment)):
            sized.remove(made.volumes(environment) / name)
    subprocess.run(["rm", "-rf", "--", tmp_path / "home"], check=True)  # more than Python can remove


@pytest.fixture
def kept(names: Names) -> LocalSnapshots:
    return LocalSnapshots(names)


@pytest.fixture
def folder(names: Names) -> Path:
    made = names.volumes(ENV) / "data"
    (made / "d").mkdir(parents=True)
    (made / "d/x").write_text("old")
    (made / "z").write_text("after it")
    return made


def test_folders_that_are_nested_deep_are_copied_and_come_back(
    names: Names, kept: LocalSnapshots, folder: Path
) -> None:
    """Deeper than a path can say, than Python can call itself, and than a process may have files open."""
    nest(folder, 3_000, "abc", mode=0o750, last="last")
    made = kept.take_snapshot(ENV, "data", running=False)
    assert depth_of(Path(made.where), "abc") == (3_000, ["last"])
    assert (Path(made.where) / "abc/abc").stat().st_mode == (folder / "abc/abc").stat().st_mode
    subprocess.run(["rm", "-rf", "--", folder / "abc"], check=True)
    kept.restore_snapshot(ENV, "data", 1)
    kept.copy_volume(ENV, "data", STAGING, "copy")
    for there in (folder, names.volumes(STAGING) / "copy"):
        assert depth_of(there, "abc") == (3_000, ["last"]) and (there / "z").read_text() == "after it"
    kept.remove_snapshot(ENV, "data", 1)
    assert list(kept.snapshots()) == []


def test_who_has_leases_is_waited_for_so_long_and_no_longer(
    kept: LocalSnapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_LEASES_S", 0.3)
    with lease_held(folder / "d/x"), pytest.raises(HostError, match=r"'d/x': a process holds a lease on it$") as caught:
        kept.take_snapshot(ENV, "data", running=True)
    assert caught.value.hint == "stop what has it open, or ask again"
    assert list(kept.snapshots()) == [] and kept.take_snapshot(ENV, "data", running=True).number == 1


def changed(monkeypatch: pytest.MonkeyPatch, at: bytes, change: Callable[[], object]) -> None:
    """Have ``change`` happen once, between when ``at`` is looked at and when it is opened."""
    real, waiting = os.stat, [change]

    def stat(one: str | bytes | int | Path, **how: object) -> os.stat_result:
        found = real(one, **how)  # type: ignore[arg-type]
        if one == at and waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize("what", ["gone", "a link to a file", "a link to a folder", "a file of a folder"])
def test_what_changes_while_it_is_copied_is_no_fault_of_one_that_runs_and_leads_nowhere(
    kept: LocalSnapshots, folder: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("of the machine's own")
    at = {"a link to a folder": b"d", "a file of a folder": b"d"}.get(what, b"x")

    def change() -> None:
        (folder / "d/x").unlink()
        if what == "a link to a file":
            (folder / "d/x").symlink_to(outside / "x")
        elif at == b"d":
            (folder / "d").rmdir()
            if what == "a link to a folder":
                (folder / "d").symlink_to(outside)
            else:
                (folder / "d").write_text("a file")

    def again() -> None:
        for path in (folder / "d/x", folder / "d"):
            if path.is_symlink() or path.is_file():
                path.unlink()
        (folder / "d").mkdir(exist_ok=True)
        (folder / "d/x").write_text("old")
        changed(monkeypatch, at, change)

    again()
    made = Path(kept.take_snapshot(ENV, "data", running=True).where)
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*")) == (["z"] if at == b"d" else ["d", "z"])
    monkeypatch.undo()
    again()
    with pytest.raises(HostError, match=rf"'{'d' if at == b'd' else 'd/x'}': it changes"):
        kept.take_snapshot(ENV, "data", running=False)


def test_a_folder_that_is_moved_while_it_is_copied_leads_nowhere(
    kept: LocalSnapshots, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zz-secret").write_text("of the machine's own")
    (folder / "d/e").mkdir()
    (folder / "d/e/y").touch()
    (folder / "d/z").touch()

    def change() -> None:
        (folder / "d/e").rename(tmp_path / "apart")
        (folder / "d").rename(tmp_path / "away")

    changed(monkeypatch, b"y", change)
    made = Path(kept.take_snapshot(ENV, "data", running=True).where)
    assert sorted(str(one.relative_to(made)) for one in made.rglob("*")) == ["d", "d/e", "d/e/y", "z"]
    monkeypatch.undo()
    (tmp_path / "away").rename(folder / "d")
    (tmp_path / "apart").rename(folder / "d/e")
    changed(monkeypatch, b"y", change)
    with pytest.raises(HostError, match="'d/e/': it was moved"):
        kept.take_snapshot(ENV, "data", running=False)


def test_files_with_many_names_attributes_and_pieces_are_alike(kept: LocalSnapshots, folder: Path) -> None:
    for number in range(5):
        (folder / f"n{number}").mkdir()
        os.link(folder / "z", folder / f"n{number}/other")
    os.setxattr(folder / "z", "user.mine", b"yes")
    os.setxattr(folder / "n0", "user.of-a-folder", b"yes")
    (folder / "n0").chmod(0o3711)
    os.utime(folder / "n0", ns=(1, 1_000_000_007))
    (folder / "s").symlink_to("/nowhere")
    os.utime(folder / "s", ns=(1, 1_000_000_009), follow_symlinks=False)
    with (folder / "pieces").open("wb") as file:
        for number in range(50):
            file.seek(number << 20)
            file.write(b"%04d" % number * 1_024)
        file.truncate(60 << 20)
    made = Path(kept.take_snapshot(ENV, "data", running=False).where)
    assert (made / "z").stat().st_nlink == 6
    assert all(path.samefile(made / "z") for path in made.glob("n*/other")) and len(list(made.glob("n*/other"))) == 5
    assert os.getxattr(made / "n3/other", "user.mine") == os.getxattr(made / "n0", "user.of-a-folder") == b"yes"
    for name in ("n0", "s", "pieces", "z"):
        one, other = (made / name).lstat(), (folder / name).lstat()
        assert (one.st_mode, one.st_mtime_ns, one.st_size) == (other.st_mode, other.st_mtime_ns, other.st_size)
    assert (made / "pieces").read_bytes() == (folder / "pieces").read_bytes()
    assert (made / "pieces").stat().st_blocks * 512 < 2 << 20
    assert {path.name for path in made.iterdir()} == {path.name for path in folder.iterdir()}
    os.link(folder / "n0/other", folder / "../outside-of-it")  # a name that never comes
    assert (Path(kept.take_snapshot(ENV, "data", running=False).where) / "z").stat().st_nlink == 6
