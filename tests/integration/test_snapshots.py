"""Snapshots of real volumes: taken, brought back, copied whole, with a limit and without, and killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_store_crashes import apart, status

from instar import process
from instar.errors import HalfDone, HostError, NotFound, Refused
from instar.host.filesystems import sized, trees
from instar.model.release import EnvironmentId
from instar.model.state import StateDirectory
from instar.model.volume import SnapshotCause
from instar.providers.local import snapshots
from instar.providers.local.names import Names
from instar.providers.local.snapshots import LocalSnapshots

pytestmark = pytest.mark.root
ENV = EnvironmentId(service="guestbook", name="dev")
STAGING = EnvironmentId(service="guestbook", name="staging")


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    made = Names(StateDirectory(tmp_path, tmp_path / "run"), "0123ab")
    yield made
    for folder in (made.volumes(ENV), made.volumes(STAGING)):
        for name in sized.names(folder):
            sized.remove(folder / name)


@pytest.fixture
def kept(names: Names) -> LocalSnapshots:
    return LocalSnapshots(names)


def make(names: Names, size_bytes: int | None) -> Path:
    """Make a volume with all kinds of things in it."""
    folder = names.volumes(ENV) / "data"
    folder.mkdir(parents=True)
    if size_bytes is not None:
        sized.attach(folder, size_bytes)
    os.chown(folder, 4711, 4712)
    folder.chmod(0o2750)
    (folder / "d").mkdir()
    (folder / "d/x").write_text("old")
    os.chown(folder / "d/x", 4711, 99)
    os.utime(folder / "d/x", ns=(1, 1_000_000_007))
    os.setxattr(folder / "d/x", "user.mine", b"yes")
    os.link(folder / "d/x", folder / "same")
    (folder / "link").symlink_to("d/x")
    os.mkfifo(folder / "pipe")
    with (folder / "holes").open("wb") as file:
        file.truncate(1 << 30)
    return folder


def looks(folder: Path) -> list[tuple[object, ...]]:
    """Return all that there is to be seen of what a folder holds."""
    found: list[tuple[object, ...]] = []
    for path in (folder, *sorted(folder.rglob("*"))):
        seen = path.lstat()
        text = path.read_text() if path.name == "x" else str(path.readlink()) if path.is_symlink() else ""
        size = 0 if path.is_dir() else seen.st_size
        times = 0 if path.is_dir() else seen.st_mtime_ns
        name = str(path.relative_to(folder))
        found.append((name, oct(seen.st_mode), seen.st_uid, seen.st_gid, size, times, text))
    return found


SIZES = pytest.mark.parametrize("size_bytes", [None, 24 << 20], ids=["without a limit", "with a limit"])


@SIZES
def test_what_a_volume_held_is_kept_and_comes_back(names: Names, kept: LocalSnapshots, size_bytes: int | None) -> None:
    folder = make(names, size_bytes)
    before = looks(folder)
    assert kept.copied_bytes(ENV, "data") in (None, *range(1, 1 << 20)), "holes are not counted"
    made = kept.take_snapshot(ENV, "data", running=False)
    assert (made.number, made.running, made.volume) == (1, False, "data")
    assert looks(Path(made.where)) == before
    assert os.getxattr(Path(made.where) / "d/x", "user.mine") == b"yes"
    (folder / "d/x").write_text("new")
    (folder / "more").touch()
    assert kept.take_snapshot(ENV, "data", running=True).number == 2
    kept.restore_snapshot(ENV, "data", 1)
    assert looks(folder) == before
    if size_bytes is not None:
        sized.attach(folder, size_bytes)
        assert folder.is_mount() and looks(folder) == before
    assert [(one.number, one.running) for one in kept.snapshots()] == [(1, False), (2, True)]
    folder = names.state.snapshots / "guestbook/dev/data"
    assert sorted(path.name for path in folder.iterdir()) == [".last", "1", "2"]


def test_one_that_is_not_mounted_is_left_so(names: Names, kept: LocalSnapshots) -> None:
    folder = make(names, 24 << 20)
    sized.detach(folder)
    made = kept.take_snapshot(ENV, "data", running=False)
    assert (Path(made.where) / "d/x").read_text() == "old"
    assert not folder.is_mount()


@SIZES
def test_a_volume_that_is_gone_comes_back(names: Names, kept: LocalSnapshots, size_bytes: int | None) -> None:
    folder = make(names, size_bytes)
    before = looks(folder)
    kept.take_snapshot(ENV, "data", running=False)
    sized.remove(folder)
    kept.restore_snapshot(ENV, "data", 1)
    assert looks(folder) == before


@SIZES
def test_it_is_copied_to_another_environment_and_to_none_that_has_one(
    names: Names, kept: LocalSnapshots, size_bytes: int | None
) -> None:
    folder = make(names, size_bytes)
    kept.copy_volume(ENV, "data", STAGING, "copy")
    assert looks(names.volumes(STAGING) / "copy") == looks(folder)
    with pytest.raises(Refused, match="there is one"):
        kept.copy_volume(ENV, "data", STAGING, "copy")


def test_what_is_not_there_is_said(names: Names, kept: LocalSnapshots) -> None:
    make(names, None)
    for name in ("nosuch", "../dev/data", ".", ""):
        with pytest.raises(NotFound, match="there is none"):
            kept.take_snapshot(ENV, name, running=False)
        with pytest.raises(NotFound, match="cannot find snapshot 1"):
            kept.restore_snapshot(ENV, name, 1)
    kept.take_snapshot(ENV, "data", running=False)
    with pytest.raises(NotFound, match="cannot find snapshot 2") as caught:
        kept.remove_snapshot(ENV, "data", 2)
    assert caught.value.hint == "there is: 1"
    kept.remove_snapshot(ENV, "data", 1)
    assert list(kept.snapshots()) == []


def test_a_number_is_never_given_again_and_a_damaged_note_is_said(names: Names, kept: LocalSnapshots) -> None:
    make(names, None)
    first, second = (kept.take_snapshot(ENV, "data", running=False) for _ in range(2))
    kept.remove_snapshot(ENV, "data", 1)
    third = kept.take_snapshot(ENV, "data", running=False)
    kept.remove_snapshot(ENV, "data", 3)
    assert third.number == 3 and kept.take_snapshot(ENV, "data", running=False).number == 4
    (names.state.snapshots / "guestbook/dev/data/.last").unlink()  # one of before there was such a note
    kept.remove_snapshot(ENV, "data", 4)
    assert kept.take_snapshot(ENV, "data", running=False).number == 5
    assert list(kept.snapshots(STAGING)) == []
    Path(second.where).with_name("about.json").write_text('{"at": 5}')
    with pytest.raises(HostError, match=r"cannot read '.*about\.json'"):
        list(kept.snapshots())
    assert first.number == 1


def test_for_which_rollout_it_was_taken_is_kept_with_it(names: Names, kept: LocalSnapshots) -> None:
    make(names, None)
    cause = SnapshotCause(rollout=7, release=3, before=4)
    kept.take_snapshot(ENV, "data", running=False, cause=cause)
    kept.take_snapshot(ENV, "data", running=False)
    assert [one.cause for one in kept.snapshots(ENV)] == [cause, None]
    assert kept.free_bytes() > 0


def test_without_room_nothing_is_begun(names: Names, kept: LocalSnapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(names, None)
    monkeypatch.setattr(snapshots, "_copied_bytes", lambda source, to: 1 << 60)
    with pytest.raises(HostError, match="are free"):
        kept.take_snapshot(ENV, "data", running=False)
    with pytest.raises(HostError, match="are free"):
        kept.copy_volume(ENV, "data", STAGING, "data")
    monkeypatch.undo()
    assert list(kept.snapshots()) == [] and sized.names(names.volumes(STAGING)) == set()
    assert (folder / "d/x").read_text() == "old"


@SIZES
def test_who_is_killed_while_it_is_brought_back_leaves_the_one_or_the_other(
    names: Names, kept: LocalSnapshots, size_bytes: int | None
) -> None:
    folder = make(names, size_bytes)
    kept.take_snapshot(ENV, "data", running=False)
    seen, stride = set[str](), 40 if size_bytes is None else 200
    for number in range(1, 1_000):
        (folder / "d/x").write_text("new")
        code = status(apart(lambda: kept.restore_snapshot(ENV, "data", 1), kill_after_calls=number * stride))
        if size_bytes is not None:
            sized.attach(folder, size_bytes)  # as the next instance does
        seen.add((folder / "d/x").read_text())
        assert str((folder / "link").readlink()) == "d/x" and (folder / "holes").stat().st_size == 1 << 30
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0 and seen == {"new", "old"}
    kept.restore_snapshot(ENV, "data", 1)
    assert not folder.with_name(".data.restored").exists()


@SIZES
def test_what_cannot_be_removed_of_before_keeps_nothing_from_coming_back(
    names: Names, kept: LocalSnapshots, size_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has come back by then; whoever replaces the volume next has to remove it."""
    folder = make(names, size_bytes)
    kept.take_snapshot(ENV, "data", running=False)
    (folder / "d/x").write_text("new")
    remove = trees.remove

    def refused(path: Path) -> None:
        if path.name == ".data.restored" and (path / "d").exists():
            raise HostError(f"cannot remove '{path}': immutable")
        remove(path)

    monkeypatch.setattr(trees, "remove", refused)
    kept.restore_snapshot(ENV, "data", 1)
    if size_bytes is not None:
        sized.attach(folder, size_bytes)
    assert (folder / "d/x").read_text() == "old"
    left = folder.with_name(".data.restored")
    if size_bytes is None:
        assert (left / "d/x").read_text() == "new"
    left.mkdir(exist_ok=True)
    (left / "d").mkdir(exist_ok=True)
    with pytest.raises(HostError, match="immutable"):
        kept.restore_snapshot(ENV, "data", 1)
    monkeypatch.undo()
    kept.restore_snapshot(ENV, "data", 1)
    assert not left.exists()


