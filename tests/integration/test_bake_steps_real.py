"""Steps that run, fail, hang, are killed, and are not run again: a real shell in a real sandbox, without a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, shell_packages, wheel

from instar import process
from instar.bake import Baked, plan
from instar.errors import HashMismatch, StepFailed
from instar.host.filesystems.layers import LayerImages
from instar.host.kernel import cgroups, mounts
from instar.store.hashed_files import HashedFiles

pytestmark = pytest.mark.root

IMAGE = """
base: debian:test
files: [{from: app, to: /srv/app}]
run:
  - echo made > /srv/made
  - read line < /srv/app/main; echo "$line, $SOURCE_DATE_EPOCH, $GREETING" > /srv/seen
env: {GREETING: hello}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    write(made, "main", "one")
    write(made, "other", "two")
    yield made
    made.close()
    assert mounts.mounts_below(tmp_path) == ()


def write(world: World, name: str, text: str) -> None:
    path = world.folder / "app" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")


def baked(world: World, image: str = IMAGE) -> Baked:
    return world.bake(world.load(image), world.lock(shell_packages(world)))


def ran(result: Baked) -> list[str]:
    return [step.step.partition(":")[0] for step in result.steps if not step.cached]


@pytest.mark.parametrize("number", ["x", "-1", "4294967295", "9" * 5000, "\N{ARABIC-INDIC DIGIT TWO}", ""])
def test_a_group_without_a_number_is_named(world: World, number: str) -> None:
    base = deb("base", {"./": None, "etc/": None, "etc/group": f"shadow:x:{number}:\n".encode()})
    with pytest.raises(StepFailed, match="cannot bake 'user': group 'shadow' in /etc/group has the number"):
        world.bake(world.load("base: debian:test"), world.lock([world.package("base", base)]))


def test_lines_of_users_are_those_that_libc_reads(world: World) -> None:
    odd = "odd:x:9:9:a\x0bb\u2028root:x:0:0::/:/bin/sh\rc:/:/bin/sh\n".encode()
    base = deb("base", {"./": None, "./etc/": None, "./etc/passwd": odd})
    made = world.bake(world.load("base: debian:test"), world.lock([world.package("base", base)]))
    with world.mounted(made.image) as root:
        passwd = (root / "etc/passwd").read_bytes()
    assert passwd.startswith(odd) and passwd.removeprefix(odd).startswith(b"app:x:10001:10001:")


def test_what_is_known_is_not_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = baked(world)
    assert ran(first) == ["base", "user", "files", "run 1", "run 2"]

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(process, "_start", refuse)
    again = baked(world)
    assert ran(again) == []
    assert again.image == first.image


def test_a_changed_file_runs_files_and_lines_only(world: World) -> None:
    first = baked(world)
    write(world, "main", "changed")
    second = baked(world)
    assert ran(second) == ["files", "run 1", "run 2"]
    assert second.image.digest != first.image.digest
    write(world, "main", "one")
    assert ran(baked(world)) == []
    with world.mounted(second.image) as root:
        assert (root / "srv/seen").read_text() == "changed, 1700000000, hello\n"


def test_a_touched_file_changes_nothing(world: World) -> None:
    baked(world)
    (world.folder / "app/main").touch()
    (world.folder / "app/main").chmod(0o600)
    assert ran(baked(world)) == []


def test_a_plan_says_what_a_bake_does(world: World) -> None:
    loaded, lock = world.load(IMAGE), world.lock(shell_packages(world))
    before = plan(loaded, lock=lock, store=world.store, state=world.state)
    assert (before.image, {step.cached for step in before.steps}) == (None, {False})
    digest = world.bake(loaded, lock).image.digest
    assert plan(loaded, lock=lock, store=world.store, state=world.state).image == digest
    write(world, "other", "changed")
    after = plan(loaded, lock=lock, store=world.store, state=world.state)
    assert [step.cached for step in after.steps] == [True, True, False, False, False]


def test_a_layer_that_was_lost_is_made_again_and_is_the_same(world: World) -> None:
    first = baked(world)
    lost = next(step.layer for step in first.steps if step.step == "files")
    (world.state.store / "blobs/sha256" / lost.digest.hex).unlink()
    second = baked(world)
    assert ran(second) == ["files"]
    assert second.image == first.image


