"""skopeo, podman and umoci read what the store writes, and see the tree that we see."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_store_layers import EPOCH, OPAQUE, Tree, folder, furnish, mount, read, settle, unmount, whiteout

from instar import process
from instar.errors import CommandFailed
from instar.model.image import Image, ImageConfig
from instar.store import Store

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interoperability")


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    return Store(place / "store")


@pytest.fixture(scope="module")
def image(place: Path, store: Store) -> Image:
    """Two layers with one of everything, the upper one removing some of the lower."""
    lower, upper = place / "lower", place / "upper"
    folder(lower, 0o755)
    furnish(lower)
    (lower / "etc/motd").unlink()  # in the lowest layer, a whiteout has nothing to remove
    for name in ("gone", "emptied/old", "replaced/old"):
        (lower / name).parent.mkdir(exist_ok=True)
        (lower / name).write_text(name)
    settle(lower)
    folder(upper, 0o755)
    whiteout(upper / "gone")
    for name in ("emptied", "replaced"):
        folder(upper / name, 0o750)
        os.setxattr(upper / name, OPAQUE, b"y")
    (upper / "replaced/new").write_text("new")
    (upper / "replaced/alias").hardlink_to(upper / "replaced/new")
    settle(upper)
    layers = [store.add_layer(tree, step=tree.name, epoch=EPOCH) for tree in (lower, upper)]
    config = ImageConfig(
        architecture="amd64",
        user="10001:10001",
        command=("serve", "-v"),
        env={"A": "b"},
        ports=(80,),
        labels={"x": "y"},
    )
    made = store.add_image(config, layers, created=EPOCH)
    store.add_image(config, layers[:1], created=EPOCH)
    store.tag("guestbook", made.digest)
    return made


@pytest.fixture(scope="module")
def tree(place: Path, store: Store, image: Image) -> Tree:
    """The image's tree as the kernel shows it from our layers."""
    unpacked = [place / f"unpacked-{number}" for number in range(len(image.layers))]
    for layer, path in zip(image.layers, unpacked, strict=True):
        store.unpack(layer, path)
    merged = place / "merged"
    merged.mkdir()
    mount("-t", "overlay", "-o", "ro,lowerdir=" + ":".join(map(str, reversed(unpacked))), "none", str(merged))
    try:
        return seen(merged)
    finally:
        unmount(merged)


def seen(root: Path) -> Tree:
    """What a tool that unpacks layers over each other can know: not the times of folders that it removed things in."""
    found = read(root)
    return {path: facts for path, facts in found.items() if path not in (b".", b"etc")} | {
        path: facts[:4] for path, facts in found.items() if path in (b".", b"etc")
    }


@pytest.mark.parametrize("source", ["oci:{store}:guestbook", "oci-archive:{file}", "oci-archive:{file}:guestbook"])
def test_skopeo_copies_it_unchanged(place: Path, store: Store, image: Image, source: str, tmp_path: Path) -> None:
    archive = place / "guestbook.oci"
    store.export(image.digest, archive, tag="guestbook")
    name = source.format(store=store.root, file=archive)
    seen_by_skopeo = json.loads(process.run(["skopeo", "inspect", name]).stdout)
    assert seen_by_skopeo["Digest"] == image.digest
    assert seen_by_skopeo["Layers"] == [layer.digest for layer in image.layers]
    assert seen_by_skopeo["Created"] == "2023-11-14T22:13:20Z"
    configuration = json.loads(process.run(["skopeo", "inspect", "--config", name]).stdout)
    assert configuration["config"]["Cmd"] == ["serve", "-v"]
    assert [line["created_by"] for line in configuration["history"]] == ["lower", "upper"]
    process.run(["skopeo", "copy", "--insecure-policy", name, f"dir:{tmp_path / 'copy'}"])
    for digest in (image.config_digest, *(layer.digest for layer in image.layers)):
        assert (tmp_path / "copy" / digest.hex).read_bytes() == (store.root / "blobs/sha256" / digest.hex).read_bytes()
    manifest = (tmp_path / "copy/manifest.json").read_bytes()
    assert manifest == (store.root / "blobs/sha256" / image.digest.hex).read_bytes()


def test_what_skopeo_writes_into_an_archive_is_ours_again(store: Store, image: Image, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    process.run(["skopeo", "copy", "--insecure-policy", f"oci:{store.root}:guestbook", f"oci:{target}:there"])
    assert Store(target).find("there") == image


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """podman with state of its own, below a short path: it takes no long one."""
    with tempfile.TemporaryDirectory(prefix="ip-", dir="/tmp") as state:
        words = ["podman", "--root", f"{state}/root", "--runroot", f"{state}/run", "--tmpdir", f"{state}/tmp"]
        words += ["--storage-driver", "vfs"]
        yield words
        process.run([*words, "image", "unmount", "--all"])


@pytest.mark.parametrize("compression", ["zstd", "gzip", None])
def test_podman_sees_the_same_tree(
    store: Store, image: Image, tree: Tree, podman: list[str], tmp_path: Path, compression: str | None
) -> None:
    if compression is None:
        process.run([*podman, "pull", f"oci:{store.root}:guestbook"])
    else:
        store.export(image.digest, tmp_path / "a.oci", tag="guestbook", compression=compression)  # type: ignore[arg-type]
        process.run([*podman, "load", "-i", tmp_path / "a.oci"])
    (found,) = json.loads(process.run([*podman, "images", "--format", "json"]).stdout)
    assert found["Id"] == image.config_digest.hex
    mounted = process.run([*podman, "image", "mount", found["Id"]]).stdout.decode().strip()
    assert seen(Path(mounted)) == tree


def test_umoci_sees_the_same_tree_in_a_gzip_export(store: Store, image: Image, tree: Tree, tmp_path: Path) -> None:
    store.export(image.digest, tmp_path / "a.oci", tag="guestbook", compression="gzip")
    with tarfile.open(tmp_path / "a.oci") as archive:
        archive.extractall(tmp_path / "layout")
    process.run(["umoci", "unpack", "--image", f"{tmp_path / 'layout'}:guestbook", tmp_path / "bundle"])
    assert seen(tmp_path / "bundle/rootfs") == tree
    specification = json.loads((tmp_path / "bundle/config.json").read_bytes())
    assert specification["process"]["args"] == ["serve", "-v"]


def test_umoci_lists_the_store_itself(store: Store, image: Image) -> None:
    assert process.run(["umoci", "list", "--layout", store.root]).stdout.decode().split() == ["guestbook"]


def test_umoci_says_that_it_cannot_read_zstd(store: Store, image: Image, tmp_path: Path) -> None:
    """When it one day can, docs/store.md needs a new sentence."""
    with pytest.raises(CommandFailed) as caught:
        process.run(["umoci", "unpack", "--image", f"{store.root}:guestbook", tmp_path / "bundle"])
    assert "not correct mediatype" in caught.value.output