@SIZES
def test_a_disk_that_fails_says_whether_it_has_come_back(
    names: Names, kept: LocalSnapshots, size_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(names, size_bytes)
    kept.take_snapshot(ENV, "data", running=False)
    (folder / "d/x").write_text("new")

    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("instar.syscalls.exchange", full)
        patched.setattr(Path, "rename", full)
        with pytest.raises(HostError, match="cannot replace what") as caught:
            kept.restore_snapshot(ENV, "data", 1)
    assert not isinstance(caught.value, HalfDone)
    if size_bytes is not None:
        sized.attach(folder, size_bytes)
    assert (folder / "d/x").read_text() == "new"
    calls = []

    def late(of: Path) -> None:
        calls.append(of)
        if len(calls) > (size_bytes is not None):
            full()

    monkeypatch.setattr("instar.durable.sync", late)
    with pytest.raises(HalfDone, match="cannot be sure of what"):
        kept.restore_snapshot(ENV, "data", 1)
    monkeypatch.undo()
    kept.restore_snapshot(ENV, "data", 1)
    assert (folder / "d/x").read_text() == "old"


def test_who_is_killed_while_it_is_copied_leaves_no_volume_and_the_next_one_makes_it(
    names: Names, kept: LocalSnapshots
) -> None:
    before = looks(make(names, None))
    copied = names.volumes(STAGING) / "data"
    killed = 0
    for number in range(1, 1_000):
        code = status(apart(lambda: kept.copy_volume(ENV, "data", STAGING, "data"), kill_after_calls=number * 40))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if copied.exists():  # its name is its last step but one
            assert looks(copied) == before
            sized.remove(copied)
        killed += 1
    assert code == 0 and killed > 3
    assert looks(copied) == before
    assert sorted(path.name for path in copied.parent.iterdir()) == [".lock", "data"]


def test_the_room_is_looked_for_also_where_files_go_while_they_are_counted(
    names: Names, kept: LocalSnapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(names, None)
    fake = tmp_path / "bin/du"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho '{1 << 60}\tdata'; echo 'du: cannot access: No such file' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("instar.process.PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(snapshots, "_has_reflinks", lambda folder: False)
    with pytest.raises(HostError, match="are free"):
        kept.take_snapshot(ENV, "data", running=True)
    assert list(kept.snapshots()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB."""
    image, mounted = tmp_path / "image", tmp_path / "small"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    mounted.mkdir()
    process.run(["mkfs.ext4", "-q", "-m", "0", image], timeout_s=60)
    process.run(["mount", "-o", "loop", image, mounted], timeout_s=60)
    yield mounted
    process.run(["umount", mounted], timeout_s=60)


@pytest.mark.parametrize("free_bytes", [8 << 20, 0])
def test_on_a_disk_that_is_full_nothing_is_left_half_and_the_volume_is_as_it_was(
    small_disk: Path, free_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where others fill it while it is copied: there was room when it was looked for."""
    names = Names(StateDirectory(small_disk / "home", small_disk / "run"), "0123ab")
    kept, folder = LocalSnapshots(names), names.volumes(ENV) / "data"
    folder.mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(16 << 20))
    kept.take_snapshot(ENV, "data", running=False)
    (folder / "x").write_text("new")
    with (small_disk / "filling").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, kept.free_bytes() - (8 << 20))
        with contextlib.suppress(OSError):
            while not free_bytes:
                file.seek(0, os.SEEK_END)
                file.write(b"x" * 4096)
                file.flush()
    there = sorted(path.name for path in names.snapshots(ENV, "data").iterdir())
    for looks_for_room in (True, False):
        if not looks_for_room:
            monkeypatch.setattr(snapshots, "_require_room", lambda folder, needed: None)
        for act in (
            lambda: kept.take_snapshot(ENV, "data", running=False),
            lambda: kept.restore_snapshot(ENV, "data", 1),
            lambda: kept.copy_volume(ENV, "data", STAGING, "data"),
        ):
            with pytest.raises(HostError) as caught:
                act()
            assert "df -h" in (caught.value.hint or "") and not isinstance(caught.value, HalfDone)
        assert sorted(path.name for path in names.snapshots(ENV, "data").iterdir()) == there
        assert (folder / "x").read_text() == "new" and sized.names(names.volumes(STAGING)) == set()
        assert {path.name for path in folder.parent.iterdir()} <= {"data", ".lock"}
    (small_disk / "filling").unlink()
    monkeypatch.undo()
    assert kept.take_snapshot(ENV, "data", running=False).number == 2
