"""The author's files on their whole way: baked, mounted, exported and imported, pushed and pulled, mounted there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, tiny_packages
from registry_kit import Door, at

from instar.errors import StepFailed
from registries import RealRegistry, running

pytestmark = pytest.mark.root
NAMES = (b"a b", b" lead", b"trail ", b"new\nline", b"\xff\xfe", b"tab\t", b"back\\slash", b"-dash", b"a=b",
         "ü".encode(), b"\x01", b"n" * 101, b"m" * 254, b"..x", b"*", b"'\"")  # fmt: skip
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
OF_A_NAMESPACE = bytes.fromhex("0100000300040000000000000000000000000000e8030000")
KEEP = "keep: [setuid, capabilities, attributes, hardlinks, links]"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "one")
    write_app(made.folder / "app")
    yield made
    made.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "elsewhere")
    yield made
    made.close()


def write_app(app: Path) -> None:
    app.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(app) + b"/" + name)).write_bytes(name)
    (app / "empty").mkdir()
    deep = app.joinpath(*["d" * 100] * 8)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (app / "first").write_bytes(b"one file")
    os.link(app / "first", app / "second")
    (app / "link").symlink_to("first")
    Path(os.fsdecode(os.fsencode(app) + b"/oddlink")).symlink_to(os.fsdecode(b"\xff odd\n"))
    (app / "longlink").symlink_to("x/" * 1499 + "x")
    with (app / "sparse").open("wb") as file:
        file.truncate(24 << 20)
        file.seek(4 << 20)
        file.write(b"data")
    (app / "first").chmod(0o4755)
    (app / "capable").write_bytes(b"")
    os.setxattr(app / "capable", "security.capability", CAPABILITY)
    os.setxattr(app / "first", "user.note", b"\x00\xff")
    os.setxattr(app / "empty", "user.note", b"of a folder")
    (app / "empty").chmod(0o3755)


def told(top: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything of a tree: path → mode, owner, content or target, attributes, time."""
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(os.fsencode(top)):
        for name in (*folders, *names):
            path = folder + b"/" + name
            status = os.lstat(path)
            link = stat.S_ISLNK(status.st_mode)
            there = Path(os.fsdecode(path))
            content = os.fsencode(there.readlink()) if link else there.read_bytes() if name in names else b""
            xattrs = {
                one: os.getxattr(path, one, follow_symlinks=False)
                for one in os.listxattr(path, follow_symlinks=False)
                if not one.startswith("trusted.")
            }
            inside = os.path.relpath(path, os.fsencode(top))
            found[inside] = (status.st_mode, status.st_uid, status.st_gid, content, xattrs, status.st_mtime_ns)
    return found


def definition(more: str = "") -> str:
    return f"base: debian:test\nfiles:\n  - {{from: app, to: /srv/app, owner: app{more}}}"


def test_the_whole_way(world: World, elsewhere: World, tmp_path: Path) -> None:
    lock = world.lock(tiny_packages(world), bake_format=2)
    image = world.bake(world.load(definition(f", {KEEP}")), lock, mountable=True).image
    with world.mounted(image) as root:
        here = told(root / "srv/app")
        assert set(NAMES) <= set(here) and all(here[name][3] == name for name in NAMES)
        assert (root / "srv/app/first").stat().st_ino == (root / "srv/app/second").stat().st_ino
    assert here[b"first"][0] == stat.S_IFREG | 0o4755 and here[b"first"][4] == {"user.note": b"\x00\xff"}
    assert here[b"capable"][4] == {"security.capability": CAPABILITY}
    assert here[b"empty"][0] == stat.S_IFDIR | 0o3755 and here[b"empty"][4] == {"user.note": b"of a folder"}
    assert here[b"sparse"][3] == bytes(4 << 20) + b"data" + bytes((20 << 20) - 4)
    assert (here[b"oddlink"][3], here[b"longlink"][3]) == (b"\xff odd\n", b"x/" * 1499 + b"x")

    world.store.export(image.digest, tmp_path / "image.oci", tag="tiny")
    elsewhere.store.add_manifest(elsewhere.store.receive(tmp_path / "image.oci").manifest)
    with elsewhere.mounted(elsewhere.store.image(image.digest)) as root:
        assert told(root / "srv/app") == here

    third = World(tmp_path / "third")
    with running(RealRegistry(tmp_path / "registry")) as registry:
        what = at(registry.host, image)
        Door().registries.push(world.store, image.digest, what.repository)
        Door().registries.pull(third.store, what)
    try:
        with third.mounted(third.store.image(image.digest)) as root:
            assert told(root / "srv/app") == here
    finally:
        third.close()


def test_what_nobody_asked_for_by_name_is_left_out(world: World) -> None:
    lock = world.lock(tiny_packages(world), bake_format=2)
    with world.mounted(world.bake(world.load(definition()), lock).image) as root:
        found = told(root / "srv/app")
        assert (root / "srv/app/first").stat().st_ino != (root / "srv/app/second").stat().st_ino
    assert found[b"first"][0] == stat.S_IFREG | 0o755 and found[b"empty"][0] == stat.S_IFDIR | 0o755
    assert not any(one[4] for one in found.values())


def test_holes_are_not_written_out(world: World) -> None:
    lock = world.lock(tiny_packages(world), bake_format=2)
    layer = world.bake(world.load(definition()), lock, mountable=True).steps[-1].layer
    unpacked = world.path / "unpacked"
    world.store.unpack(layer, unpacked)
    for file in (world.state.layers / f"{layer.diff_id.hex}.erofs", unpacked / "srv/app/sparse"):
        assert file.stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize(
    ("spoil", "more", "cause"),
    [
        (lambda app: (app / "away").symlink_to("/etc/passwd"), "", r"leads out of what is copied.*keep: \[links\]"),
        (lambda app: os.setxattr(app / "capable", "security.capability", OF_A_NAMESPACE), ", keep: [capabilities]",
         "its capabilities are of a user namespace"),
        (lambda app: os.setxattr(app / "first", "user.a=b", b"1"), ", keep: [attributes]", "for the '=' in its name"),
        (lambda app: (app / ("n" * 255)).write_text(""), "", "its name has 255 bytes"),
        (lambda app: os.mkfifo(app / "pipe"), "", "is a pipe"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_is_said(world: World, spoil: object, more: str, cause: str) -> None:
    assert callable(spoil)
    spoil(world.folder / "app")
    with pytest.raises(StepFailed, match=cause):
        world.bake(world.load(definition(more)), world.lock(tiny_packages(world), bake_format=2))
    assert not world.work_left()
