"""Bake format 2, to the last bit: the definition of format 1's golden image, and what only format 2 has.

Where a digest here changes, images that are baked from existing locks change too. That takes a new bake format.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb
from test_bake_golden import APP, DEFINITION, TOOL, lock, write_app

from instar.bake import Baked

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden image is for amd64"),
]

GOLDEN = "sha256:24f33cd4c3720c0ad3583f843605a941bad2bc70281c7f62911f383439c4e107"
GOLDEN_LAYERS = {
    "base": "sha256:2095c642e6c7baf19f2a808b81f7cbdbf7ecd8f70434edab85028e51346a91db",
    "packages": "sha256:88b21a37421c3ba323dd872149ea71282b98c28a5e130990940bdb07819e7309",
    "python": "sha256:4f9d8a0954f1b35139ee35c815df4b0913e365d88e87bb88b5a5c122f1eec1ec",
    "fetch": "sha256:a9a070bd586c1350c3da14b13b32217e94dbe81393f9d6e9a7472671d2c21940",
    "user": "sha256:afe5c1fb31752ba60b4e2a717a24d04f73897e3be98748b1de151cb2c5900b82",
    "files": "sha256:fe19111f4860c4be1cac9d2f06c41e195e7324a8c37be3ecb691017103e71968",
    "run 1: echo a line of one's own": "sha256:cccef816e0531b6f23e5f1e5623b0598e071640c3b0753e55dc15dc89653da50",
}
ACCOUNTS = {"etc/": None, "etc/passwd": b"root:x:0:0::/:/bin/sh\nredis:x:101:103::/:\n", "etc/group": b"redis:x:103:\n"}
EXCLUDE = "exclude: ['*.py', '/static/*', '!/static/deep/', '!main.py']"


def bake(world: World) -> Baked:
    world.cache.add([TOOL])
    text = DEFINITION.replace("owner: app}", f"owner: redis, {EXCLUDE}}}") + "user: redis\n"
    old = lock(world)
    packages = (*old.packages, world.package("users", deb("users", ACCOUNTS)))
    return world.bake(world.load(text), world.lock(packages, old.wheels, bake_format=2))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "one")
    write_app(made.folder, list(APP))
    yield made
    made.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[World]:
    """Another directory, state, umask, time zone and order of files, on a machine with one processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        patch.setenv("LC_ALL", "C")
        patch.setattr(os, "cpu_count", lambda: 1)
        time.tzset()
        umask = os.umask(0o077)
        made = World(tmp_path / "another place, äh: with a long name")
        write_app(made.folder, list(reversed(APP)))
        yield made
        os.umask(umask)
        made.close()
    time.tzset()


def test_the_golden_image_is_the_same_for_ever(world: World) -> None:
    baked = bake(world)
    assert {step.step: step.layer.diff_id for step in baked.steps} == GOLDEN_LAYERS
    assert baked.image.digest == GOLDEN


def test_it_is_the_same_under_other_conditions(elsewhere: World) -> None:
    assert bake(elsewhere).image.digest == GOLDEN


def test_what_is_in_it(world: World) -> None:
    baked = bake(world)
    assert baked.image.config.user == "101:103"
    assert baked.image.config.labels["io.instar.bake-format"] == "2"
    with world.mounted(baked.image) as root:
        copied = sorted(str(path.relative_to(root / "srv/app")) for path in (root / "srv/app").rglob("*"))
        assert copied == [
            "main.py",
            "näme",
            "static",
            "static/deep",
            "static/deep/er",
            "static/deep/er/file",
            "tool.sh",
        ]
        status = (root / "srv/app/main.py").stat()
        assert (status.st_uid, status.st_gid) == (101, 103)
        assert (root / "srv/ran").read_text() == "exec 2>&1; echo a line of one's own"
