"""Bake format 1, to the last bit: one definition with every kind of step, whose digest must never change.

Where a digest here changes, images that are baked from existing locks change too. That takes a new bake format.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, hexadecimal, tar, wheel, writer_program

from instar.definition import Loaded
from instar.model.lock import Lock

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden image is for amd64"),
]

GOLDEN = "sha256:f4806fe1478cf61890ef4866355992de6dd79c1583f5ed036189806d82e9a49b"
GOLDEN_LAYERS = {
    "base": "sha256:60a0b666798c07953ab40917f46896fdf4f5db38c86b6bb324f6c7798bc4db32",
    "packages": "sha256:6d92f62e4c2bf84879fddec59c82f9c7a7b2703e19682a8c9473dc811ff57ead",
    "python": "sha256:4f9d8a0954f1b35139ee35c815df4b0913e365d88e87bb88b5a5c122f1eec1ec",
    "fetch": "sha256:a9a070bd586c1350c3da14b13b32217e94dbe81393f9d6e9a7472671d2c21940",
    "user": "sha256:569eaedba65adcf205f41e704fbc17b3c6ede461d613f5c472e8d55fd7a35e71",
    "files": "sha256:0b598d3c0d988a8eec6f4103a1b9f0b4fb5fe639591b454c614a8f6a2bf50434",
    "run 1: echo a line of one's own": "sha256:cccef816e0531b6f23e5f1e5623b0598e071640c3b0753e55dc15dc89653da50",
}

TOOL = tar({"tool-1/": None, "tool-1/bin": b"tool\n", "tool-1/link": "bin"}, executable=["tool-1/bin"])
DEFINITION = f"""
base: debian:test
packages: [tiny-extra]
python: requirements.txt
fetch:
  - {{url: "https://example.org/tool.tar", sha256: {hexadecimal(TOOL)}, to: /opt/tool, unpack: true}}
  - {{url: "https://example.org/tool.tar", sha256: {hexadecimal(TOOL)}, to: /opt/tool.tar, mode: "0600"}}
files:
  - {{from: app, to: /srv/app, owner: app}}
  - {{from: app/static/page, to: /etc/page, mode: "0440", owner: "33:34"}}
run:
  - echo a line of one's own
env: {{GREETING: hello}}
"""
APP = {
    "main.py": b"print('hello')\n",
    "static/page": b"<p>",
    "static/deep/er/file": b"",
    "näme": "ü".encode(),
    "tool.sh": b"#!/bin/sh\n",
}


def lock(world: World) -> Lock:
    program = writer_program()
    base = deb(
        "tiny-base",
        {"./": None, "bin/": None, "bin/sh": program, "etc/": None, "etc/conf": b"set\n", "lib64/": None, "srv/": None,
         "usr/": None, "usr/bin/": None, "usr/bin/python3.11": program, "usr/bin/python3": "python3.11", "tmp/": None},
        control={"./postinst": b"#!/bin/sh\n", "./conffiles": b"/etc/conf\n",
                 "./triggers": b"interest-noawait /usr/bin\ninterest ldconfig\n"},
        executable=["bin/sh", "usr/bin/python3.11"],
    )  # fmt: skip
    other = deb("other-base", {"usr/": None, "usr/share/": None, "usr/share/x": b"x"}, extra="Multi-Arch: same\n",
                control={"./preinst": b"#!/bin/sh\n"})  # fmt: skip
    greeter = wheel(
        "greeter",
        {"greeter/__init__.py": b"def main(): ...\n", "greeter-1.data/scripts/hi": b"#!python -s\n1\n",
         "greeter-1.data/data/share/greeting": b"hi", "greeter-1.data/headers/hi.h": b"int hi;"},
        entry_points="[console_scripts]\ngreet = greeter:main\n",
    )  # fmt: skip
    return world.lock(
        [
            world.package("other-base", other),
            world.package("tiny-base", base),
            world.package("tiny-extra", deb("tiny-extra", {"./opt/": None}), step="packages"),
        ],
        [world.wheel("greeter", greeter)],
    )


def write_app(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(APP[name])
    (folder / "app/tool.sh").chmod(0o700)
    (folder / "app/static/again").symlink_to("page")
    (folder / "app/__pycache__").mkdir()
    (folder / "app/__pycache__/x").touch()


def load(world: World) -> Loaded:
    world.cache.add([TOOL])
    return world.load(DEFINITION)


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
    baked = world.bake(load(world), lock(world))
    assert {step.step: step.layer.diff_id for step in baked.steps} == GOLDEN_LAYERS
    assert baked.image.digest == GOLDEN


def test_it_is_the_same_under_other_conditions(elsewhere: World) -> None:
    assert elsewhere.bake(load(elsewhere), lock(elsewhere)).image.digest == GOLDEN


def test_what_is_in_it(world: World) -> None:
    baked = world.bake(load(world), lock(world))
    with world.mounted(baked.image) as root:

        def shown(path: str) -> tuple[str, int, int]:
            status = (root / path).lstat()
            return oct(status.st_mode & 0o7777), status.st_uid, status.st_gid

        assert (root / "bin").readlink() == Path("usr/bin")
        assert shown("srv/app/main.py") == ("0o644", 10001, 10001)
        assert shown("srv/app/tool.sh") == ("0o755", 10001, 10001)
        assert shown("srv/app/static") == ("0o755", 10001, 10001)
        assert shown("srv") == ("0o755", 0, 0)
        assert shown("etc/page") == ("0o440", 33, 34)
        assert (root / "srv/app/static/again").read_bytes() == b"<p>"
        assert not (root / "srv/app/__pycache__").exists()
        assert (root / "opt/tool/tool-1/link").read_bytes() == b"tool\n"
        assert shown("opt/tool/tool-1/bin") == ("0o755", 0, 0)
        assert shown("opt/tool.tar") == ("0o600", 0, 0)
        assert (root / "opt/venv/bin/hi").read_text() == "#!/opt/venv/bin/python -s\n1\n"
        assert (root / "opt/venv/bin/greet").read_text().startswith("#!/opt/venv/bin/python\nimport sys\nfrom greeter")
        assert (root / "opt/venv/bin/python").readlink() == Path("/usr/bin/python3")
        assert (root / "srv/ran").read_text() == "exec 2>&1; echo a line of one's own"
        assert "app:x:10001:10001:" in (root / "etc/passwd").read_text()
        assert not (root / "usr/sbin/policy-rc.d").exists()
        assert not (root / "etc/hosts").exists()
        times = {path.name: path.lstat().st_mtime for path in (root / "srv/app").rglob("*") if path.is_file()}
        assert max(times.values()) <= lock(world).epoch
        assert len(set(times.values())) > 3
    config = baked.image.config
    assert (config.user, config.command, config.workdir) == ("10001:10001", ("/bin/sh",), "/")
    assert config.env["PATH"].startswith("/opt/venv/bin:")
    assert config.env["GREETING"] == "hello"
