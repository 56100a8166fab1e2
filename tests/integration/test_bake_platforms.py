"""One definition baked for several platforms: what needs no foreign program is made here, the rest is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from base_kit import DEFINITION, Machine, Vendor, machine, shell

from instar.bake import Baked
from instar.bake.elf import architecture
from instar.definition import load
from instar.errors import ComponentMissing, DefinitionError, FetchError, LockError, Refused, StepFailed
from instar.host.kernel import emulation
from instar.model.image import Image
from instar.operations.bake import bake, find_baked, plan
from instar.operations.gc import gc
from instar.operations.images import join
from instar.operations.platforms import BakedPlatforms, bake_platforms
from instar.store import Store
from instar.store.platforms import index_json, platforms

pytestmark = pytest.mark.root
__all__ = ["machine"]
AMD64, ARM64 = 62, 183
BOTH = "platforms: [linux/amd64, linux/arm64]"
ON_NOTHING = f"base: scratch\n{BOTH}\nfiles: [{{from: page, to: /srv/page}}]"


@pytest.fixture(autouse=True)
def _nothing_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that runs the tests has."""
    monkeypatch.setattr(emulation, "runs", lambda architecture: architecture == emulation.own_architecture())


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path / "vendor")


def program(number: int) -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 2, number) + bytes(44)


