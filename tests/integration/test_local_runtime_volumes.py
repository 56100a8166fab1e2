"""Volumes of instances: below folders that a layer makes anew, and when the image's user gets another number."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_world import USER, TinyWorld

from deep_folders import nest
from instar import locks, process
from instar.errors import HostError, NotFound, ProviderError
from instar.host.filesystems import mount_point_layer, sized, trees
from instar.host.filesystems.copying import Copying
from instar.host.kernel import idmap, namespaces
from instar.host.kernel.namespaces import IdRange, Unsupported
from instar.model.definition import Stop, Volume
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.model.state import StateDirectory
from instar.providers.base import Subject
from instar.providers.local import record, root, volumes
from instar.providers.local.names import Names

pytestmark = pytest.mark.root
ENV = EnvironmentId(service="guestbook", name="dev")
QUICK = Stop(grace_ms=500)


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.runtime.forget(one_world.release(["true"]).environment, [], volumes=True)
    one_world.sweep()


@pytest.fixture(scope="module")
def packaged(one_world: TinyWorld) -> Image:
    """An image whose upper layer makes a folder anew, of its own user and mode, as a Debian package's does."""
    tree = one_world.home / "packaged"
    (tree / "var/lib/mosquitto/other").mkdir(parents=True)
    (tree / "var/lib/mosquitto/shipped").write_text("a file of the package\n")
    for folder in ("var", "var/lib", "var/lib/mosquitto/other"):
        (tree / folder).chmod(0o755)
    os.chown(tree / "var/lib/mosquitto", USER, 55)
    (tree / "var/lib/mosquitto").chmod(0o2750)
    os.setxattr(tree / "var/lib/mosquitto", "trusted.overlay.opaque", b"y")
    return one_world.image_of(one_world.home / "tree", tree)


def test_a_volume_lies_below_a_folder_that_a_package_makes(world: TinyWorld, packaged: Image) -> None:
    volumes = (Volume(name="data", path="/var/lib/mosquitto/data"), Volume(name="log", path="/var/lib/a/log"))
    script = "touch /var/lib/mosquitto/data/x /var/lib/a/log/y && cat /var/lib/mosquitto/shipped; "
    script += "ls -ldn /var/lib /var/lib/mosquitto /var/lib/mosquitto/other; echo end; sleep 1000"
    release = world.release(["sh", "-c", script], volumes=volumes, stop=QUICK)
    instance = world.run(release, image=packaged)
    world.printed(instance, "end")
    lines = [line.split(" ", 2)[2] for line in world.runtime.log_lines(instance.id)]
    assert lines[0] == "a file of the package"
    folders = [line.split() for line in lines[1:4]]
    assert [words[0] for words in folders] == ["drwxr-xr-x", "drwxr-s---", "drwxr-xr-x"]
    assert folders[1][2:4] == [str(USER), "55"]
    kept = Names(world.state, world.id).volumes(release.environment)
    assert (kept / "data/x").exists()
    assert (kept / "log/y").exists()

    layers = _intent(world, instance)
    assert len(layers) == 4, "the cover is in use, and not removed as what nobody uses"
    assert set(layers) <= set(world.runtime.layers_in_use())
    assert world.runtime.inspect([_subject(world, instance, release, packaged)]) == ()
    world.destroy(instance, release)


def test_the_cover_is_made_of_what_the_image_has_there(world: TinyWorld, packaged: Image) -> None:
    lowers = [world.layers.mount(layer) for layer in reversed(packaged.layers)]
    assert mount_point_layer.folders(lowers, ["/var/lib/mosquitto/other", "/srv"]) == ()
    found = {folder.path: folder for folder in mount_point_layer.folders(lowers, ["/var/lib/mosquitto/data/deep"])}
    assert list(found) == [
        "/", "/var", "/var/lib", "/var/lib/mosquitto", "/var/lib/mosquitto/data", "/var/lib/mosquitto/data/deep",
    ]  # fmt: skip
    assert (found["/var/lib/mosquitto"].uid, found["/var/lib/mosquitto"].gid) == (USER, 55)
    assert found["/var/lib/mosquitto"].mode == 0o2750
    assert found["/var/lib/mosquitto/data"] == mount_point_layer.Folder(path="/var/lib/mosquitto/data")
    assert mount_point_layer.folders(lowers, ["/bin/sh"]) == (), "a link is refused elsewhere, not hidden"


