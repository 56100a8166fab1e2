"""Images of other tools come in as what they are; what is not whole, or means harm, does not."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from import_kit import (
    LAYER,
    Files,
    config_of,
    descriptor,
    docker_save,
    layout,
    member,
    sha,
    tar_files,
    tar_of,
)
from registry_kit import made
from test_store_crashes import check_whole, until_unharmed
from tiny_world import TinyWorld

from instar.errors import ImageNotFound, InstarError, StoreError
from instar.model.image import Image
from instar.operations.gc import gc
from instar.operations.transfers import import_image
from instar.store import Store, importing
from instar.store.manifest import INDEX_TYPE
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root


@pytest.fixture
def workspace(tmp_path: Path) -> SimulatedWorkspace:
    return SimulatedWorkspace(tmp_path / "home")


def written(tmp_path: Path, data: bytes | Files, name: str = "image.tar") -> Path:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else tar_files(data))
    return path


def unpacked(tmp_path: Path, files: Files, name: str = "layout") -> Path:
    for place, content in files.items():
        (tmp_path / name / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / place).write_bytes(content)
    return tmp_path / name


def require_refused(workspace: SimulatedWorkspace, path: Path, told: str, which: str | None = None) -> None:
    """It is refused with these words, and nothing of it is an image, or a blob that is not what its name says."""
    with pytest.raises(StoreError) as caught:
        import_image(workspace, path, which)
    assert told in caught.value.message, caught.value.message
    assert workspace.store.digests() == ()
    check_whole(workspace.store)
    assert not any((workspace.store.root / "partial").iterdir())
    gc(workspace, dry_run=False)
    assert not any((workspace.store.root / "blobs/sha256").iterdir())


def test_what_was_exported_comes_in_as_it_was(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    other = SimulatedWorkspace(tmp_path / "other").store
    image = made(other, tmp_path, b"base", b"more")
    other.export(image.digest, tmp_path / "image.oci", tag="v1")
    assert import_image(workspace, tmp_path / "image.oci") == image
    assert workspace.store.manifest(image.digest) == other.manifest(image.digest)
    assert import_image(workspace, tmp_path / "image.oci", "v1") == image
    assert workspace.store.digests() == (image.digest,)


def test_every_form_of_skopeo_is_the_same_image_or_its_layers(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    other = SimulatedWorkspace(tmp_path / "other").store
    image = made(other, tmp_path, b"base", b"more")
    digest = other.export(image.digest, tmp_path / "gzip.oci", compression="gzip", tag="v1")
    source = f"oci-archive:{tmp_path}/gzip.oci:v1"
    forms = {"oci-archive": ":shop", "oci": ":shop", "docker-archive": ":shop:v1"}
    found: dict[str, Image] = {}
    for form, name in forms.items():
        path = tmp_path / f"skopeo-{form}"
        subprocess.run(["skopeo", "copy", "-q", source, f"{form}:{path}{name}"], check=True)
        found[form] = import_image(workspace, path)
    assert found["oci-archive"].digest == found["oci"].digest == digest
    for one in found.values():
        assert [layer.diff_id for layer in one.layers] == [layer.diff_id for layer in image.layers]
        assert one.config.command == image.config.command
    again = SimulatedWorkspace(tmp_path / "again")
    assert import_image(again, tmp_path / "skopeo-docker-archive") == found["docker-archive"]
    # it is one like any other: it goes out and comes back
    again.store.export(found["docker-archive"].digest, tmp_path / "back.oci")
    assert import_image(workspace, tmp_path / "back.oci") == found["docker-archive"]


@pytest.mark.parametrize("packed", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress])
def test_an_archive_may_be_compressed(
    packed: Callable[[bytes], bytes], workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    for files in (layout(LAYER), docker_save(LAYER)):
        image = import_image(workspace, written(tmp_path, packed(tar_files(files))))
        assert image.layers[0].diff_id == f"sha256:{sha(LAYER)}"
        into = tmp_path / image.digest.short
        workspace.store.unpack(image.layers[0], into)
        assert (into / "etc/motd").read_bytes() == b"hello\n"
    assert not any((workspace.store.root / "partial").iterdir())


def test_one_of_several_is_named(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    one, two = layout(LAYER, name="one"), layout(LAYER, config=config_of(LAYER, author="two"), name="two")
    entries = [entry for files in (one, two) for entry in json.loads(files["index.json"])["manifests"]]
    files = {**one, **two, "index.json": json.dumps({"manifests": entries}).encode()}
    path = written(tmp_path, files)
    require_refused(workspace, path, "there are 2 images in it, and one has to be named: one, ")
    require_refused(workspace, path, "there is no image 'three' in it; there are: one, ", "three")
    assert import_image(workspace, path, "two").digest == entries[1]["digest"]
    assert import_image(workspace, path, entries[0]["digest"]).digest == entries[0]["digest"]

    saved = docker_save(LAYER, tags=["shop:v1", "shop:latest"])
    image = import_image(workspace, written(tmp_path, saved), "shop:latest")
    assert image.layers[0].diff_id == f"sha256:{sha(LAYER)}"


def test_what_came_in_runs(tmp_path: Path) -> None:
    """With a layer in gzip, as it is in the archive, and with one that was compressed here."""
    world = TinyWorld(tmp_path / "world")
    try:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as made_by_others:
            made_by_others.add(tmp_path / "world/tree", arcname=".")
        tar = out.getvalue()
        for number, files in enumerate((layout(tar), docker_save(tar))):
            data, _ = world.store.receive(written(tmp_path, files, f"{number}.tar"))
            world.image = world.store.add_manifest(data)
            assert {"hello", "read-only"} <= set(world.output("echo hello; touch /bin/x || echo read-only"))
    finally:
        world.close()


def test_links_within_an_archive_are_followed(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    """Older ones of docker save have a layer once, and links to it."""
    saved = docker_save(LAYER, LAYER)
    entry = json.loads(saved["manifest.json"])[0]
    entry["Layers"] = ["a/layer.tar", "b/layer.tar"]
    members = [
        member("manifest.json", json.dumps([entry]).encode()),
        member(entry["Config"], saved[entry["Config"]]),
        member("b/layer.tar", kind=tarfile.SYMTYPE, linkname="../a/layer.tar"),
        member("./a/layer.tar", LAYER),
    ]
    assert len(import_image(workspace, written(tmp_path, tar_of(members))).layers) == 2


def of_layout(change: Callable[[Files], None]) -> Files:
    files = layout(LAYER)
    change(files)
    return files


def blob_of(files: Files, wanted: Callable[[bytes], bool]) -> str:
    return next(name for name, data in files.items() if name.startswith("blobs/") and wanted(data))


def is_layer(data: bytes) -> bool:
    return data.startswith(b"\x1f\x8b")


def is_manifest(data: bytes) -> bool:
    return b'"layers": [{' in data


def platforms(files: Files, *more: dict[str, Any]) -> None:
    """Have an index of platforms in place of the image; ``more`` are further entries of it."""
    entry = json.loads(files["index.json"])["manifests"][0]
    first = {**entry, "platform": {"os": "linux", "architecture": "amd64"}}
    inner = json.dumps({"manifests": [first, *more]}).encode()
    files[f"blobs/sha256/{sha(inner)}"] = inner
    files["index.json"] = json.dumps({"manifests": [descriptor(INDEX_TYPE, inner)]}).encode()


def test_an_index_of_platforms_is_one_image_or_one_of_them(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    """What docker writes with one image in it is taken for that: what is said of the image is none."""
    files, two = layout(LAYER), layout(LAYER, config=config_of(LAYER, architecture="arm64"))
    own, other = (json.loads(one["index.json"])["manifests"][0] for one in (files, two))
    said = {**own, "digest": "sha256:" + "0" * 64, "platform": {"os": "unknown", "architecture": "unknown"}}
    single = {**files}
    platforms(single, said)
    assert import_image(workspace, written(tmp_path, single)).digest == own["digest"]

    files.update({name: data for name, data in two.items() if name.startswith("blobs/")})
    platforms(files, {**other, "platform": {"os": "linux", "architecture": "arm64"}})
    path = written(tmp_path, files)
    whole, index = import_image(workspace, path), json.loads(files["index.json"])["manifests"][0]
    assert (whole.digest, whole.config.architecture) == (index["digest"], "amd64")
    assert import_image(workspace, path, "linux/arm64").digest == other["digest"]


ENDLESS = json.dumps({"manifests": [{}] * 1_001}).encode()
LAYOUTS: dict[str, tuple[Files, str]] = {
    "nothing": ({"x": b""}, "it holds no image"),
    "no index": (of_layout(lambda files: files.pop("index.json")), "'index.json' is missing"),
    "an index without an end": ({**layout(LAYER), "index.json": ENDLESS}, "lists 1,001 images"),
    "an index that is none": (of_layout(lambda files: files.update({"index.json": b"[]"})), "no list of images"),
    "an index without images": (
        of_layout(lambda files: files.update({"index.json": b'{"manifests": []}'})),
        "no image",
    ),
    "an index of nonsense": (of_layout(lambda files: files.update({"index.json": b"{"})), "cannot import"),
    "an index of depth": (of_layout(lambda files: files.update({"index.json": b"[" * 100_000})), "nested too deeply"),
    "a version of tomorrow": (
        of_layout(lambda files: files.update({"oci-layout": b'{"imageLayoutVersion": "2.0.0"}'})),
        "of no version that is known",
    ),
    "a missing layer": (of_layout(lambda files: files.pop(blob_of(files, is_layer))), "is missing"),
    "a missing manifest": (of_layout(lambda files: files.pop(blob_of(files, is_manifest))), "is missing"),
    "a short layer": (
        of_layout(lambda files: files.update({blob_of(files, is_layer): files[blob_of(files, is_layer)][:-1]})),
        "bytes, and not",
    ),
    "another layer": (
        of_layout(lambda files: files.update({blob_of(files, is_layer): bytes(len(files[blob_of(files, is_layer)]))})),
        "have the digest",
    ),
    "another manifest": (
        of_layout(lambda files: files.update({blob_of(files, is_manifest): files[blob_of(files, is_manifest)] + b" "})),
        "the bytes of its manifest have the digest",
    ),
    "an index of an index": (of_layout(lambda files: (platforms(files), platforms(files))), "one within another"),
    "a manifest of version 1": (layout(LAYER, manifest=lambda data: data.update(schemaVersion=1)), "schema 1"),
    "a layer of another kind": (
        layout(LAYER, manifest=lambda data: data["layers"][0].update(mediaType="application/x-layer")),
        "none of an image's",
    ),
    "an endless layer": (layout(LAYER, manifest=lambda data: data["layers"][0].update(size=1 << 60)), "has the size"),
    "a path for a digest": (
        layout(LAYER, manifest=lambda data: data["layers"][0].update(digest="../../../../etc/shadow")),
        "not a digest",
    ),
    "no layers": (layout(LAYER, manifest=lambda data: data.update(layers=[])), "no list of at most"),
    "fewer layers than the configuration": (layout(LAYER, config=config_of(LAYER, LAYER)), "1 layers, but 2 diff IDs"),
    "a configuration that is none": (layout(LAYER, config=b"[]"), "not a JSON object"),
    "another system": (layout(LAYER, config=config_of(LAYER, os="windows")), "for 'windows', and not for Linux"),
    "a layer that is another tar": (layout(LAYER, config=config_of(b"other")), "the tar in it has the digest"),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_a_layout_that_is_not_whole(name: str, form: str, workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    files, told = LAYOUTS[name]
    (tmp_path / "layout").mkdir()
    if name == "a layer that is another tar":  # found where it is unpacked, as everywhere
        with pytest.raises(InstarError, match=told):
            import_image(workspace, written(tmp_path, files))
        assert workspace.store.digests() == ()
        return
    require_refused(workspace, written(tmp_path, files) if form == "tar" else unpacked(tmp_path, files), told)


SAVED: dict[str, tuple[Files, str]] = {
    "another layer": (docker_save(LAYER, config=config_of(b"other")), "a layer's tar has the digest"),
    "another configuration": (
        {name: data + b" " if name.endswith(".json") and name != "manifest.json" else data
         for name, data in docker_save(LAYER).items()},
        "not those that its name says",
    ),
    "a missing layer": (
        {name: data for name, data in docker_save(LAYER).items() if not name.endswith(".tar")}, "is missing"
    ),
    "a layer over and over": (docker_save(*[LAYER] * 501), "it has 501 layers"),
    "a path that leads out": (
        {"manifest.json": b'[{"Config": "../../../../etc/passwd", "Layers": ["x"]}]'}, "leads out of it"
    ),
    "an absolute path": ({"manifest.json": b'[{"Config": "/etc/passwd", "Layers": ["x"]}]'}, "is missing"),
    "no list": ({"manifest.json": b'{"Config": "x"}'}, "no list of images"),
    "no layers": ({**docker_save(LAYER), "manifest.json": docker_save(LAYER)["manifest.json"].replace(b"Layers", b"L")},
                  "does not fit its layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_what_docker_save_would_not_write(name: str, form: str, workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    files, told = SAVED[name]
    require_refused(workspace, written(tmp_path, files) if form == "tar" else unpacked(tmp_path, files), told)


WHOLE = [member(name, content) for name, content in layout(LAYER).items()]
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "it is no tar"),
    "no tar": (b"PK\x03\x04" + bytes(2_000), "it is no tar"),
    "no gzip": (b"\x1f\x8b" + bytes(2_000), "it is not gzip"),
    "no zstd": (b"\x28\xb5\x2f\xfd" + b"\xff" * 2_000, "it is not zstd"),
    "half of gzip": (gzip.compress(tar_of(WHOLE))[:-100], "it ends in the middle"),
    "half of a tar": (tar_of(WHOLE)[:3_000], "it ends in the middle"),
    "no end of a tar": (tar_of(WHOLE).rstrip(b"\0"), "it ends in the middle"),
    "a name twice": (tar_of([*WHOLE, WHOLE[1]]), "'index.json' stands there twice"),
    "a name twice, in another form": (tar_of([*WHOLE, member("./index.json", b"{}")]), "stands there twice"),
    "a name that leads out": (tar_of([*WHOLE, member("../x")]), "leads out of it"),
    "a name that is too long": (tar_of([*WHOLE, member("x/" * 3_000 + "x")]), "is too long"),
    "a device": (tar_of([*WHOLE, member("x", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)]), "a device or a pipe"),
    "a pipe": (tar_of([*WHOLE, member("x", kind=tarfile.FIFOTYPE)]), "a device or a pipe"),
    "a sparse file": (
        tar_of([*WHOLE, member("x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})]), "a sparse file"
    ),
    "a link that leads out": (
        tar_of([member("oci-layout", kind=tarfile.SYMTYPE, linkname="../../etc/passwd")]), "leads out of it"
    ),
    "a link to this machine": (
        tar_of([member("oci-layout", kind=tarfile.SYMTYPE, linkname="/etc/passwd")]), "leads out of it"
    ),
    "a hard link that leads out": (
        tar_of([member("oci-layout", kind=tarfile.LNKTYPE, linkname="../x")]), "leads out of it"
    ),
    "a link to itself": (
        tar_of([member("oci-layout", kind=tarfile.SYMTYPE, linkname="oci-layout")]), "leads nowhere"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_means_harm(name: str, workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    data, told = ARCHIVES[name]
    require_refused(workspace, written(tmp_path, data), told)


def of_members(*members: Any) -> bytes:
    return tar_of([member("d", kind=tarfile.DIRTYPE, mode=0o755), *members])


LAYERS: dict[str, tuple[bytes, str]] = {
    "a name that leads out": (of_members(member("d/../../x")), "leads out of the root"),
    "through a link": (
        of_members(member("d/up", kind=tarfile.SYMTYPE, linkname="/tmp"), member("d/up/x")), "is no directory"
    ),
    "a hard link out": (of_members(member("d/x", kind=tarfile.LNKTYPE, linkname="../../etc/shadow")), "leads out"),
    "a hard link to what is not there": (
        of_members(member("d/x", kind=tarfile.LNKTYPE, linkname="etc/shadow")), "that the layer doesn't have"
    ),
    "a device": (of_members(member("d/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)), "a device or a pipe"),
    "a pipe": (of_members(member("d/pipe", kind=tarfile.FIFOTYPE)), "a device or a pipe"),
    "a whiteout of nothing": (of_members(member("d/.wh.")), "no well-formed whiteout"),
    "a whiteout of the folder": (of_members(member("d/.wh..")), "no well-formed whiteout"),
    "a whiteout of the folder above": (of_members(member("d/.wh...")), "no well-formed whiteout"),
    "a folder in a whiteout": (of_members(member("d/.wh.x/y")), "what was removed"),
    "a name that is too long": (of_members(member("d/" + "x" * 300)), "too long"),
    "half of it": (of_members(member("d/x", bytes(4_000)))[:2_500], "it ends in the middle"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("make", [layout, docker_save])
def test_a_layer_that_means_harm(
    name: str, make: Callable[..., Files], workspace: SimulatedWorkspace, tmp_path: Path
) -> None:
    data, told = LAYERS[name]
    require_refused(workspace, written(tmp_path, make(data)), told)


def test_overlays_own_attributes_do_not_come_in(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    smuggled = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.mine": "yes"}
    layer = of_members(member("d/x", b"x", pax_headers=smuggled))
    image = import_image(workspace, written(tmp_path, layout(layer)))
    workspace.store.unpack(image.layers[0], tmp_path / "tree")
    assert os.listxattr(tmp_path / "tree/d/x") == ["user.mine"]


def test_a_bomb_is_not_unfolded(workspace: SimulatedWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "UNPACK_LIMIT_BYTES", 1 << 20)
    files = docker_save(LAYER)
    name = next(name for name in files if name.endswith("layer.tar"))
    files[name] = gzip.compress(bytes(64 << 20))
    require_refused(workspace, written(tmp_path, files), "a layer unfolds to more than")


def test_a_folder_whose_files_are_links_is_refused(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    for place in ("oci-layout", "index.json", "blobs/sha256", "blobs"):
        folder = unpacked(tmp_path, layout(LAYER), f"layout-{place.replace('/', '-')}")
        (folder / place).rename(tmp_path / f"moved-{place.replace('/', '-')}")
        (folder / place).symlink_to(tmp_path / f"moved-{place.replace('/', '-')}")
        with pytest.raises(StoreError):
            import_image(workspace, folder)
    assert workspace.store.digests() == ()


def test_what_is_no_file_at_all(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    require_refused(workspace, tmp_path / "pipe", "neither a file nor a folder")
    require_refused(workspace, Path("/dev/null"), "neither a file nor a folder")
    with pytest.raises(StoreError, match="No such file"):
        import_image(workspace, tmp_path / "none")


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        ("0001-01-01T00:00:00Z", 0),
        ("2024-02-03T04:05:06.123456789Z", 1_706_933_106),
        ("9999-12-31T23:59:59Z", (1 << 33) - 1),
    ],
)
def test_times_of_other_tools(created: str, seconds: int, workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    image = import_image(workspace, written(tmp_path, layout(LAYER, config=config_of(LAYER, created=created))))
    assert image.created == seconds
    workspace.store.export(image.digest, tmp_path / "again.tar")
    assert import_image(workspace, tmp_path / "again.tar") == image


def test_another_architecture_is_told(workspace: SimulatedWorkspace, tmp_path: Path) -> None:
    path = written(tmp_path, layout(LAYER, config=config_of(LAYER, architecture="s390x")))
    import_image(workspace, path)
    assert any("is for s390x" in one.text for one in workspace.told if one.kind == "warning")
    with pytest.raises(ImageNotFound):
        workspace.store.find("nothing")


def test_an_import_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    root, path = tmp_path / "store", written(tmp_path, docker_save(LAYER))
    Store(root)

    def work(_: int) -> None:
        (store := Store(root)).add_manifest(store.receive(path).manifest)

    def check() -> None:
        store = Store(root)
        check_whole(store)
        store.collect([])
        assert not any((root / "blobs/sha256").iterdir()) and not any((root / "partial").iterdir())

    assert until_unharmed(work, check) > 20
