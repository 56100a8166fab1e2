"""An image that stands on one of others: from a registry, an archive or the store, locked by digest, baked offline."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_kit import Machine, Vendor, index_of, machine, put_manifest, shell
from import_kit import layout, member, tar_files, tar_of

from instar.errors import (
    FetchError,
    HashMismatch,
    ImageNotFound,
    InstarError,
    LockError,
    LockStale,
    ResolveError,
    SourceUnreachable,
    StepFailed,
    StoreError,
)
from instar.lock.file import read
from instar.model.digest import Digest
from instar.model.reference import Repository
from instar.operations.gc import gc
from instar.store.manifest import INDEX_TYPE
from lying_registry import Handler, LyingRegistry, serving
from registries import RealRegistry, running

pytestmark = pytest.mark.root
__all__ = ["machine"]
ON_TOP = "\nfiles: [{from: page, to: /srv/page}]\nrun: ['echo ${COLOUR-none} >/srv/colour; echo $PATH >/srv/path']\n"


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path / "vendor")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with running(RealRegistry(tmp_path / "registry")) as found:
        yield found


@pytest.fixture
def page(machine: Machine) -> None:
    (machine.folder / "page").write_text("one")


def on(name: str) -> str:
    return f"base: {{oci: '{name}'}}" + ON_TOP


def refused(kind: type[InstarError], machine: Machine, image: str) -> str:
    """Have a lock refused; return what is said. Nothing is in the store, and no lock is written."""
    loaded = machine.write(image)
    with pytest.raises(kind) as caught:
        machine.lock(loaded)
    assert not (machine.folder / "instar.lock").exists() and not machine.workspace.store.digests()
    assert caught.value.message.startswith(f"{machine.folder}/instar.yaml:3:")
    return caught.value.message


@pytest.mark.usefixtures("page")
def test_a_tag_is_locked_and_baked_without_the_registry(
    machine: Machine, vendor: Vendor, registry: RealRegistry
) -> None:
    env = {"PATH": "/opt/own/bin:/bin", "COLOUR": "blue"}
    base = vendor.image(shell(**{"srv/old": b"old"}), {"srv/old": None, "srv/new": b"new"}, env=env, workdir="/srv")
    vendor.push(base, registry.host, "1.0")
    loaded = machine.write(on(f"{registry.host}/team/base:1.0"))
    locked = machine.lock(loaded).lock
    assert locked.base is not None and (locked.base.digest, locked.base.platform) == (base.digest, "linux/amd64")
    assert read(machine.folder / "instar.lock") == locked and locked.epoch == base.created

    baked = machine.bake(loaded)
    assert [step.step for step in baked.steps[:4]] == ["base 1/2", "base 2/2", "user", "files"]
    assert [one.digest for one in baked.image.layers[:2]] == [one.digest for one in base.layers]
    assert baked.image.config.env == env and baked.image.config.workdir == "/"
    assert baked.image.config.labels["org.opencontainers.image.base.digest"] == base.digest
    files = list(machine.files(baked.image))
    assert "/srv/colour: blue\n" in files and "/srv/path: /opt/own/bin:/bin\n" in files
    assert "/srv/new: new" in files and not any(line.startswith("/srv/old") for line in files)

    registry.stop()
    gc(machine.workspace, dry_run=False)
    (machine.folder / "page").write_text("two")
    again = machine.bake(loaded)
    assert [step.cached for step in again.steps] == [True, True, True, False, False]
    assert again.image.layers[:2] == baked.image.layers[:2]


@pytest.mark.usefixtures("page")
def test_an_update_says_what_moved(machine: Machine, vendor: Vendor, registry: RealRegistry) -> None:
    first, second = vendor.image(shell()), vendor.image(shell(more=b"more"))
    vendor.push(first, registry.host, "1.0")
    loaded = machine.write(on(f"{registry.host}/team/base:1.0"))
    machine.lock(loaded)
    vendor.push(second, registry.host, "1.0")
    assert not machine.lock(loaded).changed
    moved = machine.lock(loaded, frozenset(["base"]))
    assert moved.changes == (f"  base {first.digest.short} → {second.digest.short}",)
    assert machine.bake(loaded).image.layers[0].digest == second.layers[0].digest
    assert not machine.lock(loaded, "all").changed


def test_what_was_pushed_is_not_sent_again(machine: Machine, vendor: Vendor, registry: RealRegistry) -> None:
    base = vendor.image(shell())
    loaded = machine.write(f"base: {{oci: '{vendor.push(base, registry.host)}'}}")
    machine.lock(loaded)
    image = machine.bake(loaded).image
    to = Repository(host=registry.host, path="team/base")
    done = machine.workspace.registries.push(machine.workspace.store, image.digest, to)
    assert (done.blobs, done.moved) == (3, 2)  # the configuration and the user's layer


def test_of_several_platforms_this_machines_is_taken(machine: Machine, vendor: Vendor, registry: RealRegistry) -> None:
    mine, other = vendor.image(shell()), vendor.image({"x": b"x"}, architecture="arm64")
    for one in (mine, other):
        vendor.push(one, registry.host)
    sizes = [len(vendor.store.manifest(one.digest)) for one in (other, mine)]
    index = index_of(("arm64", other, sizes[0]), ("amd64", mine, sizes[1]))
    put_manifest(registry.host, "multi", index, INDEX_TYPE)
    loaded = machine.write(f"base: {{oci: '{registry.host}/team/base:multi'}}")
    base = machine.lock(loaded).lock.base
    assert base is not None and base.digest == mine.digest
    assert base.index is not None and base.index == put_manifest(registry.host, "multi", index, INDEX_TYPE)
    assert machine.bake(loaded).image.layers[0].digest == mine.layers[0].digest


def test_another_platform_is_refused(machine: Machine, vendor: Vendor, registry: RealRegistry) -> None:
    other = vendor.image({"x": b"x"}, architecture="arm64")
    name = vendor.push(other, registry.host)
    said = refused(FetchError, machine, f"base: {{oci: '{name}'}}")
    assert "it is for linux/arm64, and not for linux/amd64" in said
    index = index_of(("arm64", other, len(vendor.store.manifest(other.digest))))
    put_manifest(registry.host, "multi", index, INDEX_TYPE)
    said = refused(FetchError, machine, f"base: {{oci: '{registry.host}/team/base:multi'}}")
    assert "it is for linux/arm64, and not for linux/amd64" in said


def test_a_base_that_is_gone_or_out_of_reach(machine: Machine, vendor: Vendor, registry: RealRegistry) -> None:
    vendor.push(vendor.image({"x": b"x"}), registry.host)
    said = refused(ImageNotFound, machine, f"base: {{oci: '{registry.host}/team/base:9'}}")
    assert "does not have it" in said
    said = refused(ImageNotFound, machine, f"base: {{oci: 'sha256:{'a' * 64}'}}")
    assert "the store has no such image" in said


def test_a_manifest_of_schema_1_is_refused(machine: Machine, vendor: Vendor) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    first = json.dumps({"schemaVersion": 1, "name": "team/base", "fsLayers": []}).encode()

    def lie(handler: Handler) -> bool:
        handler.reply(200, first, Content_Type=kind)
        return True

    with serving(LyingRegistry()) as registry:
        registry.lie = lie
        said = refused(FetchError, machine, f"base: {{oci: '{registry.host}/team/base:1'}}")
    assert "Docker's schema 1" in said


@pytest.mark.parametrize("lie", ["another digest", "another kind", "an index without end", "another configuration"])
def test_a_registry_that_lies(machine: Machine, vendor: Vendor, lie: str) -> None:
    image = vendor.image({"x": b"x"})

    def answer(handler: Handler) -> bool:
        data = handler.registry.manifests[image.digest]
        if lie == "another configuration" and "/blobs/" in handler.path:
            handler.reply(200, b"{" + b" " * (len(handler.registry.blobs[image.config_digest]) - 2) + b"}")
        elif lie == "another configuration":
            handler.reply(200, data, Content_Type=json.loads(data)["mediaType"])
        elif lie == "another digest":
            handler.reply(200, data, Content_Type=json.loads(data)["mediaType"], Docker_Content_Digest="sha256:1")
        elif lie == "another kind":
            handler.reply(200, data, Content_Type=INDEX_TYPE)
        else:
            handler.reply(200, json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": {}}).encode(),
                          Content_Type=INDEX_TYPE)  # fmt: skip
        return True

    with serving(LyingRegistry()) as registry:
        registry.take(vendor.store.root, image.digest)
        registry.lie = answer
        refused(FetchError, machine, f"base: {{oci: '{registry.host}/team/base:1'}}")


def test_bytes_that_change_after_the_lock(machine: Machine, vendor: Vendor) -> None:
    image = vendor.image(shell())
    layer = image.layers[0]
    with serving(LyingRegistry()) as registry:
        registry.take(vendor.store.root, image.digest)
        loaded = machine.write(f"base: {{oci: '{registry.host}/team/base@{image.digest}'}}")
        machine.lock(loaded)
        registry.blobs[layer.digest] = bytes(layer.size_bytes)
        with pytest.raises(HashMismatch):
            machine.bake(loaded)
        assert not machine.workspace.store.digests()
        registry.take(vendor.store.root, image.digest)
        assert machine.bake(loaded).image.layers[0].digest == layer.digest


@pytest.mark.parametrize("env", [{"A B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A": "x" * 40_000}])
def test_an_environment_that_no_process_could_have(machine: Machine, vendor: Vendor, env: dict[str, str]) -> None:
    vendor.archive(vendor.image({"x": b"x"}, env=env), machine.folder / "base.tar")
    loaded = machine.write("base: {oci: ./base.tar}")
    with pytest.raises(FetchError, match="its environment has"):
        machine.lock(loaded)


@pytest.mark.usefixtures("page")
def test_an_archive_beside_the_definition(machine: Machine, vendor: Vendor) -> None:
    base, other = vendor.image(shell()), vendor.image(shell(other=b"other"))
    vendor.archive(base, machine.folder / "base.tar")
    loaded = machine.write(on("./base.tar"))
    locked = machine.lock(loaded).lock
    assert locked.base is not None and locked.base.digest == base.digest
    (machine.folder / "base.tar").unlink()  # what was locked by root is in root's store
    assert machine.bake(loaded).image.layers[0].digest == base.layers[0].digest

    vendor.archive(other, machine.folder / "base.tar")
    moved = machine.lock(loaded, "all")
    assert moved.changes == (f"  base {base.digest.short} → {other.digest.short}",)
    vendor.archive(base, machine.folder / "base.tar")
    machine.workspace.store.remove(other.digest)
    with pytest.raises(HashMismatch, match=str(base.digest)) as caught:
        machine.bake(loaded)
    assert "instar lock --update base" in (caught.value.hint or "")


def test_an_archive_for_several_platforms(machine: Machine, vendor: Vendor) -> None:
    mine, other = vendor.image(shell()), vendor.image({"x": b"x"}, architecture="arm64")
    index = index_of(*((one.config.architecture, one, len(vendor.store.manifest(one.digest))) for one in (other, mine)))
    entry = {"mediaType": INDEX_TYPE, "digest": Digest.of(index), "size": len(index)}
    blobs = {path.name: path.read_bytes() for path in (vendor.store.root / "blobs/sha256").iterdir()}
    files = {f"blobs/sha256/{name}": data for name, data in {**blobs, Digest.of(index).hex: index}.items()}
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    (machine.folder / "base.tar").write_bytes(tar_files(files))
    loaded = machine.write("base: {oci: ./base.tar}\nrun: ['true']")
    base = machine.lock(loaded).lock.base
    assert base is not None and base.digest == mine.digest
    machine.workspace.store.remove(mine.digest)
    assert machine.bake(loaded).image.layers[0].digest == mine.layers[0].digest


def test_what_docker_save_wrote(machine: Machine, vendor: Vendor) -> None:
    base = vendor.image(shell())
    layout, saved = vendor.path / "layout.tar", machine.folder / "saved.tar"
    vendor.store.export(base.digest, layout, compression="gzip")
    copy = ["skopeo", "copy", f"oci-archive:{layout}", f"docker-archive:{saved}:team/base:1"]
    subprocess.run(copy, check=True, capture_output=True)
    loaded = machine.write("base: {oci: ./saved.tar}\nrun: ['test -x /bin/sh']")
    machine.lock(loaded)
    assert machine.bake(loaded).image.layers[0].diff_id == base.layers[0].diff_id


def test_an_archive_that_is_none_or_leads_out(machine: Machine, vendor: Vendor) -> None:
    outside = machine.path / "outside.tar"
    vendor.archive(vendor.image({"x": b"x"}), outside)
    (machine.folder / "link.tar").symlink_to(outside)
    (machine.folder / "folder").mkdir()
    (machine.folder / "text.tar").write_text("no tar\n" * 1000)
    for name, cause in (
        ("link.tar", "it is a link"), ("folder", "not a regular file"), ("text.tar", "it is no tar"),
        ("none.tar", "no such file"),
    ):  # fmt: skip
        said = refused(StoreError, machine, f"base: {{oci: ./{name}}}")
        assert cause in said and "/proc/" not in said


def test_an_image_of_the_store(machine: Machine, vendor: Vendor) -> None:
    base = vendor.image(shell())
    machine.workspace.store.add_manifest(_copied(vendor, machine, base.digest))
    loaded = machine.write(f"base: {{oci: '{base.digest}'}}")
    machine.lock(loaded)
    assert machine.bake(loaded).image.layers[0].digest == base.layers[0].digest
    machine.workspace.store.remove(base.digest)
    with pytest.raises(ImageNotFound, match="the store has no such image"):
        machine.bake(loaded)


def _copied(vendor: Vendor, machine: Machine, digest: str) -> bytes:
    archive = vendor.path / "copy.tar"
    vendor.store.export(vendor.store.find(digest).digest, archive)
    return machine.workspace.store.receive(archive).manifest


def test_a_lock_is_held_against_the_image(machine: Machine, vendor: Vendor) -> None:
    base, other = vendor.image(shell()), vendor.image({"x": b"other"})
    for one in (other, base):
        vendor.archive(one, machine.folder / "base.tar")
        loaded = machine.write("base: {oci: ./base.tar}")
        machine.lock(loaded, "all" if one is base else None)
    path = machine.folder / "instar.lock"
    true = path.read_text()
    for old, new, what in (
        (base.layers[0].digest, other.layers[0].digest, "layers"),
        ('"env": {}', '"env": {"LD_PRELOAD": "/x.so"}', "environment"),
        ('"created": "2023', '"created": "2024', "time"),
    ):
        assert old in true
        path.write_text(true.replace(old, new))
        with pytest.raises(LockError, match=f"the {what} that it has of the base"):
            machine.bake(loaded)
    path.write_text(true)
    assert machine.bake(loaded)


def test_a_definition_that_moved_makes_the_lock_stale(machine: Machine, vendor: Vendor) -> None:
    vendor.archive(vendor.image(shell()), machine.folder / "base.tar")
    machine.lock(machine.write("base: {oci: ./base.tar}"))
    with pytest.raises(LockStale, match=r"base 'scratch' was 'oci:\./base\.tar' when locked"):
        machine.bake(machine.write("base: scratch"))
    with pytest.raises(ResolveError, match="it is not in the lock"):
        loaded = machine.write("base: scratch")
        machine.lock(loaded)
        machine.lock(loaded, frozenset(["base"]))


def test_a_layer_that_leads_out_is_refused_before_it_is_used(machine: Machine, vendor: Vendor) -> None:
    hostile = tar_of([member("../../etc/shadow", b"x")])
    (machine.folder / "base.tar").write_bytes(tar_files(layout(hostile)))
    loaded = machine.write("base: {oci: ./base.tar}")
    machine.lock(loaded)
    with pytest.raises(StoreError, match="a name leads out of the root"):
        machine.bake(loaded)
    assert not machine.workspace.state.steps.joinpath("work").exists()


def test_a_line_needs_a_shell_and_the_images_links_are_its_own(machine: Machine, vendor: Vendor) -> None:
    vendor.archive(vendor.image({"x": b"x"}), machine.folder / "base.tar")
    loaded = machine.write("base: {oci: ./base.tar}\nrun: ['true']")
    machine.lock(loaded)
    with pytest.raises(StepFailed, match="there is no /bin/sh in the image"):
        machine.bake(loaded)


def test_a_user_is_made_where_there_is_no_passwd_and_taken_where_there_is(machine: Machine, vendor: Vendor) -> None:
    vendor.archive(vendor.image({"x": b"x"}), machine.folder / "base.tar")
    loaded = machine.write("base: {oci: ./base.tar}")
    machine.lock(loaded)
    baked = machine.bake(loaded).image
    assert baked.config.user == "10001:10001"
    assert "/etc/passwd: app:x:10001:10001:app:/nonexistent:/usr/sbin/nologin\n" in list(machine.files(baked))
    accounts = {"etc/passwd": b"web:x:33:34::/:\n", "etc/group": b"web:x:34:\n"}
    vendor.archive(vendor.image(accounts), machine.folder / "base.tar")
    loaded = machine.write("base: {oci: ./base.tar}\nuser: web")
    machine.lock(loaded, "all")
    assert machine.bake(loaded).image.config.user == "33:34"


def test_a_registry_that_does_not_answer(machine: Machine) -> None:
    from registry_kit import HASTY

    from instar.registry.registries import Registries

    workspace = machine.workspace
    workspace.__dict__["registries"] = Registries({}, {}, workspace.cancellation, machine.said.append, HASTY)
    refused(SourceUnreachable, machine, "base: {oci: '127.0.0.1:1/team/base:1'}")