def test_the_same_image_and_points_have_the_same_cover(world: TinyWorld, packaged: Image) -> None:
    lowers = [world.layers.mount(layer) for layer in reversed(packaged.layers)]
    first = mount_point_layer.layer(mount_point_layer.folders(lowers, ["/var/lib/mosquitto/data"]))
    assert first == mount_point_layer.layer(mount_point_layer.folders(lowers, ["/var/lib/mosquitto/data"]))
    assert first != mount_point_layer.layer(mount_point_layer.folders(lowers, ["/var/lib/mosquitto/log"]))


def test_a_new_number_of_the_images_user_keeps_its_volumes(world: TinyWorld) -> None:
    """Nothing on the disk changes: the release before, with its number, finds all as it was."""
    tree = world.home / "tree"
    images = {number: world.image_of(tree, user=f"{number}:{number}") for number in (USER, 10_002)}
    volumes = (Volume(name="data", path="/var/lib/data", access="shared"),)
    kept = Names(world.state, world.id).volumes(world.release(["true"]).environment) / "data"
    said = []
    for number in (USER, 10_002, USER):
        script = f"echo {number} >>/var/lib/data/log || exit 1; mkdir /var/lib/data/of-$$-{len(said)}; "
        script += "ls -ldn /var/lib/data /var/lib/data/log; cat /var/lib/data/log"
        release = world.release(["sh", "-c", script], volumes=volumes, stop=QUICK)
        instance = world.run(release, image=images[number])
        assert world.ended(instance).exit_status == 0
        lines = [line.split(" ", 2)[2] for line in world.runtime.log_lines(instance.id)]
        assert {tuple(line.split()[2:4]) for line in lines[:2]} == {(str(number), str(number))}
        said = lines[2:]
        world.destroy(instance, release)
        world.runtime.forget(release.environment, [instance.id], volumes=False)
    assert said == [str(USER), "10002", str(USER)]
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (kept, *kept.iterdir())}
    assert owners == {(USER, USER)}, "on the disk it is whose it was when it was made"


def test_without_user_namespaces_it_is_said_whose_a_volume_is(
    world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Unsupported("this kernel cannot")

    monkeypatch.setattr(idmap, "_shift", refuse)
    release = world.release(["sleep", "1000"], volumes=(Volume(name="data", path="/var/lib/data"),), stop=QUICK)
    instance = world.run(release)
    world.destroy(instance, release)
    image = world.image_of(world.home / "tree", user="10002:10002")
    with pytest.raises(ProviderError, match="the volume 'data' belongs to user 10001:10001") as caught:
        world.runtime.create(world.instance(release), release, image)
    assert "chown -R --from=10001:10001 10002:10002" in (caught.value.hint or "")
    assert world.traces() == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (5, 7, "0 100 5\n5 107 1\n6 106 1\n7 105 1\n8 108 2\n"),
        (7, 5, "0 100 5\n5 107 1\n6 106 1\n7 105 1\n8 108 2\n"),
        (5, 5, "0 100 5\n5 105 1\n6 106 4\n"),
        (0, 9, "0 109 1\n1 101 8\n9 100 1\n"),
        (70_000, 5, "0 100 5\n6 106 4\n70000 105 1\n"),
    ],
)
def test_two_numbers_change_places(one: int, other: int, expected: str) -> None:
    assert namespaces.exchange_map(IdRange(first=100, count=10), one, other) == expected


def _intent(world: TinyWorld, instance: Instance) -> tuple[str, ...]:
    intent = record.find_intent(world.state.instances / instance.id)
    assert intent is not None
    return tuple(intent.layers)


def _subject(world: TinyWorld, instance: Instance, release: Release, image: Image) -> Subject:
    return Subject(instance=instance, release=release, image=image)


def test_a_volume_holds_what_it_may_and_not_more(world: TinyWorld) -> None:
    volumes = (Volume(name="data", path="/var/lib/data", size_bytes=24 << 20),)
    script = "ls -A /var/lib/data; dd if=/dev/zero of=/var/lib/data/x bs=1M count=100; "
    script += ">/var/lib/data/x; echo kept >/var/lib/data/y"
    lines = world.output(script, volumes=volumes)
    assert "No space left on device" in lines[0], "it is empty at first, and has an end"
    folder = _folder(world)
    assert (folder / "y").read_text() == "kept\n"
    assert (folder.stat().st_uid, folder.stat().st_gid) == (USER, USER)
    assert folder.is_mount()
    image = folder.with_name(".data.img")
    assert image.stat().st_size == 24 << 20
    assert image.stat().st_blocks * 512 >= 24 << 20, "its room is reserved"
    assert world.output("cat /var/lib/data/y", volumes=volumes) == ["kept"]