def test_lines_that_leave_nothing_make_an_image_that_can_be_mounted(world: World) -> None:
    result = baked(world, "base: debian:test\nrun: [':', 'true || :', ':']\n")
    assert len({step.layer.diff_id for step in result.steps[-3:]}) == 1
    with world.mounted(result.image) as root:
        assert (root / "bin/sh").exists()


def test_a_copied_file_follows_the_images_own_links(world: World) -> None:
    result = baked(world, "base: debian:test\nfiles: [{from: app/main, to: /bin/main}]\n")
    with world.mounted(result.image) as root:
        assert (root / "bin").is_symlink()
        assert (root / "usr/bin/main").read_text() == "one\n"


def test_a_line_removes_what_lies_beneath(world: World) -> None:
    packages = [*shell_packages(world), world.package("extra", deb("extra", {"./opt/": None, "./opt/x": b"x"}))]
    loaded = world.load("base: debian:test\nrun: [': > /opt/x; echo no > /tmp/t; echo no > /run-not']\n")
    result = world.bake(loaded, world.lock(packages))
    with world.mounted(result.image) as root:
        assert (root / "opt/x").read_bytes() == b""
        assert list((root / "tmp").iterdir()) == []


def failure(world: World, line: str, more: str = "") -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        baked(world, f"base: debian:test\nrun:\n  - ':'\n  - {line}\n{more}")
    assert world.work_left() == []
    assert mounts.mounts_below(world.state.steps) == ()
    return caught.value


def test_a_line_that_fails_shows_its_output_and_its_place(world: World) -> None:
    error = failure(world, "echo before; nothing-here; echo after")
    assert (error.message, error.step) == (
        "cannot bake 'run 2: echo before; nothing-here; echo after': exit status 127",
        "run 2: echo before; nothing-here; echo after",
    )
    assert error.output == "before\n/bin/sh: 1: nothing-here: not found\n"
    assert error.place == f"{world.folder}/instar.yaml:6:7"
    assert world.store.images() == ()
    assert ran(baked(world, "base: debian:test\nrun: [':', 'echo fine']\n")) == ["run 2"]


def test_a_line_that_hangs_is_ended(world: World) -> None:
    assert failure(world, "'while :; do :; done'", "run_timeout: 500ms\n").message.endswith("no end after 0.5 s")


def test_a_line_that_fills_the_disk_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path / "small"], check=True)
    world = World(tmp_path / "small" / "world")
    try:
        error = failure(
            world, "'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done > /srv/big'"
        )
        assert "space left on" in error.message or "the disk is full" in error.message
        assert ran(baked(world, "base: debian:test\nrun: [':']\n")) == []
    finally:
        world.close()
        mounts.unmount(tmp_path / "small")


def test_a_damaged_package_is_found(world: World) -> None:
    packages = shell_packages(world)
    path = world.cache.find(packages[0].sha256)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatch):
        world.bake(world.load("base: debian:test\n"), world.lock(packages))
    assert world.work_left() == []


def test_a_malformed_package_is_named(world: World) -> None:
    package = world.package("broken", deb("broken", {"./x": b"x"})[:-40])
    with pytest.raises(StepFailed, match=r"cannot bake 'base': cannot unpack package 'broken': its data\.tar is malf"):
        world.bake(world.load("base: debian:test\n"), world.lock([package]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("files: [{from: gone, to: /x}]", r"'gone' is missing"),
        ("files: [{from: app, to: /bin/sh}]", r"(File exists|Not a directory): '/bin/sh'"),
        ("files: [{from: app/main, to: /srv}]", r"a directory is there: '/srv'"),
        ("user: {name: shell, uid: 8}", r"user 'shell' is there already, with the number 7, not 8"),
        ("user: {name: new, uid: 7}", r"number 7 is user 'shell' already"),
        ("python: requirements.txt", r"there is no Python 3\.11 in the image"),
    ],
)
def test_what_cannot_be_done_says_so(world: World, image: str, message: str) -> None:
    passwd = deb("passwd", {"./etc/": None, "./etc/passwd": b"shell:x:7:7::/:/bin/sh\n"})
    packages = [*shell_packages(world), world.package("passwd", passwd)]
    wheels = [world.wheel("x", wheel("x", {}))] if "python" in image else []
    with pytest.raises(StepFailed, match=message) as caught:
        world.bake(world.load(f"base: debian:test\n{image}\n"), world.lock(packages, wheels))
    assert caught.value.place
    assert world.work_left() == []


