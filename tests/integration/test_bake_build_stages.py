"""Stages of a build, for real: what the image takes out of them, what it depends on, and what is left of them.

Where a digest here changes, images that are baked from existing locks change too. That takes a new bake format.
"""

from __future__ import annotations

import dataclasses
import io
import os
import platform
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import EPOCH, World, deb, hexadecimal, shell_packages, tiny_packages

from instar.bake import Baked, layers_kept, plan
from instar.bake.checking import baked_elsewhere, differences
from instar.definition import Loaded
from instar.errors import StepFailed
from instar.model.lock import Lock

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden image is for amd64"),
]

GOLDEN = "sha256:71452f408c37e7d7d9ff5332105612ebcb3d95d301b41af4da8e758bad6c6737"
GOLDEN_LAYERS = {
    "build.compile base": "sha256:eec651e89dd797a80d99ba94bce78eb565fd4919d5474e5685027c0ee9bab388",
    "build.compile files": "sha256:37d046f6ce56e11429bfc01c581dc883290d6fddc372cbda05df56aecfbe55bf",
    "build.compile run 1: compile it": "sha256:68a6462b6c1c48e1f373147c53aced733f3c8ba0554b450d0f3df5c9301b03b1",
    "base": "sha256:eec651e89dd797a80d99ba94bce78eb565fd4919d5474e5685027c0ee9bab388",
    "user": "sha256:569eaedba65adcf205f41e704fbc17b3c6ede461d613f5c472e8d55fd7a35e71",
    "files": "sha256:369be01d37c05ce93d86647427337aace9bc4d5534a726a8792171b5bbebdec4",
}
TINY_BUILD = """
compile:
  base: debian:test
  files: [{from: src, to: /out}]
  run: [compile it]
"""
TINY_IMAGE = """
base: debian:test
files:
  - {from: build.compile, path: /out, to: /srv/out, owner: app, exclude: ['*.c']}
  - {from: build.compile, path: /srv/ran, to: /srv/ran, mode: '0600'}
  - {from: app, to: /srv}
"""
BUILD = """
compile:
  base: debian:test
  files: [{from: src, to: /out}]
  env: {WORD: hello}
  run: ['echo "$WORD" > /out/word']
"""
IMAGE = """
base: debian:test
files:
  - {from: app, to: /srv}
  - {from: build.compile, path: /out, to: /srv/out, exclude: ['*.c']}
run: ['read word < /srv/out/word; echo "got $word" > /srv/got']
"""
STAGE = ["build.compile base", "build.compile files", 'build.compile run 1: echo "$WORD" > /out/word']
FILES = ["files", 'run 1: read word < /srv/out/word; echo "got $word" > /srv/got']