def test_a_limit_grows_while_it_is_in_use_and_never_shrinks(world: TinyWorld) -> None:
    def release(size: int | None) -> Release:
        volumes = (Volume(name="data", path="/var/lib/data", size_bytes=size, access="shared"),)
        script = "ls /var/lib/data/x || echo first >/var/lib/data/x; echo ready; sleep 1000"
        return world.release(["sh", "-c", script], volumes=volumes, stop=QUICK)

    instances = []
    for serial, size in enumerate((24 << 20, 64 << 20, 24 << 20), 1):
        instance = world.run(release(size), serial)
        world.printed(instance, "ready")
        instances.append(instance)
    assert len(loop_devices_of(_folder(world))) == 1, "two would destroy it"
    if _may_grow_in_use():
        assert 48 << 20 < _size_bytes(_folder(world)) < 64 << 20
    for instance in instances:
        world.destroy(instance, release(None))
    world.runtime.clear_orphans(lambda: [])
    assert world.output("cat /var/lib/data/x", volumes=release(None).configuration.service.volumes)[-1] == "first"
    assert 48 << 20 < _size_bytes(_folder(world)) < 64 << 20


def test_a_volume_that_gets_a_limit_keeps_its_data(world: TinyWorld) -> None:
    before = (Volume(name="data", path="/var/lib/data"),)
    assert world.output("echo old >/var/lib/data/x; mkdir /var/lib/data/d; echo done", volumes=before) == ["done"]
    after = (Volume(name="data", path="/var/lib/data", size_bytes=32 << 20),)
    script = "cat /var/lib/data/x; ls /var/lib/data; touch /var/lib/data/new && echo done"
    assert world.output(script, volumes=after) == ["old", "d", "x", "done"]
    assert world.output("ls /var/lib/data", volumes=before) == ["d", "new", "x"], "a release before finds all"
    assert sorted(path.name for path in _folder(world).parent.iterdir()) == [".data.img", ".lock", "data"]


def test_a_volume_in_use_gets_no_limit(world: TinyWorld) -> None:
    before = (Volume(name="data", path="/var/lib/data", access="shared"),)
    release = world.release(
        ["sh", "-c", "echo old >/var/lib/data/x; echo ready; sleep 1000"], volumes=before, stop=QUICK
    )
    instance = world.run(release)
    world.printed(instance, "ready")
    limited = world.release(["sleep", "1000"], volumes=(replace(before[0], size_bytes=32 << 20),), stop=QUICK)
    with pytest.raises(ProviderError, match="it is in use") as caught:
        world.runtime.create(world.instance(limited, 2), limited, world.image)
    assert "which keeps volumes" in (caught.value.hint or "")
    assert (_folder(world) / "x").read_text() == "old\n"
    world.destroy(instance, release)


