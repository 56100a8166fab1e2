"""An image for several platforms is one image: its index's digest everywhere, and here what is for this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_kit import Door, at, made, parts
from test_registry_deploys import definition

from instar.drift.check import check
from instar.errors import FetchError, Refused, StoreError
from instar.model.digest import Digest
from instar.model.image import Image, ImageConfig
from instar.operations.deploy import deploy
from instar.operations.gc import gc
from instar.operations.images import join
from instar.operations.rollback import rollback
from instar.operations.transfers import import_image
from instar.store import Store
from instar.store.manifest import INDEX_TYPE, MANIFEST_TYPE
from instar.store.platforms import index_json
from lying_registry import LyingRegistry, digest_of, serving
from registries import RealRegistry, running
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "linux/amd64")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other", "linux/amd64")


def both(store: Store, tmp_path: Path, word: bytes = b"") -> tuple[Image, Image, Image]:
    """Return an image for two platforms, and what it is on each."""
    amd = made(store, tmp_path, b"shared", b"amd64" + word)
    arm = made(store, tmp_path, b"shared", b"arm64" + word, architecture="arm64")
    pairs = [(store.manifest(arm.digest), "linux/arm64/v8"), (store.manifest(amd.digest), "linux/amd64")]
    return store.add_manifest(index_json(pairs)), amd, arm


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with running(RealRegistry(tmp_path / "registry")) as found:
        yield found


def test_it_is_one_image_with_what_runs_here(store: Store, tmp_path: Path) -> None:
    image, amd, arm = both(store, tmp_path)
    assert (image.layers, image.config) == (amd.layers, amd.config) and image.digest not in (amd.digest, arm.digest)
    assert store.find(image.digest.short) == image == store.image(image.digest)
    elsewhere = Store(store.root, "linux/arm64")
    assert elsewhere.image(image.digest).layers == arm.layers
    assert elsewhere.image(image.digest).digest == image.digest
    with pytest.raises(StoreError, match="it is for linux/amd64, linux/arm64/v8, and not for linux/s390x"):
        Store(store.root, "linux/s390x").image(image.digest)
    store.remove(amd.digest, arm.digest)
    store.collect([image.digest])  # what it needs, for whatever platform, stays with it
    assert store.image(image.digest) == image and elsewhere.image(image.digest).layers == arm.layers
    store.remove(image.digest)
    assert store.collect([]).blobs == 8


def test_it_travels_under_its_digest(registry: RealRegistry, store: Store, other: Store, tmp_path: Path) -> None:
    image, amd, arm = both(store, tmp_path)
    what = at(registry.host, image)
    Door().registries.push(store, image.digest, what.repository, tags=("v1",))
    raw = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/team/shop:v1"]
    assert Digest.of(subprocess.run(raw, check=True, capture_output=True).stdout) == image.digest

    done = Door().registries.pull(other, what)
    assert (done.digest, done.blobs, done.moved) == (image.digest, 3, 3)  # this machine's, and no more
    assert other.image(image.digest) == image and other.digests() == (image.digest,)
    assert not other.holds_blob(arm.layers[1].digest, arm.layers[1].size_bytes) and not parts(other)
    for refused in (
        lambda: Door().registries.push(other, image.digest, at(registry.host, image, "another").repository),
        lambda: other.export(image.digest, tmp_path / "part.tar"),
    ):
        with pytest.raises((FetchError, StoreError), match=r"for linux/arm64/v8 (is|are) not here") as caught:
            refused()
        assert "--all-platforms" in str(caught.value.hint)
    assert not (tmp_path / "part.tar").exists()

    assert Door().registries.pull(other, what, every_platform=True).moved == 2
    assert Store(other.root, "linux/arm64").image(image.digest).layers == arm.layers
    Door().registries.push(other, image.digest, at(registry.host, image, "another").repository)
    other.export(image.digest, tmp_path / "image.tar")
    third = SimulatedWorkspace(tmp_path / "third")
    assert import_image(third, tmp_path / "image.tar") == image
    assert import_image(third, tmp_path / "image.tar", "linux/arm64/v8") == arm
    third.ledger.close()
    assert amd.digest not in third.store.digests()


def test_a_release_of_it_is_of_its_digest(registry: RealRegistry, store: Store, tmp_path: Path) -> None:
    images = [both(store, tmp_path, word)[0] for word in (b"1", b"2")]
    for image in images:
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
    machine = SimulatedWorkspace(tmp_path / "machine")
    loaded = definition(tmp_path, registry.host)
    for image in images:
        assert deploy(machine, loaded, "dev", image=image.digest).image == image.digest
    (state,) = machine.ledger.environments()
    provider = machine.simulation.provider
    assert not check(machine.ledger, machine.store, machine.hashed_files, provider, state).findings
    gc(machine, dry_run=False)
    for image in images:
        assert machine.store.image(image.digest) == image
    assert rollback(machine, machine.ledger.environments()[0]).image == images[0].digest
    machine.ledger.close()


def test_one_is_made_of_several(store: Store, tmp_path: Path) -> None:
    machine = SimulatedWorkspace(tmp_path / "machine")
    machine.store = store
    image, amd, arm = both(store, tmp_path)
    s390x = made(store, tmp_path, b"x", architecture="s390x")
    joined = join(machine, [arm.digest, amd.digest])
    assert (joined.layers, joined.digest) == (amd.layers, join(machine, [amd.digest, arm.digest]).digest)
    assert Store(store.root, "linux/arm64").image(joined.digest).layers == arm.layers
    assert not machine.told
    for words, told in (
        ([amd.digest, made(store, tmp_path, b"y").digest], "two of them are for the same platform"),
        ([image.digest, arm.digest], "it is for several platforms already"),
        ([arm.digest, s390x.digest], "it is for linux/arm64, linux/s390x, and not for linux/amd64"),
    ):
        with pytest.raises(Refused, match=told):
            join(machine, words)
    other_start = ImageConfig(architecture="s390x", user="1:1", command=("y",))
    join(machine, [amd.digest, store.add_image(other_start, s390x.layers, created=1).digest])
    assert "do not start in the same way" in machine.told[0].text
    machine.ledger.close()


Change = Callable[[dict[str, Any], LyingRegistry], None]


def of_first(**changed: Any) -> Change:
    return lambda data, registry: data["manifests"][0].update(changed)


def of_own(**changed: Any) -> Change:
    def change(data: dict[str, Any], registry: LyingRegistry) -> None:
        next(one for one in data["manifests"] if one["platform"]["architecture"] == "amd64").update(changed)

    return change


def swapped(data: dict[str, Any], registry: LyingRegistry) -> None:
    """One architecture's manifest under another's name."""
    first, second = data["manifests"]
    first["platform"], second["platform"] = second["platform"], first["platform"]


def gone(data: dict[str, Any], registry: LyingRegistry) -> None:
    for one in data["manifests"]:
        del registry.manifests[one["digest"]]


def within(data: dict[str, Any], registry: LyingRegistry) -> None:
    inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": data["manifests"]}).encode()
    registry.manifests[digest_of(inner)] = inner
    of_own(digest=digest_of(inner), size=len(inner))(data, registry)


WRONG: dict[str, tuple[Change, str]] = {
    "architectures that are swapped": (swapped, "says itself that it is for linux/"),
    "manifests that are gone": (gone, "does not have it"),
    "an index within": (within, "of several images"),
    "an entry that is an index": (of_own(mediaType=INDEX_TYPE), "and not for linux"),
    "another size": (of_own(size=3), "bytes, and not"),
    "a size that is none": (of_first(size="3"), "has the size"),
    "no digest": (of_first(digest=None), "has no digest"),
    "a digest of another kind": (of_first(digest="md5:1"), "not a digest"),
    "a platform without a name": (of_first(platform={"os": 3}), "has no name"),
    "nothing for this machine": (of_own(platform={"os": "linux", "architecture": "s390x"}), "and not for"),
    "nothing for this system": (of_own(platform={"os": "windows", "architecture": "amd64"}), "and not for"),
    "nothing": (lambda data, registry: data.update(manifests=[]), "no list of at most 100"),
    "too much": (lambda data, registry: data.update(manifests=data["manifests"] * 51), "no list of at most 100"),
    "no list": (lambda data, registry: data.update(manifests={}), "no list of at most 100"),
    "an entry that is none": (lambda data, registry: data["manifests"].append(3), "is none"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_index_that_is_wrong(name: str, store: Store, other: Store, tmp_path: Path) -> None:
    image, amd, arm = both(store, tmp_path)
    change, told = WRONG[name]
    with serving(LyingRegistry()) as registry:
        for one in (amd, arm):
            registry.take(store.root, one.digest)
        data = json.loads(store.manifest(image.digest))
        change(data, registry)
        index = json.dumps(data).encode()
        registry.manifests[digest_of(index)] = index
        with pytest.raises((FetchError, StoreError)) as caught:
            Door().registries.pull(other, at(registry.host, Digest(digest_of(index))), every_platform=True)
        assert told in caught.value.message, caught.value.message
        assert other.digests() == () and not parts(other)


def test_what_is_said_of_an_image_is_passed_on(store: Store, other: Store, tmp_path: Path) -> None:
    """How it was built: a manifest that is for no platform, and no image."""
    image, amd, _ = both(store, tmp_path)
    with serving(LyingRegistry()) as registry, serving(LyingRegistry()) as further:
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
        said, config = b'{"by": "ann"}', b"{}"
        registry.blobs |= {digest_of(said): said, digest_of(config): config}
        about = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": 2},
            "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": digest_of(said), "size": len(said)}],
        }
        written = json.dumps(about).encode()
        registry.manifests[digest_of(written)] = written
        data = json.loads(store.manifest(image.digest))
        data["manifests"].append(
            {
                "mediaType": MANIFEST_TYPE,
                "digest": digest_of(written),
                "size": len(written),
                "platform": {"os": "unknown", "architecture": "unknown"},
            }
        )
        index = json.dumps(data).encode()
        registry.manifests[digest_of(index)] = index
        what = at(registry.host, Digest(digest_of(index)))
        Door().registries.pull(other, what, every_platform=True)
        assert other.image(what.digest).layers == amd.layers
        Door().registries.push(other, what.digest, at(further.host, what.digest).repository)
        assert further.manifests[digest_of(written)] == written and further.blobs[digest_of(said)] == said


def test_an_image_for_another_kind_of_machine_is_not_deployed(tmp_path: Path) -> None:
    machine = SimulatedWorkspace(tmp_path / "machine")
    arm = made(machine.store, tmp_path, b"arm", architecture="arm64")
    with pytest.raises(Refused, match="it is for linux/arm64, and this machine is linux/amd64; nothing was begun"):
        deploy(machine, definition(tmp_path, "127.0.0.1:1"), "dev", image=arm.digest)
    assert machine.ledger.environments() == ()
    machine.ledger.close()