def write_author(folder: Path) -> None:
    (folder / "app").mkdir()
    (folder / "app/main").write_text("main")
    (folder / "src/deep/empty").mkdir(parents=True)
    (folder / "src/main.c").write_text("int main;")
    (folder / "src/tool").write_text("#!/bin/sh\n")
    (folder / "src/tool").chmod(0o755)
    (folder / "src/deep/link").symlink_to("../tool")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "one")
    write_author(made.folder)
    yield made
    made.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[World]:
    """Another directory, state, umask and time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        umask = os.umask(0o077)
        made = World(tmp_path / "another place, äh: with a long name")
        write_author(made.folder)
        yield made
        os.umask(umask)
        made.close()
    time.tzset()


def lock(world: World, *stages: str) -> Lock:
    packages = shell_packages(world)
    build = {name: world.lock(packages, bake_format=2) for name in stages or ("compile",)}
    return world.lock(packages, bake_format=2, build=build)


def load(world: World, build: str = BUILD, image: str = IMAGE) -> Loaded:
    return world.load(image, build=build)


def ran(baked: Baked) -> list[str]:
    return [step.step for step in baked.steps if not step.cached]


def in_layers(world: World, baked: Baked) -> set[str]:
    with world.mounted(baked.image) as root:
        return {str(path.relative_to(root)) for path in root.rglob("*")}


def bake_tiny(world: World) -> Baked:
    """Bake with packages that are the same on every machine."""
    packages = tiny_packages(world)
    locked = world.lock(packages, bake_format=2, build={"compile": world.lock(packages, bake_format=2)})
    return world.bake(load(world, TINY_BUILD, TINY_IMAGE), locked)


def test_the_golden_image_is_the_same_for_ever(world: World) -> None:
    baked = bake_tiny(world)
    assert {step.step: step.layer.diff_id for step in baked.steps} == GOLDEN_LAYERS
    assert baked.image.digest == GOLDEN
    assert len(baked.image.layers) == 3


def test_it_is_the_same_under_other_conditions(elsewhere: World) -> None:
    assert bake_tiny(elsewhere).image.digest == GOLDEN


def test_the_image_has_what_is_taken_and_nothing_else_of_the_stage(world: World) -> None:
    baked = world.bake(load(world), lock(world))
    found = in_layers(world, baked)
    assert {name for name in found if name.startswith("srv/")} == {
        "srv/main", "srv/out", "srv/out/deep", "srv/out/deep/empty", "srv/out/deep/link", "srv/out/tool",
        "srv/out/word", "srv/got",
    }  # fmt: skip
    assert not {name for name in found if name.split("/")[0] == "out"}
    with world.mounted(baked.image) as root:
        assert (root / "srv/got").read_text() == "got hello\n"


MODES = {"opt/lib/": 0o700, "opt/lib/one": 0o640, "opt/lib/set": 0o4755, "opt/lib/sticky/": 0o3777}


def with_package(world: World, name: str, data: bytes) -> Lock:
    """A lock whose stage has one more package."""
    locked = lock(world)
    stage = dataclasses.replace(
        locked.build["compile"],
        packages=(*locked.build["compile"].packages, world.package(name, data)),
        requested=dataclasses.replace(locked.requested, packages=("shell", name)),
    )
    return dataclasses.replace(locked, build={"compile": stage})


def linked_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, kind, target in (
            ("b", tarfile.REGTYPE, ""), ("a", tarfile.LNKTYPE, "b"), ("c", tarfile.SYMTYPE, "a"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = kind, target, EPOCH + 1000
            made.addfile(info, io.BytesIO())
    return buffer.getvalue()


def test_modes_and_links_are_kept_and_owners_and_times_are_an_images_own(world: World) -> None:
    files = {name: None if name.endswith("/") else name.encode() for name in ("./", "opt/", *MODES)}
    locked = with_package(world, "modes", deb("modes", files, modes=MODES))
    data = linked_archive()
    world.cache.add([data])
    archive = f"{{url: 'https://example.org/x.tar', sha256: {hexadecimal(data)}, to: /opt/lib/links, unpack: true}}"
    image = (
        "base: debian:test\nuser: app\nfiles:\n"
        "  - {from: build.compile, path: /opt/lib, to: /lib/taken, owner: app}\n"
        "  - {from: build.compile, path: /opt/lib/one, to: /usr/one, mode: '0600'}\n"
        "  - {from: build.compile, path: /opt/lib/links/c, to: /usr/two, owner: '33:34'}\n"
    )
    baked = world.bake(load(world, f"compile:\n  base: debian:test\n  fetch: [{archive}]", image), locked)
    with world.mounted(baked.image) as root:
        taken = root / "lib/taken"
        modes = {path.name: path.lstat().st_mode & 0o7777 for path in (taken, *taken.iterdir())}
        assert modes == {"taken": 0o700, "one": 0o640, "set": 0o755, "sticky": 0o1777, "links": 0o755}
        assert (taken / "links/a").stat().st_ino == (taken / "links/b").stat().st_ino
        assert (taken / "links/a").stat().st_nlink == 2
        assert (taken / "links/c").readlink() == Path("a")
        assert list((taken / "sticky").iterdir()) == []
        owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (taken, *taken.rglob("*"))}
        assert owners == {(10001, 10001)}
        assert ((root / "usr/one").stat().st_mode & 0o7777, (root / "usr/one").stat().st_uid) == (0o600, 0)
        two = (root / "usr/two").lstat()
        assert (two.st_mode, two.st_uid, two.st_gid) == (0o100644, 33, 34)  # the file that the link leads to
        assert all(path.lstat().st_mtime <= EPOCH for path in taken.rglob("*"))


def test_what_keep_names_is_kept_too(world: World) -> None:
    names = {name: None if name.endswith("/") else name.encode() for name in ("./", "opt/", *MODES)}
    files: dict[str, bytes | str | None] = {**names, "opt/lib/out": "/usr/lib"}
    locked = with_package(world, "modes", deb("modes", files, modes=MODES))
    build = "compile:\n  base: debian:test"
    image = (
        "base: debian:test\nfiles:\n"
        "  - {from: build.compile, path: /opt/lib, to: /lib/taken, keep: [setuid, links], owner: '33:33'}\n"
    )
    baked = world.bake(load(world, build, image), locked)
    with world.mounted(baked.image) as root:
        modes = {path.name: path.lstat().st_mode & 0o7777 for path in (root / "lib/taken").iterdir()}
        assert modes == {"one": 0o640, "set": 0o4755, "sticky": 0o3777, "out": 0o777}
        assert (root / "lib/taken/out").readlink() == Path("/usr/lib")
        assert (root / "lib/taken/set").stat().st_uid == 33
    with pytest.raises(StepFailed, match="'/opt/lib/out' of stage 'compile' is a link that leads out"):
        world.bake(load(world, build, image.replace("setuid, links", "setuid")), locked)


def test_what_did_not_change_runs_nothing(world: World) -> None:
    locked = lock(world)
    first = world.bake(load(world), locked)
    assert ran(first) == [*STAGE, "user", *FILES]  # the base is the stage's
    again = world.bake(load(world), locked)
    assert (ran(again), again.image) == ([], first.image)
    assert [step.step for step in again.steps] == ["base", "user", *FILES]  # the stage is not needed


def test_a_file_of_the_image_runs_no_step_of_the_stage(world: World) -> None:
    locked = lock(world)
    world.bake(load(world), locked)
    (world.folder / "app/main").write_text("MAIN")
    assert ran(world.bake(load(world), locked)) == FILES


def test_a_stage_that_comes_to_the_same_runs_nothing_after_it(world: World) -> None:
    locked = lock(world)
    first = world.bake(load(world), locked)
    build = BUILD.replace("""echo "$WORD" >""", """:; echo "$WORD" >""")
    again = world.bake(load(world, build), locked)
    assert ran(again) == [STAGE[2].replace("echo", ":; echo", 1)]
    assert again.image == first.image
    (world.folder / "src/main.c").write_text("int other;")  # left out of what is taken
    assert ran(world.bake(load(world), locked)) == STAGE[1:]


def test_a_stage_that_comes_to_something_else_runs_what_takes_it(world: World) -> None:
    locked = lock(world)
    world.bake(load(world), locked)
    changed = load(world, BUILD.replace("hello", "bye"))
    planned = plan(changed, lock=locked, store=world.store, state=world.state, explained=True)
    assert planned.image is None
    whys = {step.step: step.why for step in planned.steps if step.why}
    assert whys == {
        STAGE[2]: "changed: the variable WORD",
        "files": "what it takes out of 'build.compile' is not known before",
        FILES[1]: "a step before it takes out of a stage what is not known before",
    }
    assert ran(world.bake(changed, locked)) == [STAGE[2], *FILES]
    with world.mounted(world.bake(changed, locked).image) as root:
        assert (root / "srv/got").read_text() == "got bye\n"


def test_a_step_of_the_image_needs_no_stage_that_nothing_new_is_taken_out_of(world: World) -> None:
    """What was taken is remembered, and the layer that has it is there: the stage itself may be gone."""
    locked = lock(world)
    baked = world.bake(load(world), locked)
    world.store.collect({baked.image.digest})
    changed = load(world, image=IMAGE.replace("got $word", "has $word"))
    planned = plan(changed, lock=locked, store=world.store, state=world.state)
    assert [(part.stage, part.needed) for part in planned.parts] == [("compile", False), (None, True)]
    assert ran(world.bake(changed, locked)) == [FILES[1].replace("got $", "has $")]


def test_layers_of_stages_are_kept_with_the_newest_image(world: World) -> None:
    locked = lock(world)
    baked = world.bake(load(world), locked)
    kept = layers_kept(world.state.steps, ["tiny", "other"])
    assert {step.layer.digest for step in baked.steps if step.stage} == kept
    world.store.collect({baked.image.digest} | kept)
    (world.folder / "app/main").write_text("MAIN")
    again = world.bake(load(world), locked)
    assert ran(again) == FILES
    world.store.collect({again.image.digest})
    (world.folder / "app/main").write_text("main")
    assert ran(world.bake(load(world), locked)) == [*STAGE[1:], "files"]  # the line of the image comes to the same
    world.bake(world.load("base: debian:test"), locked)
    assert layers_kept(world.state.steps, ["tiny"]) == frozenset()


TWO = """
first:
  base: debian:test
  run: ['echo 1 > /srv/one']
