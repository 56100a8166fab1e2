"""What bake format 2 does that format 1 did not: users of packages, patterns of .gitignore, many small files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, shell_packages, tiny_packages

from instar.bake import Baked
from instar.errors import StepFailed
from instar.model.lock import Package

pytestmark = pytest.mark.root

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nredis:x:101:103::/nonexistent:/bin/false\ntoor:x:0:0::/:\nodd:x:x:1::/:\n"
GROUP = b"root:x:0:\nshadow:x:42:\nredis:x:103:\nstaff:x:50:\nlonely:x:60:\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    (made.folder / "app").mkdir()
    (made.folder / "app/page").write_text("page")
    yield made
    made.close()


def packages(world: World) -> list[Package]:
    """A base in which a package has made users and groups."""
    accounts = deb("accounts", {"etc/": None, "etc/passwd": PASSWD, "etc/group": GROUP})
    return [world.package("accounts", accounts), *tiny_packages(world)]


def bake(world: World, image: str) -> Baked:
    return world.bake(world.load(f"base: debian:test\n{image}"), world.lock(packages(world), bake_format=2))


def refused(world: World, image: str) -> tuple[str, str | None]:
    with pytest.raises(StepFailed) as caught:
        bake(world, image)
    return caught.value.message.removeprefix("cannot bake 'user': "), caught.value.hint


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("redis", "101:103"),
        ("{name: redis, uid: 101}", "101:103"),
        ("{name: redis, gid: 50}", "101:50"),
        ("app", "10001:10001"),
        ("{name: app, uid: 7000}", "7000:7000"),
        ("{name: app, uid: 7000, gid: 50}", "7000:50"),
        ("{name: app, gid: 7001}", "10001:7001"),
        ("lonely", "10001:60"),
    ],
)
def test_a_user_is_the_one_of_the_package_or_a_new_one(world: World, user: str, numbers: str) -> None:
    name = user.strip("{}").removeprefix("name: ").partition(",")[0]
    files = f"files: [{{from: app, to: /srv/app, owner: {name}}}]"
    baked = bake(world, f"user: {user}\n{files}")
    assert baked.image.config.user == numbers
    with world.mounted(baked.image) as root:
        status = (root / "srv/app/page").stat()
        assert f"{status.st_uid}:{status.st_gid}" == numbers
        lines = (root / "etc/passwd").read_text().splitlines()
        own = next(line for line in lines if line.startswith(f"{name}:"))
        assert own.split(":")[2] == numbers.partition(":")[0]
    again = bake(world, f"user: {user}\n{files}")
    assert again.image.digest == baked.image.digest
    assert all(step.cached for step in again.steps)


@pytest.mark.parametrize(
    ("user", "message", "hint"),
    [
        ("{name: redis, uid: 100}", "user 'redis' is there already, with the number 101, not 100",
         "'user: redis' takes it as it is (uid 101, gid 103)"),
        ("{name: redis, gid: 51}", "there is no group with the number 51; the group of user 'redis' is 103",
         "'user: redis' takes the user with its group"),
        ("toor", "user 'toor' is another name of root", "choose another name for image.user"),
        ("{name: app, uid: 101}", "number 101 is user 'redis' already",
         "'user: redis' takes that one; or give image.user another uid"),
        ("{name: app, uid: 50}", "number 50 is group 'staff' already",
         "'gid: 50' makes the user one of it; or give image.user another uid"),
        ("{name: staff, gid: 51}", "group 'staff' is there already, with the number 50",
         "'gid: 50' takes it; or choose another name for image.user"),
    ],
)  # fmt: skip
def test_a_number_that_does_not_fit_is_refused_with_a_way_out(world: World, user: str, message: str, hint: str) -> None:
    assert refused(world, f"user: {user}") == (message, hint)


def test_the_way_out_of_bake_format_1_is_a_new_lock(world: World) -> None:
    with pytest.raises(StepFailed) as caught:
        world.bake(world.load("base: debian:test\nuser: redis"), world.lock(packages(world)))
    assert caught.value.message == "cannot bake 'user': user 'redis' is there already, with the number 101, not 10001"
    assert caught.value.hint == "a lock of bake format 2 takes users that packages make: instar lock"


def test_a_user_who_moves_takes_the_files_along(world: World) -> None:
    first = bake(world, "user: redis\nfiles: [{from: app, to: /srv/app, owner: redis}]")
    moved = deb("accounts", {"etc/": None, "etc/passwd": PASSWD.replace(b"101", b"111"), "etc/group": GROUP})
    lock = world.lock([world.package("accounts", moved), *tiny_packages(world)], bake_format=2)
    loaded = world.load("base: debian:test\nuser: redis\nfiles: [{from: app, to: /srv/app, owner: redis}]")
    second = world.bake(loaded, lock)
    assert (first.image.config.user, second.image.config.user) == ("101:103", "111:103")
    with world.mounted(second.image) as root:
        assert (root / "srv/app/page").stat().st_uid == 111


def test_what_exclude_names_is_not_in_the_image(world: World) -> None:
    (world.folder / "app/secrets").mkdir()
    (world.folder / "app/secrets/key").write_text("secret")
    image = "files: [{from: app, to: /srv/app, exclude: [/secrets]}]"
    with world.mounted(bake(world, image).image) as root:
        assert [path.name for path in (root / "srv/app").iterdir()] == ["page"]
    world.said.clear()
    old = world.bake(world.load(f"base: debian:test\n{image}"), world.lock(packages(world)))
    with world.mounted(old.image) as root:
        assert (root / "srv/app/secrets/key").exists()
    assert [(said.kind, said.text) for said in world.said if "exclude" in said.text] == [
        ("warning", f"{world.folder}/instar.yaml:4:11: 'app/secrets' copied, though 'exclude' reads otherwise: in bake"
         " format 1 its patterns are not those of .gitignore; with format 2 they are: instar lock")
    ]  # fmt: skip


@pytest.mark.parametrize("bake_format", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.thorough
def test_many_small_files_are_no_full_disk(world: World, bake_format: int) -> None:
    for outer in range(20):
        (world.folder / f"app/{outer}").mkdir()
        for inner in range(900):
            (world.folder / f"app/{outer}/{inner}").write_text("x")
    loaded = world.load("base: debian:test\nfiles: [{from: app, to: /srv/app}]")
    baked = world.bake(loaded, world.lock(packages(world), bake_format=bake_format))
    with world.mounted(baked.image) as root:
        assert sum(1 for path in (root / "srv/app").rglob("*") if path.is_file()) == 18_001


DPKG = """#!/bin/sh
echo 'Setting up daemon (1) ...'
echo 'key { secret "drawn"; };' > /etc/bind/rndc.key
"""


def daemon(world: World) -> list[Package]:
    """A base whose dpkg, as a script of the package's does, makes a key."""
    files: dict[str, bytes | str | None] = {"etc/": None, "etc/bind/": None, "usr/": None, "usr/bin/": None}
    data = deb("daemon", files | {"usr/bin/dpkg": DPKG.encode()}, executable=["usr/bin/dpkg"],
               control={"./postinst": b"#!/bin/sh\nrndc-confgen > /etc/bind/rndc.key\n"})  # fmt: skip
    return [world.package("daemon", data), *shell_packages(world)]


