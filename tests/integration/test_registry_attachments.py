"""What other tools attach to an image goes and comes with it, stays as long as it does, and costs it nothing."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_kit import Door, at, made, noise

from instar.errors import BlobDamaged
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.reference import Repository
from instar.operations.transfers import import_image
from instar.store import Store
from instar.store.attachments import LIMIT, entries
from instar.store.manifest import INDEX_TYPE, MANIFEST_TYPE, descriptor
from lying_registry import LyingRegistry, digest_of, serving
from registries import RealRegistry, running
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root
KIND = "application/vnd.example.signature"
Registry = RealRegistry | LyingRegistry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


def attached(store: Store, image: Image, content: bytes, **changed: Any) -> bytes:
    """Return the manifest of an attachment, whose parts are stored."""
    config, _ = store.add_blob([b"{}"])
    part, size = store.add_blob([content])
    data = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": KIND,
        "config": descriptor("application/vnd.oci.empty.v1+json", config, 2),
        "layers": [descriptor(KIND, part, size)],
        "subject": descriptor(MANIFEST_TYPE, image.digest, 1),
        "annotations": {"by": "ann"},
        **changed,
    }
    return json.dumps(data).encode()


@contextlib.contextmanager
def registry_that(lists: str, tmp_path: Path) -> Iterator[Registry]:
    """One that lists referrers itself, or Debian's, which does not."""
    if lists == "lists":
        with serving(LyingRegistry()) as lying:
            lying.lists_referrers = True
            yield lying
    else:
        with running(RealRegistry(tmp_path / "registry")) as real:
            yield real


