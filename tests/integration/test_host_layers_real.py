"""Layers' EROFS images: made once, mounted once, checked before the first mount, removed whole."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.host.filesystems import erofs
from instar.host.filesystems.layers import LayerImages
from instar.host.kernel import mounts
from instar.model.digest import Digest
from instar.model.image import Layer
from instar.store import hashed_files
from instar.store.hashed_files import HashedFiles

pytestmark = pytest.mark.root


class OneFileStore:
    """A store whose layers hold one file each, with the layer's diff ID in it."""

    def __init__(self) -> None:
        self.unpacked: list[Digest] = []

    def unpack(self, layer: Layer, into: Path, *, copies: int = 1) -> None:
        self.unpacked.append(layer.diff_id)
        (into / "diff-id").write_text(layer.diff_id)


@pytest.fixture
def store() -> OneFileStore:
    return OneFileStore()


@pytest.fixture
def images(store: OneFileStore, tmp_path: Path) -> Iterator[LayerImages]:
    hashed_files = HashedFiles(tmp_path / "sealed")
    made = LayerImages(store, tmp_path / "layers", tmp_path / "mounts", hashed_files)  # type: ignore[arg-type]
    yield made
    made.prune([], list)
    assert mounts.mounts_below(tmp_path) == ()


def layer(name: str) -> Layer:
    return Layer(digest=Digest.of(name.encode()), diff_id=Digest.of(b"diff" + name.encode()), size_bytes=1)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def overwrite(image: Path) -> None:
    subprocess.run(["chattr", "-i", image], check=True)
    with image.open("r+b") as file:
        file.seek(4096)
        file.write(b"damage")


def test_a_layer_is_made_from_its_blob_once_and_mounted_once(images: LayerImages, store: OneFileStore) -> None:
    target = images.mount(layer("a"))
    assert (target / "diff-id").read_text() == layer("a").diff_id
    assert images.mount(layer("a")) == target
    assert target.name == layer("a").diff_id.hex[:16]
    assert len(mounts.mounts_below(target)) == len(store.unpacked) == 1


def test_a_tree_that_is_at_hand_is_used_instead_of_the_blob(
    images: LayerImages, store: OneFileStore, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "here").touch()
    images.provide(layer("a"), tmp_path / "tree")
    assert names(images.mount(layer("a"))) == {"here"}
    assert store.unpacked == []


def test_nobody_can_write_an_image(images: LayerImages) -> None:
    image = images.provide(layer("a"))
    with pytest.raises(PermissionError):
        image.open("r+b")


def test_a_damaged_image_is_made_again(images: LayerImages, store: OneFileStore) -> None:
    overwrite(images.provide(layer("a")))
    assert (images.mount(layer("a")) / "diff-id").read_text() == layer("a").diff_id
    assert len(store.unpacked) == 2


def test_an_image_is_hashed_before_every_mount_but_the_one_that_it_was_made_for(
    images: LayerImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    real = erofs.digest_of

    def seen(image: Path) -> Digest:
        hashed.append(image)
        return real(image)

    monkeypatch.setattr(erofs, "digest_of", seen)
    images.mount(layer("a"))
    images.mount(layer("a"))
    assert len(hashed) == 1, "while it was made"
    for number in (2, 3):
        images.unmount_all()
        images.mount(layer("a"))
        images.mount(layer("a"))
        assert len(hashed) == number
    monkeypatch.setattr(hashed_files, "boot_id", lambda: "another boot")
    target = images.mount(layer("a"))
    assert len(hashed) == 4 and target.is_mount(), "it is not mounted anew"
    assert [one.name for one in hashed[1:]] == [f"{layer('a').diff_id.hex}.erofs"] * 3


def test_what_rotted_unseen_is_found_before_it_is_mounted_again(images: LayerImages, store: OneFileStore) -> None:
    """The file looks as it did when it was last hashed: a disk that decays changes neither size nor times."""
    target = images.mount(layer("a"))
    image = images.provide(layer("a"))
    overwrite(image)
    with images._hashed_files.sealing(image):
        pass
    assert images.examine(layer("a").diff_id) is None
    images.unmount_all()
    assert (images.mount(layer("a")) / "diff-id").read_text() == layer("a").diff_id
    assert target.is_mount() and len(store.unpacked) == 2


def test_an_image_without_its_record_is_made_again(images: LayerImages, store: OneFileStore) -> None:
    images.provide(layer("a")).with_suffix(".sha256").unlink()
    images.mount(layer("a"))
    assert len(store.unpacked) == 2


def test_prune_spares_what_is_kept_and_what_is_being_made(images: LayerImages, tmp_path: Path) -> None:
    used, kept, gone = (images.mount(layer(name)) for name in ("used", "kept", "gone"))
    for name in ("abandoned", "held"):
        (tmp_path / "layers" / f".making-{name}").mkdir()
    descriptor = os.open(tmp_path / "layers" / ".making-held", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert images.prune([layer("kept").diff_id], lambda: [layer("used").diff_id]) > 0
    os.close(descriptor)
    assert (used.is_mount(), kept.exists(), gone.exists()) == (True, False, False)
    left = {f"{layer(name).diff_id.hex}.{end}" for name in ("used", "kept") for end in ("erofs", "sha256")}
    assert names(tmp_path / "layers") == {*left, ".making-held", "lock"}


def test_unmounting_keeps_the_images(images: LayerImages) -> None:
    target = images.mount(layer("a"))
    images.unmount_all()
    assert not target.exists()
    assert images.provide(layer("a")).exists()


def test_threads_that_want_the_same_layer_get_one_mount(images: LayerImages) -> None:
    threads = [threading.Thread(target=images.mount, args=(layer("a"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mounts.mounts_below(images.mount(layer("a")))) == 1


def test_holes_are_spared_where_tmp_is_another_file_system() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", name], check=True)
        try:
            tree, image = Path(name) / "tree", Path(name) / "image"
            tree.mkdir()
            with (tree / "sparse").open("wb") as file:
                file.truncate(32 << 20)
            erofs.make(tree, image)
            assert image.stat().st_size < 4 << 20
        finally:
            subprocess.run(["umount", name], check=True)
