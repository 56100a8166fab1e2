"""Images in the store: found, tagged, removed, collected, exported; and what is damaged is never given out."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from instar.errors import BlobDamaged, ImageNotFound, StoreError
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig, Layer
from instar.store import Store
from instar.store.garbage import Collected

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000
CONFIG = ImageConfig(architecture="amd64", user="10001:10001", command=("serve",), env={"A": "b"}, ports=(80,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state/store")


def layer(store: Store, tmp_path: Path, content: str) -> Layer:
    tree = tmp_path / f"tree-{content}"
    tree.mkdir(exist_ok=True)
    (tree / "file").write_text(content)
    os.utime(tree / "file", (EPOCH, EPOCH))
    return store.add_layer(tree, step=content, epoch=EPOCH)


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Layer:
    return layer(store, tmp_path, "base")


@pytest.fixture
def images(store: Store, tmp_path: Path, base: Layer) -> tuple[Image, Image]:
    """Two images on one base."""
    one, two = (store.add_image(CONFIG, [base, layer(store, tmp_path, word)], created=EPOCH) for word in ("1", "2"))
    return one, two


def blob(store: Store, digest: Digest) -> Path:
    return store.root / "blobs/sha256" / digest.hex


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.root / "blobs/sha256").iterdir()}


def test_the_layout_is_its_owners_alone(store: Store, images: tuple[Image, Image]) -> None:
    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    for path in (store.root.parent, store.root, *store.root.rglob("*")):
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (store.root / "blobs/sha256").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_an_image_is_what_was_added_also_for_another_process(
    store: Store, base: Layer, images: tuple[Image, Image]
) -> None:
    one, two = images
    assert one.config == CONFIG
    assert one.created == EPOCH
    assert one.layers[0] == base
    assert [item.step for item in one.layers] == ["base", "1"]
    again = Store(store.root)
    assert again.image(one.digest) == one
    assert again.images() == (two, one)


def test_adding_again_changes_nothing(store: Store, images: tuple[Image, Image]) -> None:
    before = (store.root / "index.json").stat()
    assert store.add_image(CONFIG, images[0].layers, created=EPOCH) == images[0]
    assert (store.root / "index.json").stat().st_ino == before.st_ino
    assert store.images() == (images[1], images[0])


def test_an_image_of_a_layer_that_is_missing_is_not_entered(store: Store, base: Layer) -> None:
    blob(store, base.digest).unlink()
    assert not store.holds(base)
    with pytest.raises(BlobDamaged, match=r"\(base\) is missing"):
        store.add_image(CONFIG, [base], created=EPOCH)
    assert store.images() == ()


def test_an_image_is_found_by_every_word_for_it(store: Store, images: tuple[Image, Image]) -> None:
    one, two = images
    store.tag("guestbook", two.digest)
    for word in (one.digest, one.digest.hex, one.digest.short, one.digest[:13], one.digest.hex[:6]):
        assert store.find(word) == one
    assert store.find("guestbook") == two


def test_a_tag_goes_before_a_digest(store: Store, images: tuple[Image, Image]) -> None:
    one, two = images
    store.tag(one.digest.hex[:6], two.digest)
    assert store.find(one.digest.hex[:6]) == two


@pytest.mark.parametrize("word", ["", "nothing", "sha256:", "0" * 64, "sha256:" + "0" * 64])
def test_what_is_not_there_is_said_with_what_is(store: Store, images: tuple[Image, Image], word: str) -> None:
    store.tag("guestbook", images[0].digest)
    with pytest.raises(ImageNotFound) as caught:
        store.find(word)
    assert caught.value.hint is not None
    assert "guestbook" in caught.value.hint
    assert images[1].digest.short in caught.value.hint


def test_five_digits_are_too_few(store: Store, images: tuple[Image, Image]) -> None:
    with pytest.raises(ImageNotFound):
        store.find(images[0].digest.hex[:5])


def test_a_beginning_of_several_digests_is_refused(store: Store, images: tuple[Image, Image]) -> None:
    path = store.root / "index.json"
    index = json.loads(path.read_bytes())
    twin = images[0].digest[:20] + ("0" if images[0].digest[20] != "0" else "1") + images[0].digest[21:]
    index["manifests"].append({**index["manifests"][0], "digest": twin})
    path.write_text(json.dumps(index))
    with pytest.raises(ImageNotFound, match="several digests begin so"):
        store.find(images[0].digest.hex[:8])
    assert store.find(images[0].digest) == images[0]


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(ImageNotFound) as caught:
        store.find("guestbook")
    assert caught.value.hint == "the store is empty: bake first"
    with pytest.raises(ImageNotFound):
        store.image(Digest.of(b""))
    with pytest.raises(ImageNotFound):
        store.tag("guestbook", Digest.of(b""))


def test_tags_move_and_go_with_their_image(store: Store, images: tuple[Image, Image]) -> None:
    one, two = images
    store.tag("a", one.digest)
    store.tag("a", two.digest)
    store.tag("b", two.digest)
    assert store.tags() == {"a": two.digest, "b": two.digest}
    store.remove(two.digest)
    store.remove(two.digest)
    assert store.tags() == {}
    assert store.images() == (one,)


def test_collecting_keeps_what_is_kept_and_nothing_else(
    store: Store, base: Layer, images: tuple[Image, Image], tmp_path: Path
) -> None:
    one, two = images
    cached = layer(store, tmp_path, "cached")
    lost, lost_size = store.add_blob([b"nobody's"])
    left = store.root / "partial/left"
    left.write_bytes(b"x" * 10)
    everything = blobs(store)
    gone_sizes = [blob(store, digest).stat().st_size for digest in (two.digest, two.config_digest)]
    expected = Collected(
        images=(two.digest,), blobs=4, size_bytes=sum(gone_sizes) + two.layers[1].size_bytes + lost_size + 10
    )
    keep = [one.digest, cached.digest, Digest.of(b"an image that was removed long ago")]
    assert store.collect(keep, dry_run=True) == expected
    assert blobs(store) == everything
    assert left.exists()
    assert store.collect(keep) == expected
    assert not left.exists()
    assert blobs(store) == everything - {two.digest.hex, two.config_digest.hex, two.layers[1].digest.hex, lost.hex}
    assert store.images() == (one,)
    for item in (base.digest, one.layers[1].digest, cached.digest):
        store.verify(item)
    assert store.collect(keep) == Collected(images=(), blobs=0, size_bytes=0)


def test_what_is_being_written_is_not_collected(store: Store) -> None:
    def chunks() -> object:
        yield b"first"
        store.collect([])
        yield b"second"

    digest, _ = store.add_blob(chunks())  # type: ignore[arg-type]
    store.verify(digest)


def test_nothing_is_collected_when_a_kept_image_cannot_be_read(store: Store, images: tuple[Image, Image]) -> None:
    damage(blob(store, images[0].digest))
    before = blobs(store)
    with pytest.raises(BlobDamaged):
        store.collect([images[0].digest])
    assert blobs(store) == before
    store.collect([images[1].digest])
    assert store.images() == images[1:]


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-2] + b"??")


@pytest.mark.parametrize("part", ["digest", "config_digest"])
def test_damaged_json_is_never_given_out(store: Store, images: tuple[Image, Image], part: str) -> None:
    damage(blob(store, getattr(images[0], part)))
    with pytest.raises(BlobDamaged):
        store.image(images[0].digest)
    with pytest.raises(BlobDamaged):
        store.images()
    assert store.image(images[1].digest) == images[1]
    store.remove(images[0].digest)
    assert store.images() == images[1:]


def test_an_image_that_another_tool_entered_wrongly_is_damaged(store: Store) -> None:
    digest, size = store.add_blob([b'{"manifests":[]}'])
    index = {"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": digest, "size": size}]}
    (store.root / "index.json").write_text(json.dumps(index))
    with pytest.raises(BlobDamaged, match="its index has no list of at most 100 manifests"):
        store.image(digest)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"manifests":[{}]}', '{"manifests":[{"digest":"x"}]}', '{"manifests":5}']
)
def test_a_damaged_index_is_said(store: Store, text: str) -> None:
    (store.root / "index.json").write_text(text)
    for call in (store.images, store.tags, lambda: store.find("x"), lambda: store.remove(Digest.of(b""))):
        with pytest.raises(StoreError, match="it is damaged"):
            call()
    assert (store.root / "index.json").read_text() == text


def test_an_export_is_an_image_layout_in_a_tar_and_always_the_same(
    store: Store, images: tuple[Image, Image], tmp_path: Path
) -> None:
    one, _ = images
    store.export(one.digest, tmp_path / "a.oci", tag="guestbook")
    os.utime(blob(store, one.digest), (1, 1))
    Store(store.root).export(one.digest, tmp_path / "b.oci", tag="guestbook")
    assert (tmp_path / "a.oci").read_bytes() == (tmp_path / "b.oci").read_bytes()
    with tarfile.open(tmp_path / "a.oci") as archive:
        archive.extractall(tmp_path / "layout")
    layout = tmp_path / "layout"
    index = json.loads((layout / "index.json").read_bytes())
    assert [item["annotations"] for item in index["manifests"]] == [{"org.opencontainers.image.ref.name": "guestbook"}]
    expected = {one.digest, one.config_digest, *(item.digest for item in one.layers)}
    assert {path.name for path in (layout / "blobs/sha256").iterdir()} == {digest.hex for digest in expected}
    assert Store(layout).find("guestbook") == one
    for digest in expected:
        Store(layout).verify(digest)


def test_an_export_without_a_tag_has_none(store: Store, images: tuple[Image, Image], tmp_path: Path) -> None:
    store.tag("mine", images[0].digest)
    store.export(images[0].digest, tmp_path / "a.oci")
    with tarfile.open(tmp_path / "a.oci") as archive:
        member = archive.extractfile("index.json")
        assert member is not None
        assert "annotations" not in json.loads(member.read())["manifests"][0]


def test_a_gzip_export_is_the_same_image_under_another_digest(
    store: Store, images: tuple[Image, Image], tmp_path: Path
) -> None:
    digest = store.export(images[0].digest, tmp_path / "a.oci", compression="gzip")
    assert digest != images[0].digest
    with tarfile.open(tmp_path / "a.oci") as archive:
        archive.extractall(tmp_path / "layout")
    found = Store(tmp_path / "layout").image(digest)
    assert (found.config, found.config_digest) == (images[0].config, images[0].config_digest)
    assert [item.diff_id for item in found.layers] == [item.diff_id for item in images[0].layers]
    with tarfile.open(blob(Store(tmp_path / "layout"), found.layers[1].digest), "r:gz") as tree:
        assert tree.getnames() == [".", "file"]
    assert not any((store.root / "partial").iterdir())


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_an_export_of_a_damaged_image_leaves_the_old_file(
    store: Store, images: tuple[Image, Image], tmp_path: Path, compression: str
) -> None:
    damage(blob(store, images[0].layers[1].digest))
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "a.oci").write_text("before")
    with pytest.raises(BlobDamaged):
        store.export(images[0].digest, folder / "a.oci", compression=compression)  # type: ignore[arg-type]
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a.oci", "before")]


def test_an_export_that_cannot_be_written_says_why(store: Store, images: tuple[Image, Image], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot export to '.*': No such file"):
        store.export(images[0].digest, tmp_path / "none/a.oci")
    with pytest.raises(StoreError, match="cannot tag"):
        store.export(images[0].digest, tmp_path / "a.oci", tag="a b")
    with pytest.raises(StoreError, match=r"cannot export to '.*': Is a directory"):
        store.export(images[0].digest, tmp_path)


def test_an_image_that_the_index_lost_is_entered_again_when_it_is_whole(
    store: Store, images: tuple[Image, Image]
) -> None:
    one, two = images
    store.remove(one.digest, two.digest)
    assert store.digests() == ()
    blob(store, two.layers[1].digest).unlink()
    assert store.enter_again(one.digest) and store.enter_again(one.digest)
    assert not store.enter_again(two.digest) and not store.enter_again(two.layers[0].digest)
    assert store.digests() == (one.digest,) and store.image(one.digest) == one