@pytest.mark.parametrize("kind", ["lists", "keeps a tag"])
def test_what_is_attached_goes_and_comes_with_its_image(kind: str, store: Store, other: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    signature, bill = (
        attached(store, image, b"signature"),
        attached(store, image, noise(1 << 20), artifactType="x/bill"),
    )
    store.attach(image.digest, [signature])
    with registry_that(kind, tmp_path) as registry:
        what = at(registry.host, image)
        assert Door().registries.push(store, image.digest, what.repository).attachments == 1
        store.attach(image.digest, [bill, signature])
        assert Door().registries.push(store, image.digest, what.repository).attachments == 2
        done = Door().registries.pull(other, what)
        assert (done.attachments, done.blobs, done.moved) == (2, 2, 2)
        assert set(other.attachments(image.digest)) == {signature, bill}
        assert other.digests() == (image.digest,) and other.tags() == {}
        tags = Door().registries.tags(what.repository).names()
        assert set(tags) == (set() if kind == "lists" else {f"sha256-{image.digest.hex}"})
        assert Door().registries.pull(other, what).attachments == 2
    listing = other.path(listed(other, image))
    assert [(one["digest"], one["artifactType"], one["annotations"]) for one in entries(listing.read_bytes())] == [
        (Digest.of(signature), KIND, {"by": "ann"}),
        (Digest.of(bill), "x/bill", {"by": "ann"}),
    ]


def listed(store: Store, image: Image) -> Digest:
    found = json.loads((store.root / "index.json").read_bytes())["manifests"]
    names = {one.get("annotations", {}).get("org.opencontainers.image.ref.name"): one["digest"] for one in found}
    return Digest(names[f"sha256-{image.digest.hex}"])


def test_it_stays_as_long_as_its_image(store: Store, tmp_path: Path) -> None:
    image, another = made(store, tmp_path, b"base"), made(store, tmp_path, b"another")
    signature = attached(store, image, b"signature")
    store.attach(image.digest, [signature])
    store.attach(Digest.of(b"nobody"), [signature])  # of no image that is here
    store.collect([image.digest])
    assert store.attachments(image.digest) == (signature,) and store.digests() == (image.digest,)
    store.verify(Digest.of(b"signature"))
    store.path(Digest.of(b"signature")).unlink()
    assert store.attachments(image.digest) == () and store.image(image.digest) == image
    store.collect([image.digest])
    assert store.image(image.digest) == image
    store.collect([])
    assert not any((store.root / "blobs/sha256").iterdir())
    assert json.loads((store.root / "index.json").read_bytes())["manifests"] == []
    with pytest.raises(BlobDamaged):
        store.verify(another.layers[0].digest)


def test_an_export_has_it_and_an_import_takes_it(store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    store.export(image.digest, tmp_path / "bare.tar")
    signature = attached(store, image, b"signature")
    store.attach(image.digest, [signature])
    store.export(image.digest, tmp_path / "signed.tar")
    assert (tmp_path / "bare.tar").stat().st_size < (tmp_path / "signed.tar").stat().st_size
    workspace = SimulatedWorkspace(tmp_path / "home")
    assert import_image(workspace, tmp_path / "signed.tar") == image  # there is one image in it
    assert workspace.store.attachments(image.digest) == (signature,)
    workspace.store.export(image.digest, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "signed.tar").read_bytes()
    copied = ["skopeo", "inspect", "--raw", f"oci-archive:{tmp_path / 'bare.tar'}"]
    assert Digest.of(subprocess.run(copied, check=True, capture_output=True).stdout) == image.digest
    workspace.ledger.close()


Lie = Callable[[LyingRegistry, Image, bytes], None]


def of_another(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    data = signature.replace(image.digest.encode(), b"sha256:" + b"0" * 64)
    offered(registry, image, data)


def without_a_part(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    del registry.blobs[Digest.of(b"signature")]


def other_bytes(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    registry.blobs[Digest.of(b"signature")] = b"SIGNATURE"


def other_manifest(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    registry.manifests[Digest.of(signature)] = signature + b" "


def no_manifest(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    offered(registry, image, b'{"mediaType": "x/y"}')


def no_list(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    registry.manifests[f"sha256-{image.digest.hex}"] = b'{"mediaType": "x/y", "manifests": 3}'


def no_digest(registry: LyingRegistry, image: Image, signature: bytes) -> None:
    body = {"mediaType": INDEX_TYPE, "manifests": [{"mediaType": MANIFEST_TYPE, "digest": "../../etc"}]}
    registry.manifests[f"sha256-{image.digest.hex}"] = json.dumps(body).encode()


def offered(registry: LyingRegistry, image: Image, data: bytes) -> None:
    registry.manifests[digest_of(data)] = data
    body = {"mediaType": INDEX_TYPE, "manifests": [descriptor(MANIFEST_TYPE, Digest.of(data), len(data))]}
    registry.manifests[f"sha256-{image.digest.hex}"] = json.dumps(body).encode()


@pytest.mark.parametrize(
    "lie", [of_another, without_a_part, other_bytes, other_manifest, no_manifest, no_list, no_digest]
)
def test_what_is_wrong_with_it_costs_the_image_nothing(lie: Lie, store: Store, other: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    signature = attached(store, image, b"signature")
    store.attach(image.digest, [signature])
    with serving(LyingRegistry()) as registry:
        what = at(registry.host, image)
        Door().registries.push(store, image.digest, what.repository)
        lie(registry, image, signature)
        door = Door()
        assert door.registries.pull(other, what).attachments == 0
        assert other.image(image.digest) == image and other.attachments(image.digest) == ()
        assert len(door.warnings()) == 1 and "not all that is attached to the image is here" in door.warnings()[0]


def test_a_long_list_is_cut(store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    one = descriptor(MANIFEST_TYPE, image.digest, 1)
    assert len(entries(json.dumps({"manifests": [one] * (LIMIT + 1)}).encode())) == LIMIT


def test_two_that_attach_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    mine, others = attached(store, image, b"mine"), attached(store, image, b"another's")
    store.attach(image.digest, [mine])
    with serving(LyingRegistry()) as registry:
        where, taken = Repository(host=registry.host, path="team/shop"), []

        def overtaken(handler: Any) -> bool:
            """Somebody else writes the list right after us, and has not seen ours."""
            if handler.command == "PUT" and "/manifests/sha256-" in handler.path and not taken:
                taken.append(handler.body())
                offered(registry, image, others)
                handler.reply(201)
                return True
            return False

        registry.lie = overtaken
        Door().registries.push(store, image.digest, where)
        listing = entries(registry.manifests[f"sha256-{image.digest.hex}"])
        assert [entry["digest"] for entry in listing] == [Digest.of(others), Digest.of(mine)] and taken