def test_no_key_that_a_script_made_is_in_an_image(world: World) -> None:
    loaded = world.load("base: debian:test")
    baked = world.bake(loaded, world.lock(daemon(world), bake_format=2))
    with world.mounted(baked.image) as root:
        assert (root / "etc/bind").is_dir()
        assert not (root / "etc/bind/rndc.key").exists()
    told = "base · left out '/etc/bind/rndc.key': the key of rndc, made by a script of daemon"
    assert told in [said.text for said in world.said]


def test_bake_format_1_refuses_a_key_by_the_name_of_the_package(world: World) -> None:
    with pytest.raises(StepFailed) as caught:
        world.bake(world.load("base: debian:test"), world.lock(daemon(world)))
    assert caught.value.message == (
        "cannot bake 'base': bake format 1 would make '/etc/bind/rndc.key': the key of rndc, made by a script of daemon"
        " a part of the image, the same in every instance"
    )
    assert caught.value.hint == "a lock of bake format 2 leaves it out: instar lock"


def test_a_line_that_leaves_a_private_key_is_told_and_a_failing_one_is_kept(world: World) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0\n" * 3
    (world.folder / "app/pem").write_text(pem)
    lines = (
        'files: [{from: app/pem, to: /srv/pem}]\nrun:\n  - while read -r l; do echo "$l"; done </srv/pem >/srv/a.key'
    )
    world.bake(world.load(f"base: debian:test\n{lines}"), world.lock(shell_packages(world), bake_format=2))
    warnings = [said.text.partition(" · ")[2] for said in world.said if said.kind == "warning"]
    assert warnings == ["'/srv/a.key' is a private key: every instance has the same; make it when the service starts"]

    failing = "run:\n  - i=0; while [ $i != 500 ]; do i=$((i+1)); echo line $i; done; nothing-here"
    with pytest.raises(StepFailed) as caught:
        world.bake(world.load(f"base: debian:test\n{failing}"), world.lock(shell_packages(world), bake_format=2))
    assert "nothing-here: not found" in caught.value.output.splitlines()[-1]
    assert len(caught.value.output.splitlines()) == 20
    kept = Path(str(caught.value.hint).removeprefix("all that it printed is kept: "))
    assert kept.parent == world.state.steps / "failed"
    assert len(kept.read_text().splitlines()) == 501


@pytest.mark.parametrize("bake_format", [1, 2])
@pytest.mark.parametrize(("length", "fits"), [(254, True), (255, False)])
def test_a_name_that_no_instance_could_show_is_refused(world: World, length: int, fits: bool, bake_format: int) -> None:
    (world.folder / "app" / ("n" * length)).touch()
    loaded = world.load("base: debian:test\nfiles: [{from: app, to: /srv/app}]")
    lock = world.lock(packages(world), bake_format=bake_format)
    if fits:
        with world.mounted(world.bake(loaded, lock).image) as root:
            assert (root / "srv/app" / ("n" * length)).exists()
        return
    with pytest.raises(StepFailed, match="its name has 255 bytes, and the file system of instances takes 254"):
        world.bake(loaded, lock)