def write(machine: Machine, image: str, **files: bytes | str) -> None:
    for name, content in files.items():
        (machine.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    machine.lock(machine.write(image))


def on_arm(machine: Machine, image: Image) -> Image:
    return Store(machine.workspace.store.root, "linux/arm64").image(image.digest)


def all_of(machine: Machine) -> BakedPlatforms:
    return bake_platforms(machine.workspace, load(machine.folder / "instar.yaml"))


def arm_of(machine: Machine) -> Baked:
    return bake(machine.workspace, load(machine.folder / "instar.yaml"), platform="linux/arm64")


def test_what_is_only_copied_is_baked_for_every_platform_and_is_one_image(machine: Machine) -> None:
    write(machine, ON_NOTHING, page="hello")
    loaded = load(machine.folder / "instar.yaml")
    own = machine.bake(loaded)
    assert find_baked(machine.workspace, loaded) == own.image
    alone = "the image is for linux/amd64 alone; with linux/arm64: instar bake --all-platforms"
    assert [one.text for one in machine.said if one.stage == "note"] == [alone]
    done = all_of(machine)
    amd, arm = (done.platforms[f"linux/{name}"].image for name in ("amd64", "arm64"))
    assert amd == own.image and (amd.config.architecture, arm.config.architecture) == ("amd64", "arm64")
    assert [step.cached for step in done.platforms["linux/arm64"].steps] == [False, False]  # the keys are of a platform
    store = machine.workspace.store
    named = {one.name: one.digest for one in platforms(store.manifest(done.image.digest))}
    assert named == {"linux/amd64": amd.digest, "linux/arm64": arm.digest}
    assert store.image(done.image.digest).config.architecture == "amd64"
    assert on_arm(machine, done.image).config.architecture == "arm64"
    assert join(machine.workspace, (amd.digest, arm.digest)).digest == done.image.digest
    assert store.tags() == {"web": done.image.digest, "web_arm64": arm.digest}


def test_the_image_for_all_is_the_definitions_while_each_part_is_as_it_says(machine: Machine) -> None:
    write(machine, ON_NOTHING, page="hello")
    loaded = load(machine.folder / "instar.yaml")
    done = all_of(machine)
    assert plan(machine.workspace, loaded).image == done.image.digest
    assert find_baked(machine.workspace, loaded) == machine.bake(loaded).image == done.image
    gc(machine.workspace, dry_run=False)
    assert all(step.cached for each in all_of(machine).platforms.values() for step in each.steps)
    assert find_baked(machine.workspace, loaded) == done.image and on_arm(machine, done.image)
    (machine.folder / "page").write_text("another")
    own = machine.bake(load(machine.folder / "instar.yaml"))
    assert own.image.digest != done.image.digest  # that of the other platform is not baked yet
    assert machine.workspace.store.tags()["web"] == own.image.digest
    assert all_of(machine).image.digest != done.image.digest


def test_files_may_be_for_one_platform(machine: Machine) -> None:
    image = f"""\
base: scratch
{BOTH}
files:
  - {{from: for-arm, to: /app, platform: linux/arm64}}
  - {{from: for-amd, to: /app, platform: linux/amd64}}
  - {{from: page, to: /page}}"""
    write(machine, image, **{"for-arm": program(ARM64), "for-amd": program(AMD64)}, page="hello")
    for name, baked in all_of(machine).platforms.items():
        target = machine.path / f"tree-{baked.image.config.architecture}"
        machine.workspace.store.unpack(baked.image.layers[-1], target)
        assert architecture((target / "app").read_bytes()) == name.removeprefix("linux/")
        assert (target / "page").read_text() == "hello"
    (machine.folder / "for-amd").write_bytes(program(ARM64))
    with pytest.raises(StepFailed, match="for arm64, and the image is for amd64") as caught:
        machine.bake(load(machine.folder / "instar.yaml"))
    assert str(caught.value.place).endswith("instar.yaml:7:7")


def test_a_program_of_another_platform_is_refused_where_platforms_are_said(machine: Machine) -> None:
    write(machine, ON_NOTHING, page=program(AMD64))
    with pytest.raises(StepFailed, match="'/srv/page': for amd64, and the image is for arm64") as caught:
        all_of(machine)
    assert "'platform: linux/amd64'" in str(caught.value.hint)
    assert machine.workspace.store.digests() == ()  # nor is this machine's half made
    machine.lock(machine.write("base: scratch\nfiles: [{from: other, to: /other}]"))
    (machine.folder / "other").write_bytes(program(ARM64))
    machine.bake(load(machine.folder / "instar.yaml"))
    assert any(one.kind == "warning" and "for arm64" in one.text for one in machine.said)


def both(vendor: Vendor, machine: Machine, arm: bytes = b"arm") -> tuple[Image, Image]:
    """Write an archive with an image for each platform beside the definition."""
    images = vendor.image(shell()), vendor.image({"x": arm}, architecture="arm64")
    pairs = [(vendor.store.manifest(one.digest), f"linux/{one.config.architecture}") for one in images]
    vendor.archive(vendor.store.add_manifest(index_json(pairs)), machine.folder / "base.tar")
    return images


def test_of_a_base_for_several_platforms_each_stands_on_its_own(machine: Machine, vendor: Vendor) -> None:
    amd, arm = both(vendor, machine)
    write(machine, f"base: {{oci: ./base.tar}}\n{BOTH}\nfiles: [{{from: page, to: /page}}]", page="hello")
    done = all_of(machine)
    found = [done.platforms[f"linux/{name}"].image.layers[0].digest for name in ("amd64", "arm64")]
    assert found == [amd.layers[0].digest, arm.layers[0].digest]


def test_a_base_without_a_platform_is_told(machine: Machine, vendor: Vendor) -> None:
    vendor.archive(vendor.image(shell()), machine.folder / "base.tar")
    with pytest.raises(FetchError) as caught:
        machine.lock(machine.write(f"base: {{oci: ./base.tar}}\n{BOTH}"))
    assert "it is for linux/amd64, and not for linux/arm64" in caught.value.message
    assert "instar.yaml:3:3: cannot use it as a base" in caught.value.message


def test_what_would_run_foreign_programs_is_refused_before_anything_is_made(machine: Machine, vendor: Vendor) -> None:
    both(vendor, machine)
    write(machine, f"base: {{oci: ./base.tar}}\n{BOTH}\nrun: ['echo one >/one', 'echo two >/two']")
    for act in (all_of, arm_of):
        with pytest.raises(ComponentMissing) as caught:
            act(machine)
        assert "instar.yaml:5:9: cannot bake 'run 1: echo one >/one', and 1 more step for linux/arm64: it runs" in str(
            caught.value
        )
        assert "qemu-user-static" in str(caught.value.hint) and "instar images join" in str(caught.value.hint)
    assert machine.workspace.store.tags() == {}
    assert "/one: one\n" in list(machine.files(machine.bake(load(machine.folder / "instar.yaml")).image))


def test_with_an_emulator_it_is_tried(machine: Machine, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    both(vendor, machine)
    write(machine, f"base: {{oci: ./base.tar}}\n{BOTH}\nrun: ['echo one >/one']")
    monkeypatch.setattr(emulation, "runs", lambda architecture: True)
    with pytest.raises(StepFailed, match="/bin/sh"):  # which the image for arm64 has not
        arm_of(machine)


def test_a_stage_of_this_platform_makes_what_another_takes(machine: Machine, vendor: Vendor) -> None:
    vendor.archive(vendor.image(shell()), machine.folder / "shell.tar")
    image = f"base: scratch\n{BOTH}\nfiles: [{{from: build.compile, path: /out, to: /out}}]"
    stage = "{base: {oci: ./shell.tar}, platform: linux/amd64, run: ['echo common', 'echo $TARGETPLATFORM >/out']}"
    file = machine.folder / "instar.yaml"
    text = DEFINITION.format(name="web", image="".join(f"  {line}\n" for line in image.splitlines()))
    file.write_text(f"build:\n  compile: {stage}\n{text}")
    machine.lock(load(file))
    for name, baked in all_of(machine).platforms.items():
        target = machine.path / f"tree-{baked.image.config.architecture}"
        machine.workspace.store.unpack(baked.image.layers[-1], target)
        assert (target / "out").read_text() == f"{name}\n"
    for one in all_of(machine).platforms.values():
        assert all(step.cached for step in one.steps)
    file.write_text(file.read_text().replace("platform: linux/amd64, ", ""))
    with pytest.raises(FetchError, match="not for linux/arm64"):
        machine.lock(load(file))


def test_what_another_definition_bakes_is_there_for_the_platform_or_told(machine: Machine) -> None:
    (machine.folder / "base").mkdir()
    (machine.folder / "base/common").write_text("one")
    base = f"base: scratch\n{BOTH}\nfiles: [{{from: common, to: /common}}]"
    machine.lock(machine.write(base, "base", "base"))
    write(machine, f"base: {{image: base/instar.yaml}}\n{BOTH}\nfiles: [{{from: page, to: /page}}]", page="hello")
    done = all_of(machine)
    assert {one.image.layers[0].digest for one in done.platforms.values()} == {
        machine.workspace.store.find(name).layers[0].digest for name in ("base", "base_arm64")
    }
    machine.lock(machine.write(base.replace(", linux/arm64", ""), "base", "base"))
    with pytest.raises(LockError, match=r"stands on '.*base/instar.yaml', which is for linux/amd64, and not for"):
        arm_of(machine)


def test_a_definition_for_other_machines(machine: Machine) -> None:
    write(machine, "base: scratch\nplatforms: [linux/arm64]\nfiles: [{from: page, to: /page}]", page="hello")
    loaded = load(machine.folder / "instar.yaml")
    with pytest.raises(Refused, match=r"cannot bake 'web' for linux/amd64: it is for linux/arm64") as caught:
        machine.bake(loaded)
    assert "instar bake --platform linux/arm64" in str(caught.value.hint)
    image = arm_of(machine).image
    assert image.config.architecture == "arm64"
    assert all_of(machine).image == image  # of one platform there is nothing to join
    with pytest.raises(DefinitionError, match="did you mean 'linux/arm64'"):
        machine.write("base: scratch\nplatforms: [linux/arm46]\nfiles: [{from: page, to: /page}]")