SLOW = "base: debian:test\nrun: ['echo begun > /srv/begun; while :; do :; done']\n"
CODE = """
import sys
from pathlib import Path
from bake_kit import World, shell_packages
world = World(Path(sys.argv[1]))
world.bake(world.load(sys.argv[2]), world.lock(shell_packages(world)))
"""


def interrupted_bake(world: World, number: int) -> tuple[int, str]:
    """Bake in a process of its own a line that never ends, and send a signal when it runs.

    Return the exit status and the cgroup of the sandbox.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, world.path, SLOW],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not list(world.state.steps.glob("work/*/2/upper/srv/begun")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    name = f"instar-sandbox-{world.work_left()[0].name}"
    assert cgroups.members(name)
    child.send_signal(number)
    return child.wait(timeout=60), name


def test_an_interrupt_leaves_nothing_half_made(world: World) -> None:
    status, cgroup = interrupted_bake(world, signal.SIGINT)
    assert status != 0
    assert cgroup not in cgroups.children("")
    assert world.work_left() == []
    assert mounts.mounts_below(world.state.steps) == ()
    assert ran(baked(world, SLOW.replace("while :; do :; done", ":"))) == ["run 1"]


def test_layers_are_ready_to_be_mounted_when_instances_will_start(world: World) -> None:
    loaded, lock = world.load(IMAGE), world.lock(shell_packages(world))
    world.bake(loaded, lock, mountable=True)
    assert len(list(world.state.layers.glob("*.erofs"))) == 5


def test_what_is_mounted_of_a_layer_is_the_same_to_the_byte_from_a_bake_and_from_the_store(world: World) -> None:
    """Whoever makes it anew must not make another: an instance has noted what it hashed to when it began."""
    world.bake(world.load(IMAGE), world.lock(shell_packages(world)), mountable=True)
    again = LayerImages(world.store, world.path / "again", world.path / "mounts", HashedFiles(world.path / "notes"))
    made = sorted(path.name for path in world.state.layers.glob("*.sha256"))
    assert len(made) == 5
    for digest in world.store.digests():
        for layer in world.store.image(digest).layers:
            again.provide(layer)
    for name in made:
        assert (world.path / "again" / name).read_text() == (world.state.layers / name).read_text()
    again.prune((), tuple)


def test_what_cannot_be_noted_is_read_again_and_is_sound(world: World) -> None:
    world.bake(world.load(IMAGE), world.lock(shell_packages(world)), mountable=True)
    (layer, *_) = world.store.image(world.store.digests()[0]).layers
    before = (world.state.layers / f"{layer.diff_id.hex}.erofs").stat().st_ino
    shutil.rmtree(world.state.sealed)
    world.state.sealed.write_text("no folder")  # as where there is no room
    world.layers.mount(layer)
    assert (world.state.layers / f"{layer.diff_id.hex}.erofs").stat().st_ino == before
    assert world.layers.examine(layer.diff_id) is None
    world.state.sealed.unlink()


def test_what_a_killed_bake_left_is_cleared_by_the_next(world: World) -> None:
    world.state.id_file.write_text("abc123\n")
    status, cgroup = interrupted_bake(world, signal.SIGKILL)
    assert "abc123" in cgroup
    assert status == -signal.SIGKILL
    assert len(world.work_left()) == 1
    assert cgroups.members(cgroup)
    assert ran(baked(world, SLOW.replace("while :; do :; done", ":")))[-1] == "run 1"
    assert cgroup not in cgroups.children("")
    assert world.work_left() == []
    assert mounts.mounts_below(world.state.steps) == ()