@pytest.mark.parametrize("killed_at", ["mkfs.ext4", "rename 1", "rename 2"])
def test_who_is_killed_while_a_volume_gets_its_limit_loses_nothing(
    tmp_path: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    (folder / "d").mkdir(parents=True)
    (folder / "d/x").write_text("old\n")
    renames = 0
    run, rename = sized._run, Path.rename

    def killed_run(*argv: str) -> None:
        if argv[0] == killed_at:
            raise KeyboardInterrupt
        run(*argv)

    def killed_rename(path: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if killed_at == f"rename {renames}":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(sized, "_run", killed_run)
        patch.setattr(Path, "rename", killed_rename)
        with pytest.raises(KeyboardInterrupt):
            sized.attach(folder, 24 << 20)
    sized.attach(folder, 24 << 20)
    try:
        assert (folder / "d/x").read_text() == "old\n"
        assert folder.is_mount()
    finally:
        sized.detach(folder)
    assert not folder.is_mount()
    (folder / "stray").touch()
    with pytest.raises(HostError, match="put there while it was not mounted"):
        sized.attach(folder, None)
    (folder / "stray").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.img", ".lock", "data"]


def test_volumes_with_a_limit_leave_nothing_behind(world: TinyWorld) -> None:
    volumes = (Volume(name="data", path="/var/lib/data", size_bytes=16 << 20),)
    assert world.output("echo x", volumes=volumes) == ["x"]
    folder = _folder(world)
    world.runtime.clear_orphans(lambda: [])
    assert not folder.is_mount(), "nobody has it: it is unmounted"
    assert world.output("echo x", volumes=volumes) == ["x"]
    world.runtime.forget(world.release(["true"]).environment, [], volumes=True)
    assert not folder.parent.exists()
    assert loop_devices_of(folder) == []


@pytest.fixture
def names(tmp_path: Path) -> Names:
    """Names of a machine on which somebody was killed who filled the file system of the volume ``data``."""
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "0123ab")
    folder = names.volumes(ENV) / "data"
    folder.mkdir(parents=True)
    (folder / "x").write_text("old\n")
    if (pid := os.fork()) == 0:
        Copying.run = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        with contextlib.suppress(BaseException):
            sized.attach(folder, 24 << 20)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert folder.with_name(".data.copy").is_mount()
    return names


@pytest.mark.parametrize("how", ["attach", "remove", "destroy"])
def test_who_is_killed_while_a_volume_is_copied_leaves_nothing_mounted(names: Names, how: str) -> None:
    folder = names.volumes(ENV) / "data"
    if how == "attach":
        sized.attach(folder, 24 << 20)
        assert (folder / "x").read_text() == "old\n"
        assert sorted(path.name for path in folder.parent.iterdir()) == [".data.img", ".lock", "data"]
        sized.detach(folder)
    elif how == "remove":
        volumes.remove(names, ENV, "data")
    else:
        root.remove_volumes(names, ENV)
    assert folder.parent.exists() == (how == "attach")
    assert loop_devices_of(folder) == []


@pytest.mark.parametrize("killed_at", range(6))
def test_a_volume_whose_removal_is_killed_is_listed_and_never_comes_back(
    tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "0123ab")
    folder = names.volumes(ENV) / "data"
    folder.mkdir(parents=True)
    sized.attach(folder, 16 << 20)
    (folder / "x").write_text("removed\n")
    calls, remove = 0, trees.remove

    def killed(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > killed_at:
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(trees, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            volumes.remove(names, ENV, "data")
    (kept,) = volumes.stored(names)
    assert (kept.name, kept.where) == ("data", str(folder))
    assert sized.has_limit(folder) == (killed_at < 5), "what is in it goes before the folder does"
    volumes.remove(names, ENV, "data")
    assert list(volumes.stored(names)) == []
    assert not folder.parent.exists()


def test_what_is_left_of_a_volume_without_its_folder_is_listed_and_removed(tmp_path: Path) -> None:
    names = Names(StateDirectory(tmp_path, tmp_path / "run"), "0123ab")
    parent = names.volumes(ENV)
    (parent / ".old.old").mkdir(parents=True)
    (parent / "more").mkdir()
    (parent / ".more.img").write_bytes(bytes(1 << 20))
    (parent / ".data.img").write_bytes(bytes(1 << 20))
    found = {one.name: one.used_bytes for one in volumes.stored(names)}
    assert sorted(found) == ["data", "more", "old"]
    assert found["data"] == 1 << 20
    for name in ("", "*", "..", ".data.img", "more/../data", "d"):
        with pytest.raises(NotFound, match="there is none"):
            volumes.remove(names, ENV, name)
    volumes.remove(names, ENV, "data")
    assert [one.name for one in volumes.stored(names)] == ["more", "old"]
    assert (parent / ".more.img").exists()


def test_who_waits_for_a_volume_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sized, "_PATIENCE_S", 0.1)
    with locks.hold(tmp_path / ".lock", "data"):
        with pytest.raises(HostError, match=f"process {os.getpid()} is working on it") as caught:
            sized.remove(tmp_path / "data")
        assert "copying what the volume holds" in (caught.value.hint or "")


def test_shared_memory_has_the_size_that_is_asked_for(world: TinyWorld) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=90 2>&1 | tail -n 1"
    assert "No space left" in world.output(script.replace(" | tail -n 1", ""))[0]
    lines = world.output(script + "; ls -s /dev/shm", shm_bytes=96 << 20)
    assert not [line for line in lines if "No space" in line]


def _folder(world: TinyWorld) -> Path:
    return Names(world.state, world.id).volumes(world.release(["true"]).environment) / "data"


def _size_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize


def _may_grow_in_use() -> bool:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> 24 & 1)  # CAP_SYS_RESOURCE


def loop_devices_of(folder: Path) -> list[str]:
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [path.parts[3] for path in found if path.read_text().startswith(str(folder.parent))]


def test_folders_that_are_nested_deeper_than_a_path_can_say_get_a_limit_too(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    nest(folder, 25, "d" * 200)
    sized.attach(folder, 32 << 20)
    try:
        assert folder.is_mount()
        found = process.run(["find", folder, "-type", "d", "-printf", "x"], timeout_s=60)
        assert found.stdout == b"x" * 26
    finally:
        sized.remove(folder)