unused:
  base: debian:test
  files: [{from: gone, to: /x}]
second:
  base: debian:test
  files: [{from: build.first, path: /srv/one, to: /srv/two}]
  run: ['read n < /srv/two; echo "$n 2" > /srv/two']
"""
OF_TWO = "base: debian:test\nfiles: [{from: build.second, path: /srv/two, to: /srv/three}]"


def test_a_stage_takes_from_one_before_it(world: World) -> None:
    locked = lock(world, "first", "second", "unused")
    baked = world.bake(load(world, TWO, OF_TWO), locked)
    with world.mounted(baked.image) as root:
        assert (root / "srv/three").read_text() == "1 2\n"
        assert not (root / "srv/one").exists()
    assert not [step.step for step in baked.steps if step.stage == "unused"]
    again = world.bake(load(world, TWO.replace("echo 1", "echo  1"), OF_TWO), locked)
    assert ran(again) == ["build.first run 1: echo 1 > /srv/one"]
    assert again.image == baked.image


@pytest.mark.parametrize(
    ("path", "to", "cause"),
    [
        ("/out/gone", "/x", "stage 'compile' has no '/out/gone'; in '/out' there is 'deep', 'main.c', 'tool', 'word'"),
        (
            "/none/at/all",
            "/x",
            "stage 'compile' has no '/none/at/all'; in '/' there is 'bin', 'etc', 'lib', 'lib64', 'out' and 5 more",
        ),
        ("/out/tool/x", "/x", "stage 'compile' has no '/out/tool/x'"),
        (
            "/out/deep",
            "/x",
            "'/out/deep/link' of stage 'compile' is a link that leads out of what is taken, to '../tool'; take the"
            " folder that has both, or leave it out with 'exclude'; 'keep: [links]' copies it as it is",
        ),
        ("/srv/machine/hostname", "/x", "stage 'compile' has no '/srv/machine/hostname'"),
        ("/srv/above/hostname", "/x", "stage 'compile' has no '/srv/above/hostname'"),
        ("/out", "/bin/sh", "Not a directory: '/bin/sh'"),
        ("/out/tool", "/etc", "a directory is there: '/etc'"),
    ],
)
def test_what_cannot_be_taken_is_told_with_its_place(world: World, path: str, to: str, cause: str) -> None:
    files = {"./": None, "srv/": None, "srv/machine": "/etc", "srv/above": "../../../../../etc"}
    locked = with_package(world, "links", deb("links", files))
    with pytest.raises(StepFailed) as caught:
        world.bake(
            load(world, image=f"base: debian:test\nfiles: [{{from: build.compile, path: {path}, to: {to}}}]"), locked
        )
    assert caught.value.message.startswith(f"cannot bake 'files': {cause}")
    assert (caught.value.place or "").endswith("instar.yaml:10:11")
    assert world.work_left() == []


def test_an_error_in_a_stage_names_the_stage(world: World) -> None:
    with pytest.raises(StepFailed) as caught:
        world.bake(load(world, BUILD.replace("echo", "echo what; no-such-thing")), lock(world))
    assert caught.value.message.startswith("cannot bake 'build.compile run 1: echo what; no-such-thing")
    assert (caught.value.place or "").endswith("instar.yaml:7:11")
    (world.folder / "src").rename(world.folder / "elsewhere")
    with pytest.raises(StepFailed, match=r"cannot bake 'build\.compile files': 'src' is missing"):
        world.bake(load(world), lock(world))


def test_a_second_bake_is_compared_with_the_stages_of_the_first(world: World) -> None:
    random = 'read -r id < /proc/sys/kernel/random/uuid; echo \\"$id\\" > /srv/id'
    build = f'compile:\n  base: debian:test\n  run: ["echo 1 > /srv/one", "{random}"]'
    image = "base: debian:test\nfiles: [{from: build.compile, path: /srv/one, to: /srv/one}]"
    loaded, locked = load(world, build, image), lock(world)
    world.bake(loaded, locked)
    whole = plan(loaded, lock=locked, store=world.store, state=world.state, whole=True)
    baked = world.bake(loaded, locked, planned=whole)
    assert [step.step for step in baked.steps if step.stage] and ran(baked) == []
    where = {"cache": world.cache, "state": world.state, "report": world.said.append, "bases": world.store}
    with baked_elsewhere(loaded, lock=locked, **where) as (store, again):  # type: ignore[arg-type]
        found = list(differences(world.store, baked, store, again))
    assert [(one.step, one.path) for one in found] == [
        ('build.compile run 2: read -r id < /proc/sys/kernel/random/uuid; echo "$id" > /sr…', "/srv/id")
    ]
    assert again.image == baked.image


def test_an_image_of_nothing_has_what_a_stage_made(world: World) -> None:
    packages = shell_packages(world)
    locked = world.lock((), bake_format=2, build={"compile": world.lock(packages, bake_format=2)})
    locked = dataclasses.replace(locked, suites=(), requested=dataclasses.replace(locked.requested, base="scratch"))
    image = "base: scratch\nfiles: [{from: build.compile, path: /out/word, to: /word, owner: app}]"
    baked = world.bake(load(world, image=image), locked)
    assert {step.step for step in baked.steps if step.stage is None} == {"user", "files"}
    with world.mounted(baked.image) as root:
        assert (root / "word").read_text() == "hello\n"
        assert (root / "word").stat().st_uid == 10001
        assert sorted(path.name for path in root.iterdir()) == ["etc", "word"]
    assert ran(world.bake(load(world, image=image), locked)) == []
