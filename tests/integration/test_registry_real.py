"""Images to a real registry and back: the same digest everywhere, and only what is missing moves."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from registry_kit import Door, at, made, noise, parts, small_disk

from instar.certificates.own_authority import OwnAuthority
from instar.errors import BlobDamaged, FetchError, ImageNotFound, StoreError
from instar.model.machine import RegistrySettings
from instar.model.reference import Repository
from instar.registry.push import Push
from instar.store import Store
from registries import RealRegistry, running

pytestmark = pytest.mark.root
USER, PASSWORD = "ann", "s3cret-word"
HTPASSWD = "ann:$2b$04$mKsHahJh9r1NlOS0VQfrfeMH0IOdQ4YcqKH/cscg8wq4oZI.F7.tS\n"  # of both, by bcrypt


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with running(RealRegistry(tmp_path / "registry")) as found:
        yield found


def test_an_image_is_the_same_at_the_other_end(
    registry: RealRegistry, store: Store, other: Store, tmp_path: Path
) -> None:
    image = made(store, tmp_path, b"base", noise(300_000), b"")
    what, door = at(registry.host, image), Door()
    there = door.registries.push(store, image.digest, what.repository, tags=["v1.2"])
    assert (there.blobs, there.moved, there.moved_bytes) == (4, 4, there.size_bytes)
    assert not parts(store)

    back = Door().registries.pull(other, what)
    assert (back.moved, back.moved_bytes) == (4, there.size_bytes)
    assert other.image(image.digest) == image
    assert other.manifest(image.digest) == store.manifest(image.digest)
    assert other.tags() == {} and not parts(other)
    for layer in image.layers:
        other.verify(layer.digest)

    said = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{what.repository}:v1.2"], check=True, capture_output=True
    )
    assert json.loads(said.stdout)["Digest"] == image.digest


def test_only_what_is_missing_moves(registry: RealRegistry, store: Store, other: Store, tmp_path: Path) -> None:
    base, changed = noise(400_000), noise(1_000)
    old, new = made(store, tmp_path, base, b"one"), made(store, tmp_path, base, changed)
    what, door = at(registry.host, new), Door()
    door.registries.push(store, old.digest, what.repository)
    Door().registries.pull(other, at(registry.host, old))
    for done in (
        door.registries.push(store, new.digest, what.repository),
        Door().registries.pull(other, what),
    ):
        assert (done.blobs, done.moved) == (3, 2)  # its layer, and its configuration
        assert done.moved_bytes < 4_000
    for done in (
        door.registries.push(store, new.digest, what.repository),
        Door().registries.pull(other, what),
    ):
        assert (done.moved, done.moved_bytes) == (0, 0)


def test_a_large_blob_goes_in_several_requests(
    registry: RealRegistry, store: Store, other: Store, tmp_path: Path
) -> None:
    image = made(store, tmp_path, noise(5 << 20))
    what, door = at(registry.host, image), Door()
    client = door.registries._client(what.repository, actions="pull,push")
    Push(image.digest, client, store, door.cancellation, door.told.append, chunk_bytes=1 << 20).run()
    Door().registries.pull(other, what)
    assert other.image(image.digest) == image


def test_two_pushes_and_two_pulls_at_once(registry: RealRegistry, store: Store, other: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, *(noise(200_000) for _ in range(6)))
    what = at(registry.host, image)
    failures: list[BaseException] = []

    def noting(work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    for work in (
        lambda: Door().registries.push(store, image.digest, what.repository),
        lambda: Door().registries.pull(Store(other.root), what),
    ):
        threads = [threading.Thread(target=noting, args=(work,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
    assert other.image(image.digest) == image
    assert {path.name for path in (other.root / "blobs/sha256").iterdir()} == registry.blobs()
    assert not parts(other)


def test_what_is_damaged_here_does_not_go_out(registry: RealRegistry, store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base", noise(100_000))
    blob = store.path(image.layers[1].digest)
    data = bytearray(blob.read_bytes())
    data[500] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)
    with pytest.raises(BlobDamaged):
        Door().registries.push(store, image.digest, at(registry.host, image).repository)
    assert image.digest.hex not in registry.blobs()


def test_what_a_registry_has_not_got(registry: RealRegistry, store: Store, other: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    with pytest.raises(ImageNotFound) as caught:
        Door().registries.pull(other, at(registry.host, image, "nobody/knows"))
    assert f"{registry.host}/nobody/knows@{image.digest}" in caught.value.message
    assert caught.value.retry_after_s is None
    assert not parts(other) and not other.digests()


def test_a_registry_with_a_certificate_of_ones_own(tmp_path: Path, store: Store, other: Store) -> None:
    now = datetime.now(UTC)
    authority, stranger = (OwnAuthority(tmp_path / name, name) for name in ("authority", "stranger"))
    pair = authority.issue(["localhost"], now)
    files = {name: tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem", "other.pem")}
    for name, data in zip(files, (pair.chain, pair.key, authority.root(now), stranger.root(now)), strict=True):
        files[name].write_bytes(data)
    image = made(store, tmp_path, b"base")
    with running(RealRegistry(tmp_path / "registry", tls=(files["chain.pem"], files["key.pem"]))) as registry:
        host = f"localhost:{registry.port}"
        what = at(host, image)
        own = {host: RegistrySettings(ca=str(files["ca.pem"]))}
        Door(own).registries.push(store, image.digest, what.repository)
        Door(own).registries.pull(other, what)
        assert other.image(image.digest) == image
        for settings in (RegistrySettings(ca=str(files["other.pem"])), RegistrySettings(http=False)):
            with pytest.raises(FetchError) as caught:
                Door({host: settings}).registries.pull(Store(tmp_path / "none"), what)
            assert caught.value.message.startswith(f"cannot trust '{host}': ")
            assert "certificate" in caught.value.message  # what is wrong with it, as TLS says
            assert caught.value.retry_after_s is None
            assert "registries" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_pull_mends_what_is_damaged_here(
    kind: str, registry: RealRegistry, store: Store, other: Store, tmp_path: Path
) -> None:
    image = made(store, tmp_path, b"base", noise(1 << 20))
    what = at(registry.host, image)
    Door().registries.push(store, image.digest, what.repository)
    Door().registries.pull(other, what)
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[1].digest}[kind]
    path = other.path(digest)
    path.chmod(0o600)
    with path.open("r+b") as file:  # of the same length
        file.seek(20)
        file.write(b"\xff\xfe")
    with pytest.raises(BlobDamaged):
        other.verify(digest)
    done = Door().registries.pull(other, what)
    assert done.moved == (0 if kind == "manifest" else 1)
    assert other.image(image.digest) == image
    for one in (image.digest, image.config_digest, *(layer.digest for layer in image.layers)):
        other.verify(one)
    assert not parts(other)


def test_what_has_no_room_is_not_begun(registry: RealRegistry, store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, noise(4 << 20))
    what = at(registry.host, image)
    Door().registries.push(store, image.digest, what.repository)
    with small_disk(tmp_path / "small", "3m") as small:
        other = Store(small / "store")
        with pytest.raises(StoreError, match=r"are to come, and the file system at '.*/small' has room for") as caught:
            Door().registries.pull(other, what)
        assert "free space there" in str(caught.value.hint)
        assert not parts(other) and not other.digests()


def test_tls_asked_of_who_has_none(registry: RealRegistry, store: Store, tmp_path: Path) -> None:
    image = made(store, tmp_path, b"base")
    with pytest.raises(FetchError) as caught:
        Door({registry.host: RegistrySettings(http=False)}).registries.pull(store, at(registry.host, image))
    assert "http: true" in str(caught.value.hint)


@pytest.mark.parametrize("where", ["REGISTRY_AUTH_FILE", "HOME"])
def test_a_registry_that_wants_a_password(tmp_path: Path, store: Store, other: Store, where: str) -> None:
    image = made(store, tmp_path, b"base")
    with running(RealRegistry(tmp_path / "registry", htpasswd=HTPASSWD)) as registry:
        what = at(registry.host, image)
        with pytest.raises(FetchError) as caught:
            Door().registries.push(store, image.digest, what.repository)
        assert "log in" in str(caught.value.hint) and caught.value.retry_after_s is None

        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        file = tmp_path / ("auth.json" if where == "REGISTRY_AUTH_FILE" else ".docker/config.json")
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        environ = {where: str(file if where == "REGISTRY_AUTH_FILE" else tmp_path)}
        Door(environ=environ).registries.push(store, image.digest, what.repository)
        Door(environ=environ).registries.pull(other, what)
        assert other.image(image.digest) == image

        file.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"ann:wrong-word").decode()}}}))
        with pytest.raises(FetchError) as caught:
            Door(environ=environ).registries.pull(Store(tmp_path / "none"), what)
        assert "wrong-word" not in f"{caught.value.message} {caught.value.hint}"


def test_a_helper_gives_the_password(tmp_path: Path, store: Store) -> None:
    image = made(store, tmp_path, b"base")
    helper = Path("/usr/local/bin") / f"docker-credential-instar-test-{os.getpid()}"
    with running(RealRegistry(tmp_path / "registry", htpasswd=HTPASSWD)) as registry:
        answer = json.dumps({"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD})
        helper.write_text(f"#!/bin/sh\n[ \"$(cat)\" = '{registry.host}' ] && echo '{answer}'\n")
        helper.chmod(0o755)
        try:
            name = helper.name.removeprefix("docker-credential-")
            (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: name}}))
            door = Door(environ={"DOCKER_CONFIG": str(tmp_path)})
            assert door.registries.push(store, image.digest, at(registry.host, image).repository).moved == 2
        finally:
            helper.unlink()


def test_a_mirror_is_asked_first_and_the_registry_for_the_rest(tmp_path: Path, store: Store, other: Store) -> None:
    image = made(store, tmp_path, b"base", noise(50_000))
    with running(RealRegistry(tmp_path / "one")) as mirror, running(RealRegistry(tmp_path / "two")) as registry:
        settings = {registry.host: RegistrySettings(mirrors=(f"{mirror.host}/hub",))}
        what = at(registry.host, image)
        Door().registries.push(store, image.digest, Repository(host=mirror.host, path=f"hub/{what.repository.path}"))
        door = Door(settings)
        door.registries.pull(other, what)
        assert other.image(image.digest) == image and not door.warnings()
        assert not registry.blobs()

        Door().registries.push(store, image.digest, what.repository)
        shutil.rmtree(mirror.folder / "data")
        door, fresh = Door(settings), Store(tmp_path / "fresh")
        door.registries.pull(fresh, what)
        assert fresh.image(image.digest) == image
        assert len(door.warnings()) == 1 and mirror.host in door.warnings()[0]
