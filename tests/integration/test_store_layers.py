"""Trees on disk → layers → trees: everything that a layer carries comes back, and its bytes are fixed."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.errors import BlobDamaged, StoreError
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store import Store
from instar.store.compression import plain

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000
OPAQUE = "trusted.overlay.opaque"

Tree = dict[bytes, tuple[object, ...]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    root.chmod(0o755)
    return root


def read(root: Path) -> Tree:
    """Everything that a layer says about a tree, by path."""
    found: Tree = {}
    top = os.fsencode(root)
    for above, folders, files in os.walk(top):
        for path in (above, *(above + b"/" + name for name in (*folders, *files))):
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if stat.S_ISREG(kind):
                content = (Path(os.fsdecode(path)).read_bytes(), status.st_nlink)
            elif stat.S_ISLNK(kind):
                content = os.readlink(path)  # noqa: PTH115 - bytes
            elif not stat.S_ISDIR(kind):
                content = status.st_rdev
            xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(listed(path))}
            rest = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime))
            found[os.path.relpath(path, top)] = (kind, *rest, content, tuple(xattrs.items()))
    return found


def listed(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def settle(root: Path, moment: int = EPOCH) -> None:
    """Give all of a tree one time."""
    for above, folders, files in os.walk(root, topdown=False):
        for name in (*folders, *files, "."):
            os.utime(Path(above) / name, (moment, moment), follow_symlinks=False)


def names(store: Store, layer: Layer, tmp_path: Path) -> list[str]:
    tar = tmp_path / "layer.tar"
    with store._blobs.opened(layer.digest) as file:
        tar.write_bytes(b"".join(plain(iter([file.read()]))))
    with tarfile.open(tar, errors="surrogateescape") as archive:
        return [member.name + ("/" if member.isdir() else "") for member in archive]


def folder(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)


def furnish(root: Path) -> None:
    """One of everything, with fixed owners, modes and times."""
    folder(root / "etc", 0o755)
    (root / "etc/hosts").write_bytes(b"127.0.0.1 localhost\n")
    (root / "etc/hosts").chmod(0o644)
    (root / "etc/alias").hardlink_to(root / "etc/hosts")
    (root / "etc/mtab").symlink_to("../proc/self/mounts")
    folder(root / "bin", 0o755)
    (root / "bin/su").write_bytes(b"\x7fELF" + bytes(2_000))
    os.chown(root / "bin/su", 0, 42)
    (root / "bin/su").chmod(0o4750)
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    os.setxattr(root / "bin/su", "security.capability", capability)
    os.setxattr(root / "etc", "user.origin", b"a\0b")
    (root / ("long-" * 30)).write_bytes(b"")
    (root / ("long-" * 30)).chmod(0o600)
    folder(root / "größe", 0o700)
    odd = os.fsencode(root) + b"/not-utf8-\xff"
    os.close(os.open(odd, os.O_CREAT))
    os.chmod(odd, 0o640)  # noqa: PTH101 - bytes
    folder(root / "far", 0o3777)
    os.chown(root / "far", 2_500_000, 4_000_000_000)
    (root / "far").chmod(0o3777)
    whiteout(root / "etc/motd")
    folder(root / "etc/hosts.d", 0o755)
    os.setxattr(root / "etc/hosts.d", OPAQUE, b"y")
    (root / "etc/hosts.d/+first").write_bytes(b"+")
    (root / "etc/hosts.d/+first").chmod(0o644)
    settle(root)


def test_a_layer_is_the_same_bytes_for_ever(store: Store, tree: Path) -> None:
    """The golden digests of bake format 1: a change of either is a new format."""
    furnish(tree)
    assert store.add_layer(tree, step="files", epoch=EPOCH) == Layer(
        diff_id=Digest("sha256:b08af94f5685b48bf4330b31d69afb6375c63cf1706bca822158bf11648369d2"),
        digest=Digest("sha256:9ad1c53f8de8d5fdb65cf0dbe129a5558cd4cdc5a2853206c4229f0eb9ee0b43"),
        size_bytes=659,
        step="files",
    )


def test_everything_comes_back(store: Store, tree: Path, tmp_path: Path) -> None:
    furnish(tree)
    layer = store.add_layer(tree, step="files", epoch=EPOCH)
    store.unpack(layer, tmp_path / "out")
    assert read(tmp_path / "out") == read(tree)
    assert store.add_layer(tmp_path / "out", step="files", epoch=EPOCH) == layer


def test_members_stand_in_the_order_of_their_names(store: Store, tree: Path, tmp_path: Path) -> None:
    for name in ("b", "a-b", "a.b", "a0"):
        (tree / name).write_bytes(b"")
    (tree / "a/b").mkdir(parents=True)
    whiteout(tree / "z")
    os.setxattr(tree / "a", OPAQUE, b"y")
    layer = store.add_layer(tree, step="", epoch=EPOCH)
    assert names(store, layer, tmp_path) == [
        *("./", ".wh.z", "a-b", "a.b", "a/", "a/.wh..wh..opq", "a/b/", "a0", "b"),
    ]


def test_how_a_tree_came_to_be_makes_no_difference(store: Store, tree: Path, tmp_path: Path) -> None:
    furnish(tree)
    again = tmp_path / "again"
    again.mkdir()
    again.chmod(0o755)
    (again / "zzz").write_bytes(b"")
    before = os.umask(0o077)
    try:
        furnish(again)
    finally:
        os.umask(before)
    (again / "zzz").unlink()
    os.setxattr(again / "etc", "trusted.overlay.impure", b"y")
    os.setxattr(again / "etc", "trusted.overlay.origin", os.urandom(8))
    assert store.add_layer(again, step="", epoch=EPOCH) == store.add_layer(tree, step="", epoch=EPOCH)


def test_times_are_clamped_to_the_epoch(store: Store, tree: Path, tmp_path: Path) -> None:
    for name, moment in (("new", EPOCH + 10.5), ("old", 1_000_000_000.999), ("older", -5.0)):
        (tree / name).write_bytes(b"")
        os.utime(tree / name, (moment, moment))
    store.unpack(store.add_layer(tree, step="", epoch=EPOCH), tmp_path / "out")
    times = {path.name: path.stat().st_mtime for path in (tmp_path / "out").iterdir()}
    assert times == {"new": EPOCH, "old": 1_000_000_000, "older": 0}
    assert (tmp_path / "out").stat().st_mtime == EPOCH


def test_attributes_of_the_machine_and_of_the_overlay_are_left_out(store: Store, tree: Path, tmp_path: Path) -> None:
    (tree / "f").write_bytes(b"")
    for name in ("user.kept", "user.overlay.opaque", "trusted.mine"):
        os.setxattr(tree / "f", name, b"1")
    os.setxattr(tree, "trusted.overlay.opaque", b"x")
    store.unpack(store.add_layer(tree, step="", epoch=EPOCH), tmp_path / "out")
    assert os.listxattr(tmp_path / "out/f") == ["user.kept"]
    assert os.listxattr(tmp_path / "out") == []


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def disk(path: Path) -> None:
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 0))


def marker(path: Path) -> None:
    path.with_name(".wh.odd").write_bytes(b"")


def redirected(path: Path) -> None:
    path.mkdir()
    os.setxattr(path, "trusted.overlay.redirect", b"/elsewhere")


def badly_named(path: Path) -> None:
    path.write_bytes(b"")
    os.setxattr(path, "user.a=b", b"")


@pytest.mark.parametrize(
    ("make", "name", "cause"),
    [
        (pipe, "/d/odd", "a pipe cannot be part"),
        (listener, "/d/odd", "a socket cannot be part"),
        (device, "/d/odd", "a device cannot be part"),
        (disk, "/d/odd", "a device cannot be part"),
        (marker, "/d/.wh.odd", "something was removed"),
        (redirected, "/d/odd/", "redirect_dir=off"),
        (badly_named, "/d/odd", "user.a=b"),
    ],
)
def test_what_a_layer_cannot_hold_is_refused(
    store: Store, tree: Path, make: Callable[[Path], None], name: str, cause: str
) -> None:
    (tree / "d").mkdir()
    make(tree / "d/odd")
    with pytest.raises(StoreError, match=cause) as caught:
        store.add_layer(tree, step="", epoch=EPOCH)
    assert f"'{name}'" in caught.value.message
    assert not any((store.root / "partial").iterdir())
    assert not any((store.root / "blobs/sha256").iterdir())


def test_a_tree_that_is_missing_or_no_directory_is_refused(store: Store, tree: Path) -> None:
    (tree / "file").write_bytes(b"")
    for path in (tree / "none", tree / "file"):
        with pytest.raises(StoreError, match="cannot store '/'"):
            store.add_layer(path, step="", epoch=EPOCH)


def test_a_file_of_holes_is_stored_as_its_zeros(store: Store, tree: Path, tmp_path: Path) -> None:
    with (tree / "holes").open("wb") as file:
        file.truncate(30 << 20)
        file.seek(10 << 20)
        file.write(b"x")
    layer = store.add_layer(tree, step="", epoch=EPOCH)
    assert layer.size_bytes < 100_000
    store.unpack(layer, tmp_path / "out")
    assert (tmp_path / "out/holes").read_bytes() == (tree / "holes").read_bytes()


def test_an_overlay_of_unpacked_layers_shows_what_was_meant(store: Store, tree: Path, tmp_path: Path) -> None:
    """The form that is unpacked is the one that the kernel reads."""
    for name in ("gone", "kept", "emptied/old", "replaced/old"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(name)
    base = store.add_layer(tree, step="base", epoch=EPOCH)
    shutil.rmtree(tree)
    tree.mkdir()
    whiteout(tree / "gone")
    for name in ("emptied", "replaced"):
        (tree / name).mkdir()
        os.setxattr(tree / name, OPAQUE, b"y")
    (tree / "replaced/new").write_text("new")
    change = store.add_layer(tree, step="files", epoch=EPOCH)
    lower, upper, merged = (tmp_path / name for name in ("lower", "upper", "merged"))
    store.unpack(base, lower)
    store.unpack(change, upper)
    merged.mkdir()
    mount("-t", "overlay", "-o", f"ro,lowerdir={upper}:{lower}", "none", str(merged))
    try:
        found = sorted(str(path.relative_to(merged)) for path in merged.rglob("*"))
    finally:
        unmount(merged)
    assert found == ["emptied", "kept", "replaced", "replaced/new"]


def test_a_damaged_blob_is_told_whichever_way_it_is_damaged(store: Store, tree: Path, tmp_path: Path) -> None:
    (tree / "noise").write_bytes(os.urandom(300_000))
    layer = store.add_layer(tree, step="", epoch=EPOCH)
    path = store.root / "blobs/sha256" / layer.digest.hex
    whole = path.read_bytes()
    damages = (whole[:-3], whole[:1000], b"", whole + b"x", whole[:500] + b"?" + whole[501:], b"?" * len(whole))
    for number, damage in enumerate(damages):
        path.unlink(missing_ok=True)
        path.write_bytes(damage)
        with pytest.raises(BlobDamaged):
            store.verify(layer.digest)
        with pytest.raises(BlobDamaged):
            store.unpack(layer, tmp_path / f"out{number}")
        assert not store.holds(layer), "a bake would take it for whole"
    assert store.add_layer(tree, step="", epoch=EPOCH) == layer
    store.verify(layer.digest)
    path.unlink()
    with pytest.raises(BlobDamaged, match="missing"):
        store.unpack(layer, tmp_path / "none")


def test_a_layer_that_is_another_than_its_diff_id_is_damaged(store: Store, tree: Path, tmp_path: Path) -> None:
    layer = store.add_layer(tree, step="", epoch=EPOCH)
    other = Layer(digest=layer.digest, size_bytes=layer.size_bytes, diff_id=Digest.of(b"other"))
    with pytest.raises(BlobDamaged, match="the tar in it"):
        store.unpack(other, tmp_path / "out")


def test_a_full_directory_is_not_unpacked_into(store: Store, tree: Path) -> None:
    (tree / "precious").write_text("x")
    layer = store.add_layer(tree, step="", epoch=EPOCH)
    with pytest.raises(StoreError, match="is not empty"):
        store.unpack(layer, tree)
    assert (tree / "precious").read_text() == "x"


def mount(*words: str) -> None:
    from instar import process

    process.run(["mount", *words])


def unmount(path: Path) -> None:
    from instar import process

    process.run(["umount", path])


@pytest.fixture
def tiny(tmp_path: Path) -> object:
    """A file system of 1 MiB."""
    path = tmp_path / "tiny"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "none", str(path))
    yield path
    unmount(path)


def test_a_full_file_system_is_named_and_nothing_is_left(tree: Path, tiny: Path, tmp_path: Path) -> None:
    store = Store(tiny / "store")
    kept, _ = store.add_blob([b"kept"])
    (tree / "noise").write_bytes(os.urandom(3 << 20))
    with pytest.raises(StoreError) as caught:
        store.add_layer(tree, step="", epoch=EPOCH)
    assert f"the file system at '{tiny}' is full" in caught.value.message
    assert "free" in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert not any((store.root / "partial").iterdir())
    store.verify(kept)
    store.add_blob([b"x" * 500_000])
    elsewhere = Store(tmp_path / "store")
    layer = elsewhere.add_layer(tree, step="", epoch=EPOCH)
    with pytest.raises(StoreError, match=f"that there is room for at '{tiny}'"):
        elsewhere.unpack(layer, tiny / "out")
