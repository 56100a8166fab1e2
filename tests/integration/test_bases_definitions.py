"""Images that stand on what another definition bakes, and images that stand on nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from bake_kit import writer_program
from base_kit import Machine, Vendor, machine, shell

from instar.errors import DefinitionError, LockMissing, LockStale, StepFailed
from instar.operations.bake import bake, find_baked, plan
from instar.operations.bake_all import bake_all_on
from instar.operations.bake_check import check_bake
from instar.operations.gc import gc
from instar.views.bakes import baked_all_json, baked_all_page

pytestmark = pytest.mark.root
__all__ = ["machine"]
ON_BASE = "base: {image: ../base/instar.yaml}\nrun: ['echo $COLOUR >/colour']\nenv: {SHAPE: round}"

IDLE = "stage 'idle' is not baked: nothing of it is in the image; take something with 'from: build.idle', or remove it"


@pytest.fixture
def base(machine: Machine, tmp_path: Path) -> Path:
    """Write a definition that others stand on, locked; return its folder."""
    vendor = Vendor(tmp_path / "vendor")
    folder = machine.folder / "base"
    folder.mkdir()
    vendor.archive(vendor.image(shell(), env={"PATH": "/opt/bin:/bin"}), folder / "shell.tar")
    (folder / "common").write_text("one")
    machine.lock(write_base(machine))
    return folder


def write_base(machine: Machine, more: str = "") -> object:
    image = f"base: {{oci: ./shell.tar}}\nfiles: [{{from: common, to: /common}}]\nenv: {{COLOUR: blue}}\n{more}"
    return machine.write(image, "base", "base")


def test_several_services_share_the_layers_of_one(machine: Machine, base: Path) -> None:
    one, two = (machine.write(ON_BASE.replace("/colour'", f"/{name}'"), name, name) for name in ("one", "two"))
    baked = []
    for loaded in (one, two):
        machine.lock(loaded)
        assert plan(machine.workspace, loaded).image is None
        assert find_baked(machine.workspace, loaded) is None
        baked.append(machine.bake(loaded))
    stood_on = machine.workspace.store.find("base")
    assert baked[0].image.layers[:3] == baked[1].image.layers[:3]
    assert [one.digest for one in baked[0].image.layers[:3]] == [one.digest for one in stood_on.layers]
    assert [step.cached for step in baked[1].steps] == [True, True, True, True, False]
    found = baked[0].image
    assert found.config.env == {"PATH": "/opt/bin:/bin", "COLOUR": "blue", "SHAPE": "round"}
    assert found.created == stood_on.created and "/one: blue\n" in list(machine.files(found))
    assert plan(machine.workspace, one).image == found.digest
    assert not check_bake(machine.workspace, one).differences


def test_a_base_that_changed_is_another_input(machine: Machine, base: Path) -> None:
    loaded = machine.write(ON_BASE, "one", "one")
    machine.lock(loaded)
    first = machine.bake(loaded)
    (base / "common").write_text("two")
    assert plan(machine.workspace, loaded).image is None
    second = machine.bake(loaded)
    assert [step.cached for step in second.steps] == [True, True, True, False, False]
    assert "/common: two" in list(machine.files(second.image))
    assert first.image.layers[0] == second.image.layers[0] and first.image.digest != second.image.digest
    gc(machine.workspace, dry_run=False)
    (base / "common").write_text("one")
    assert machine.bake(loaded).image.digest == first.image.digest
    write_base(machine, "# what is said of the service alone changes no layer\n")
    assert all(step.cached for step in machine.bake(loaded).steps)


def test_a_slim_base_is_the_one_layer_that_it_has(machine: Machine, base: Path) -> None:
    (base / "program").write_bytes(writer_program())
    (base / "program").chmod(0o755)
    write_base(machine, "slim: true")
    text = (base / "instar.yaml").read_text().replace("files: [", "files: [{from: program, to: /program}, ")
    (base / "instar.yaml").write_text(text.replace("[/bin/sh]", "[/program, a, b]"))
    loaded = machine.write("base: {image: ../base/instar.yaml}", "one", "one")
    machine.lock(loaded)
    image = machine.bake(loaded).image
    stood_on = machine.workspace.store.find("base")
    assert len(stood_on.layers) == 1 and len(image.layers) == 2  # and the user's
    assert image.layers[0].digest == stood_on.layers[0].digest
    assert find_baked(machine.workspace, loaded) == image


def test_a_base_may_stand_on_another(machine: Machine, base: Path) -> None:
    middle = machine.write("base: {image: ../base/instar.yaml}\nrun: ['echo middle >/middle']", "middle", "middle")
    top = machine.write("base: {image: ../middle/instar.yaml}\nrun: ['read w </middle; echo $w >/top']", "top", "top")
    machine.lock(middle)
    machine.lock(top)
    baked = machine.bake(top)
    assert "/top: middle\n" in list(machine.files(baked.image)) and baked.image.config.env["COLOUR"] == "blue"
    assert set(machine.workspace.store.tags()) == {"base", "middle", "top"}


def test_all_that_stand_on_one_are_baked(machine: Machine, base: Path) -> None:
    image = "base: {image: ../base/instar.yaml}"
    for name, on in (("one", image), ("top", image.replace("base/", "one/")), ("other", "base: scratch")):
        machine.lock(machine.write(on, name, name))
    for folder, text in (
        (".hidden", image),
        ("node_modules", image),
        ("torn", "image: {base: {image: ["),
        ("x", "- 1"),
    ):
        (machine.folder / folder).mkdir()
        (machine.folder / folder / "instar.yaml").write_text(text)
    (machine.folder / "link.yaml").symlink_to(machine.folder / "one/instar.yaml")
    done = list(bake_all_on(machine.workspace, base / "instar.yaml", machine.folder))
    assert [one.file.parent.name for one in done] == ["base", "one", "top"]
    assert {one.file.parent.name: one.baked.image.digest for one in done if one.baked} == dict(
        machine.workspace.store.tags()
    )


def test_one_that_fails_holds_up_only_what_stands_on_it(machine: Machine, base: Path) -> None:
    image = "base: {image: ../base/instar.yaml}"
    for name, on in (
        ("bad", f"{image}\nrun: ['exit 3']"),
        ("above", image.replace("base/", "bad/")),
        ("good", image),
        ("unlocked", image),
    ):
        loaded = machine.write(on, name, name)
        if name != "unlocked":
            machine.lock(loaded)
    machine.lock(machine.load(machine.folder / "unlocked/instar.yaml"))
    (machine.folder / "unlocked/instar.lock").write_text("{}")
    done = {one.file.parent.name: one for one in bake_all_on(machine.workspace, base / "instar.yaml", machine.folder)}
    assert {name for name, one in done.items() if one.baked} == {"base", "good"}
    assert "run 1: exit 3" in baked_all_json([done["bad"]])[0]["error"]
    assert done["above"].failure is not None and "it stands on" in done["above"].failure.message
    *_, last = baked_all_page(tuple(done.values()))
    assert last == "3 of 5 could not be baked"
    (base / "instar.lock").unlink()
    (base / "instar.yaml").write_text("name: base\n")
    [only] = bake_all_on(machine.workspace, base / "instar.yaml", machine.folder)
    assert only.failure is not None and "'image' is missing" in only.failure.message


def test_a_definition_for_others_to_stand_on_needs_no_service(machine: Machine, base: Path) -> None:
    file = machine.folder / "base/instar.yaml"
    file.write_text(file.read_text().partition("service:")[0])
    loaded = machine.write(ON_BASE, "one", "one")
    machine.lock(loaded)
    assert "/colour: blue\n" in list(machine.files(machine.bake(loaded).image))
    alone = machine.workspace.store.find("base")
    assert alone.config.command == () and find_baked(machine.workspace, loaded) is not None


def test_what_is_no_base(machine: Machine, base: Path) -> None:
    def said(image: str, kind: type[DefinitionError] = DefinitionError, name: str = "one") -> str:
        loaded = machine.write(image, name, "one")
        with pytest.raises(kind) as caught:
            machine.lock(loaded, "all")
        with pytest.raises(kind, match=re.escape(caught.value.message)):
            bake(machine.workspace, loaded)
        message = caught.value.message
        assert message.startswith(f"{machine.folder}/one/instar.yaml:3:")
        return message

    assert "no such file" in said("base: {image: ../base/other.yaml}")
    assert "its folder is not there" in said("base: {image: ../nowhere/instar.yaml}")
    assert "in a circle: " in said("base: {image: ./instar.yaml}")
    assert "has the name 'base', as" in said("base: {image: ../base/instar.yaml}", name="base")
    (base / "instar.yaml").write_text("name: base\nimage: {base: scratch, rum: [x]}\nservice: {command: [x]}\n")
    loaded = machine.write(ON_BASE, "one", "one")
    with pytest.raises(DefinitionError, match=r"base/instar.yaml:2:24: image: unknown key 'rum'"):
        machine.lock(loaded)


def test_definitions_in_a_circle(machine: Machine, base: Path) -> None:
    machine.write("base: {image: ../one/instar.yaml}", "two", "two")
    loaded = machine.write("base: {image: ../two/instar.yaml}", "one", "one")
    for verb in (machine.lock, lambda one: bake(machine.workspace, one)):
        with pytest.raises(
            DefinitionError, match=r"two/instar.yaml:3:\d+: definitions stand on one another in a circle"
        ):
            verb(loaded)


def test_a_base_without_a_lock_or_with_a_stale_one(machine: Machine, base: Path) -> None:
    loaded = machine.write(ON_BASE, "one", "one")
    machine.lock(loaded)
    write_base(machine)
    machine.write("base: scratch", "base", "base")
    with pytest.raises(LockStale) as stale:
        bake(machine.workspace, loaded)
    (base / "instar.lock").unlink()
    with pytest.raises(LockMissing) as caught:
        bake(machine.workspace, loaded)
    for error in (stale.value, caught.value):
        assert f"one/instar.yaml:3:3: it stands on '{machine.folder}/base/instar.yaml': " in error.message
    assert stale.value.hint == caught.value.hint == f"instar lock -f {machine.folder}/base/instar.yaml"


def test_a_base_of_another_user_is_not_read(machine: Machine, base: Path) -> None:
    """Whoever may write a definition gets no file of others into an image by it, and no word of what is in one."""
    (base / "instar.yaml").write_text("secret words\n")
    for folder in (machine.folder / "one", machine.folder / "link"):
        folder.mkdir(exist_ok=True)
    os.chown(machine.folder / "one", 10_001, 10_001)
    messages = []
    for path in ("../base", "../no"):
        each = machine.write(ON_BASE.replace("../base", path), "one", "one")
        with pytest.raises(DefinitionError) as caught:
            machine.lock(each, "all")
        messages.append(caught.value.message.replace("../no", "../base"))
    assert messages[0] == messages[1] and "secret" not in messages[0]
    (machine.folder / "one/link").symlink_to(base)
    inside = machine.write(ON_BASE.replace("../base", "link"), "one", "one")
    with pytest.raises(DefinitionError, match="its folder is not there, or is not of the owner of"):
        machine.lock(inside)


def test_a_stage_stands_on_what_an_image_can(machine: Machine, base: Path) -> None:
    """What is built on an image of others, or on another definition, comes to an image on nothing."""
    take = "files: [{from: build.one, path: /made, to: /one}, {from: build.two, path: /made, to: /two}]"
    stages = (
        "build:\n  one: {base: {oci: ./base/shell.tar}, run: ['echo $PATH >/made']}\n"
        "  two: {base: {image: base/instar.yaml}, run: ['echo $COLOUR >/made']}\n"
    )
    machine.write("base: scratch")
    file = machine.folder / "instar.yaml"
    file.write_text(stages + file.read_text().replace("base: scratch", f"base: scratch\n  {take}"))
    loaded = machine.load(file)
    locked = machine.lock(loaded).lock
    assert locked.build["one"].base is not None and locked.build["two"].base is locked.base is None
    baked = machine.bake(loaded)
    files = list(machine.files(baked.image))
    assert {"/one: /opt/bin:/bin\n", "/two: blue\n"} < set(files)
    assert [step.step for step in baked.steps if step.stage is None] == ["user", "files"]
    (base / "instar.yaml").write_text((base / "instar.yaml").read_text().replace("blue", "green"))
    assert "/two: green\n" in list(machine.files(machine.bake(loaded).image))
    assert not check_bake(machine.workspace, loaded).differences


def test_a_stage_that_nothing_is_taken_from_is_said_when_it_is_locked(machine: Machine) -> None:
    (machine.folder / "page").write_text("page")
    machine.write("base: scratch\nfiles: [{from: page, to: /page}]")
    file = machine.folder / "instar.yaml"
    file.write_text("build:\n  idle: {base: scratch, files: [{from: page, to: /x}]}\n" + file.read_text())
    machine.lock(machine.load(file))
    warned = [one.text for one in machine.said if one.kind == "warning"]
    assert warned == [f"{file}:2:3: {IDLE}"]


def test_an_image_on_nothing(machine: Machine) -> None:
    (machine.folder / "program").write_bytes(b"\x7fELF")
    (machine.folder / "program").chmod(0o755)
    loaded = machine.write("base: scratch\nfiles: [{from: program, to: /program}]")
    machine.lock(loaded)
    baked = machine.bake(loaded)
    assert [step.step for step in baked.steps] == ["user", "files"]
    assert baked.image.created == 1_577_836_800 and baked.image.size_bytes < 1000
    loaded = machine.write("base: scratch\nrun: ['true']")
    with pytest.raises(StepFailed, match="there is no /bin/sh in the image"):
        machine.bake(loaded)
