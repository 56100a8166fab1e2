"""Mounts on this very kernel: EROFS files, overlays with awkward paths, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from leftovers import remaining

from instar.errors import HostError
from instar.host.filesystems import erofs
from instar.host.kernel import idmap, mounts

pytestmark = pytest.mark.root
OLDER = (6, 1)
AWKWARD = "a b,c:d\\e é\tf"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / AWKWARD
    place.mkdir()
    yield place
    mounts.unmount_all(tmp_path)


def tree(room: Path, name: str, **files: str) -> Path:
    folder = room / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    return folder


def directory(room: Path, name: str) -> Path:
    (room / name).mkdir()
    return room / name


def loop_devices(image: Path) -> bytes:
    return subprocess.run(["losetup", "-j", image], capture_output=True, check=True).stdout


def is_freed(image: Path) -> bool:
    """Tell whether no device of the image is left in the end: udev may look at one for a moment."""
    return not remaining(lambda: [str(loop_devices(image))] if loop_devices(image) else [])


def test_an_erofs_image_keeps_times_owners_attributes_and_whiteouts_and_refuses_writes(room: Path) -> None:
    source = tree(room, "tree", one="1")
    os.chown(source / "one", 12, 34)
    os.setxattr(source / "one", "trusted.overlay.opaque", b"y")
    os.mknod(source / "gone", 0o600 | 0o020000, os.makedev(0, 0))
    os.utime(source / "one", (5, 1_234_567_890))
    target = directory(room, "mounted")
    erofs.make(source, room / "image")
    mounts.mount_erofs(room / "image", target)
    status = (target / "one").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (12, 34, 1_234_567_890)
    assert os.getxattr(target / "one", "trusted.overlay.opaque") == b"y"
    assert (target / "gone").is_char_device()
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()


def test_the_same_tree_made_in_another_order_is_the_same_image(room: Path) -> None:
    for name, order in (("x", "abc"), ("y", "cba")):
        folder = directory(room, name)
        for letter in order:
            (folder / letter).write_text(letter)
            os.utime(folder / letter, (1, 1))
        os.utime(folder, (1, 1))
    assert erofs.make(room / "x", room / "x.erofs") == erofs.make(room / "y", room / "y.erofs")


def test_making_an_image_of_nothing_leaves_nothing(room: Path) -> None:
    with pytest.raises(HostError, match="cannot make the EROFS image"):
        erofs.make(room / "missing", room / "image")
    assert list(room.iterdir()) == []


def test_the_loop_device_of_an_older_kernel_is_freed(room: Path) -> None:
    erofs.make(tree(room, "tree", one="1"), room / "image")
    target = directory(room, "mounted")
    mounts._mount_erofs_loop(room / "image", target)
    assert (target / "one").read_text() == "1"
    assert loop_devices(room / "image")
    mounts.unmount(target)
    assert is_freed(room / "image")


def test_a_loop_device_of_something_else_than_an_image_is_freed(room: Path) -> None:
    (room / "image").write_bytes(bytes(1 << 16))
    with pytest.raises(HostError, match="cannot mount"):
        mounts._mount_erofs_loop(room / "image", directory(room, "mounted"))
    assert is_freed(room / "image")
    with pytest.raises(HostError, match=r"cannot make '.*missing' a block device: No such file"):
        mounts._mount_erofs_loop(room / "missing", room / "mounted")


def test_images_are_mounted_over_loop_devices_at_the_same_time(room: Path) -> None:
    count = 12
    for number in range(count):
        erofs.make(tree(room, f"tree-{number}", one=str(number)), room / f"image-{number}")
    targets = [directory(room, f"mounted-{number}") for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda number: mounts._mount_erofs_loop(room / f"image-{number}", targets[number]), range(count)))
    assert [(target / "one").read_text() for target in targets] == [str(number) for number in range(count)]
    mounts.unmount_all(room)
    assert all(is_freed(room / f"image-{number}") for number in range(count))


@pytest.mark.parametrize("older_kernel", [False, True])
def test_the_topmost_lower_wins_and_the_upper_takes_the_writes(
    room: Path, older_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if older_kernel:
        monkeypatch.setattr(mounts, "_kernel", lambda: OLDER)
    low, high = tree(room, "low", a="low", b="low"), tree(room, "high", a="high")
    target, upper, work = (directory(room, name) for name in ("target", "upper", "work"))
    mounts.mount_overlay([high, low], target, upper=upper, work=work)
    assert ((target / "a").read_text(), (target / "b").read_text()) == ("high", "low")
    (target / "b").write_text("new")
    assert (upper / "b").read_text() == "new"
    assert (low / "b").read_text() == "low"


@pytest.mark.parametrize("older_kernel", [False, True])
def test_an_overlay_without_an_upper_is_read_only(
    room: Path, older_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if older_kernel:
        monkeypatch.setattr(mounts, "_kernel", lambda: OLDER)
    target = directory(room, "target")
    mounts.mount_overlay([tree(room, "x", a="x"), tree(room, "y")], target)
    with pytest.raises(OSError, match="Read-only"):
        (target / "a").write_text("y")


@pytest.mark.parametrize("older_kernel", [False, True])
def test_a_hundred_layers_can_be_overlaid(room: Path, older_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if older_kernel:
        monkeypatch.setattr(mounts, "_kernel", lambda: OLDER)
    lowers = [tree(room, f"layer-{number}", **{f"f{number}": "x"}) for number in range(100)]
    target = directory(room, "target")
    mounts.mount_overlay(lowers, target)
    assert len(list(target.iterdir())) == 100


def test_a_layer_that_comes_twice_counts_once(room: Path) -> None:
    twice, between = tree(room, "twice", a="twice"), tree(room, "between", a="between", b="between")
    target = directory(room, "target")
    mounts.mount_overlay([twice, between, twice], target)
    assert ((target / "a").read_text(), (target / "b").read_text()) == ("twice", "between")


@pytest.mark.parametrize("older_kernel", [False, True])
def test_no_mount_lets_a_program_change_who_runs_it(
    room: Path, older_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    erofs.make(tree(room, "tree", one="1"), room / "image")
    layer, root, written, memory = (directory(room, name) for name in ("layer", "root", "written", "memory"))
    if older_kernel:
        monkeypatch.setattr(mounts, "_kernel", lambda: OLDER)
        mounts._mount_erofs_loop(room / "image", layer)
    else:
        mounts.mount_erofs(room / "image", layer)
    mounts.mount_overlay([layer, room / "tree"], root)
    mounts.mount_overlay([layer], written, upper=directory(room, "upper"), work=directory(room, "work"))
    mounts.mount_tmpfs(memory, size_bytes=1 << 20)
    for place in (layer, root, written, memory):
        flags = os.statvfs(place).f_flag
        assert flags & os.ST_NOSUID, place
        assert flags & os.ST_NODEV, place


def test_mounts_are_listed_deepest_first_and_all_unmounted(room: Path) -> None:
    outer, source = directory(room, "outer"), tree(room, "source", a="x")
    (source / "inner").mkdir()
    mounts.bind(source, outer)
    mounts.bind(source, outer / "inner")
    mounts.bind(source, outer / "inner")
    assert mounts.mounts_below(room) == (outer / "inner", outer / "inner", outer)
    mounts.unmount_all(room)
    assert mounts.mounts_below(room) == ()
    mounts.unmount(outer)


def test_a_busy_mount_goes_all_the_same(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_BUSY_WAIT_S", 0.05)
    source, target = tree(room, "source", a="x"), directory(room, "target")
    mounts.bind(source, target)
    with (target / "a").open():
        mounts.unmount(target)
        assert mounts.mounts_below(target) == ()


def test_what_cannot_be_mounted_names_the_place_and_the_cause(room: Path) -> None:
    with pytest.raises(HostError, match=r"cannot mount '.*target': No such file"):
        mounts.mount_overlay([room / "missing", directory(room, "other")], directory(room, "target"))


@pytest.mark.parametrize("show", [mounts.bind, idmap.clone])
def test_what_is_mounted_in_a_copy_does_not_show_in_its_source(room: Path, show: Callable[[Path, Path], None]) -> None:
    """systemd shares all mounts of a machine; elsewhere they may be private, so this makes one that is shared."""
    mounts.mount_tmpfs(room, size_bytes=1 << 20)
    subprocess.run(["mount", "--make-shared", room], check=True)
    source, target = tree(room, "source"), directory(room, "target")
    (source / "inner").mkdir()
    show(source, target)
    mounts.mount_tmpfs(target / "inner", size_bytes=1 << 20)
    assert mounts.mounts_below(source) == ()
