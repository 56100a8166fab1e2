"""``slim``: one layer with what the service needs, the same bytes for ever, started where it was made."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bake_kit import World, deb, writer_program

from instar.bake import Baked, layers_kept
from instar.errors import StepFailed
from instar.model.lock import Lock
from instar.views.bakes import baked_json

pytestmark = pytest.mark.root
GOLDEN = "sha256:fb001dc8ade4b46e2ed83ad5acb5608c8d7b8667d3f807837617e7689b2f4e1d"
LIBC = ("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "one")
    (made.folder / "app").mkdir()
    yield made
    made.close()


def base(world: World) -> Lock:
    """A base with a shell that a service may need, and much that none does."""
    folders = ["./", "bin/", "etc/", "lib/", "lib/x86_64-linux-gnu/", "lib64/", "srv/", "tmp/", "usr/", "usr/bin/"]
    folders += ["usr/share/", "usr/share/doc/"]
    folders += ["usr/share/doc/shell/", "usr/share/zone/", "var/", "var/lib/"]
    files: dict[str, bytes | str | None] = dict.fromkeys(folders)
    files |= {"bin/dash": Path("/usr/bin/dash").read_bytes(), "bin/sh": "dash", "bin/tool": writer_program()}
    files |= {name: Path("/usr", name).read_bytes() for name in LIBC}
    files |= {"usr/share/zone/info": b"zone", "etc/passwd": b"root:x:0:0::/:/bin/sh\n", "etc/conf": b"x=1\n",
              "usr/share/doc/shell/copyright": b"free"}  # fmt: skip
    programs = [name for name in files if name.startswith(("bin/", "lib"))]
    unused = deb("unused", {"usr/": None, "usr/bin/": None, "usr/bin/unused": writer_program()})
    return world.lock(
        [world.package("shell", deb("shell", files, executable=programs)), world.package("unused", unused)],
        bake_format=2,
    )


def bake(world: World, lock: Lock, image: str, command: str, service: str = "") -> Baked:
    from instar.definition import parse

    lines = "".join(f"  {line}\n" for line in image.strip("\n").splitlines())
    where = "environments:\n  dev: {listen: 127.0.0.1:8080}\n" if "port:" in service else "environments:\n  dev: {}\n"
    text = f"name: tiny\nimage:\n  base: debian:test\n{lines}service:\n  command: {command}\n{service}{where}"
    return world.bake(parse(text, str(world.folder / "instar.yaml")), lock)


def held(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


def said(world: World) -> str:
    return "\n".join(one.text for one in world.said)


def test_a_static_program_leaves_nothing_but_itself(world: World) -> None:
    (world.folder / "app/server").write_bytes(writer_program())
    (world.folder / "app/server").chmod(0o755)
    baked = bake(world, base(world), "files: [{from: app, to: /app}]\nslim: true", "[/app/server, a, b]")
    assert len(baked.image.layers) == 1 and [step.step for step in baked.steps][-1] == "slim"
    assert baked.image.layers[0] == baked.steps[-1].layer
    with world.mounted(baked.image) as root:
        accounts = {"etc/group", "etc/gshadow", "etc/passwd", "etc/shadow"}
        notes = {"usr/share/doc/shell/copyright", "var/lib/dpkg/status"}  # of the package that has /etc/passwd
        assert held(root) == {"app/server", *accounts, *notes, "bin", "lib", "lib64", "sbin"}
    assert "it starts with what is left" in said(world)
    listed = (world.state.steps / "left-out/tiny.txt").read_text().splitlines()
    assert "/usr/bin/dash" in listed and "/usr/bin/unused" in listed and "/app/server" not in listed
    told = baked_json(baked)["left_out"]
    assert told["list"] == str(world.state.steps / "left-out/tiny.txt") and 1 < told["files"] <= len(listed)
    again = bake(world, base(world), "files: [{from: app, to: /app}]\nslim: true", "[/app/server, a, b]")
    assert all(step.cached for step in again.steps) and baked_json(again)["left_out"] == told
    assert not world.work_left()


def test_it_is_the_same_for_ever(world: World) -> None:
    (world.folder / "app/server").write_bytes(writer_program())
    (world.folder / "app/server").chmod(0o755)
    packages = [world.package("tiny", deb("tiny", {"./": None, "bin/": None, "bin/sh": writer_program(), "etc/": None,
        "etc/passwd": b"root:x:0:0::/:/bin/sh\n", "usr/": None, "usr/x": b"x", "lib64/": None},
        executable=["bin/sh"]))]  # fmt: skip
    lock = world.lock(packages, bake_format=2)
    baked = bake(world, lock, "files: [{from: app, to: /app}]\nslim: {keep: [/usr/x]}", "[./server, a, b]",
                 "  workdir: /app\n")  # fmt: skip
    assert baked.image.digest == GOLDEN


def test_a_script_keeps_its_shell_and_the_programs_that_it_names(world: World) -> None:
    (world.folder / "app/start").write_text("#!/bin/sh\nset -e\ntool to work\n")
    (world.folder / "app/start").chmod(0o755)
    image = "files: [{from: app, to: /app}]\nslim: {keep: [/usr/share/zone]}"
    baked = bake(world, base(world), image, "[/app/start]")
    with world.mounted(baked.image) as root:
        kept = held(root)
        programs = {"usr/bin/dash", "usr/bin/sh", "usr/bin/tool"}
        assert {*programs, *(f"usr/{name}" for name in LIBC), "usr/share/zone/info"} <= kept
        assert kept.isdisjoint({"usr/bin/unused", "etc/conf"})
        assert "usr/share/doc/shell/copyright" in kept
        assert root.joinpath("bin/sh").readlink() == Path("dash")
        status = (root / "var/lib/dpkg/status").read_text()
    assert "Package: shell\n" in status and "unused" not in status


def test_a_step_before_it_is_cached_and_it_is_too(world: World) -> None:
    lock = base(world)
    first = bake(world, lock, "slim: true", "[/bin/tool, a, b]")
    again = bake(world, lock, "slim: true", "[/bin/tool, a, b]")
    assert again.image == first.image and all(step.cached for step in again.steps)
    other = bake(world, lock, "slim: true", "[/bin/sh, -c, tool a b]")
    assert [step.cached for step in other.steps] == [True] * (len(other.steps) - 1) + [False]
    assert other.image.digest != first.image.digest
    beneath = {step.layer.digest for step in other.steps[:-1]}
    assert layers_kept(world.state.steps, ["tiny"]) == beneath, "garbage collection would take them"


def test_what_is_opened_by_a_name_nobody_sees_fails_the_bake(world: World) -> None:
    (world.folder / "app/start").write_text("#!/bin/sh\na=etc; b=conf; . /$a/$b; exit 0\n")
    (world.folder / "app/start").chmod(0o755)
    files, lock = "files: [{from: app, to: /app}]\n", base(world)
    with pytest.raises(StepFailed, match="where only what it needs is left, and runs with everything") as caught:
        bake(world, lock, files + "slim: true", "[/app/start]")
    assert "cannot open /etc/conf" in (caught.value.output or "") and "slim.keep" in (caught.value.hint or "")
    assert not world.work_left()
    bake(world, lock, files + "slim: {keep: [/etc/conf]}", "[/app/start]")


def test_a_service_that_cannot_be_tried_here_is_baked_and_it_is_said(world: World) -> None:
    bake(world, base(world), "slim: true", "[/bin/sh, -c, 'echo no database; exit 3']")
    assert "could not be tried: here it ends with everything too, and says: no database" in said(world)


def test_a_service_that_fills_its_folder_to_the_bottom_leaves_nothing(world: World) -> None:
    """It makes 1,500 folders, each in the one before, which Python's own way to remove a tree ends at."""
    code = bytes.fromhex(
        "41bcdc050000"  # mov r12d, 1500
        "488d3d28000000 beed010000 b853000000 0f05"  # mkdir("d", 0755)
        "488d3d15000000 b850000000 0f05"  # chdir("d")
        "41ffcc 75da"  # once less
        "31ff b83c000000 0f05 6400"  # exit(0); "d"
    )
    (world.folder / "app/server").write_bytes(writer_program()[: 64 + 56] + code)
    (world.folder / "app/server").chmod(0o755)
    baked = bake(world, base(world), "files: [{from: app, to: /app}]\nslim: true", "[/app/server]")
    assert "it starts with what is left" in said(world)
    with world.mounted(baked.image) as root:
        assert not (root / "d").exists()
    assert not world.work_left()


def test_tools_go_where_nothing_that_stays_needs_them(world: World) -> None:
    (world.folder / "app/server").write_bytes(writer_program())
    (world.folder / "app/start").write_text("#!/bin/sh\ntool to work\n")
    for name in ("server", "start"):
        (world.folder / "app" / name).chmod(0o755)
    folders = dict.fromkeys(("./", "bin/", "usr/", "usr/share/", "etc/", "etc/apt/", "etc/skel/"))
    apt = deb("apt", {**folders, "bin/apt": writer_program(), "etc/apt/sources.list": b"deb\n"})
    dash = deb("dash", {**folders, "bin/dash": Path("/usr/bin/dash").read_bytes(), "bin/sh": "dash",
                        **{name: Path("/usr", name).read_bytes() for name in LIBC},
                        "etc/skel/x": b"x"}, executable=["bin/dash", *LIBC])  # fmt: skip
    rest = deb("rest", {**folders, "bin/tool": writer_program(), "usr/x": b"x"}, executable=["bin/tool"])
    lock = world.lock([world.package(*one) for one in (("apt", apt), ("dash", dash), ("rest", rest))], bake_format=2)
    files = "files: [{from: app, to: /app}]\n"
    tools = {"usr/bin/apt", "etc/apt/sources.list", "etc/skel/x", "usr/bin/dash", "usr/bin/sh"}
    baked = bake(world, lock, f"{files}strip: [apt, shell]", "[/app/server, a, b]")
    with world.mounted(baked.image) as root:
        assert held(root).isdisjoint(tools) and {"usr/x", "usr/bin/tool", "app/server"} <= held(root)
        assert "Package: rest\n" in (root / "var/lib/dpkg/status").read_text()
    needed = bake(world, lock, f"{files}strip: [apt, shell]", "[/app/start]")
    with world.mounted(needed.image) as root:
        assert held(root) & tools == {"usr/bin/dash", "usr/bin/sh"}


@pytest.mark.parametrize(
    ("image", "command", "cause"),
    [
        ("slim: true", "[nothing]", "'nothing' is not in the image, in no folder of PATH"),
        ("slim: {keep: [/no/such]}", "[/bin/tool, a, b]", "there is no '/no/such' in the image"),
    ],
)
def test_what_is_not_there_is_said(world: World, image: str, command: str, cause: str) -> None:
    with pytest.raises(StepFailed, match=cause) as caught:
        bake(world, base(world), image, command)
    assert caught.value.place and caught.value.place.startswith(str(world.folder / "instar.yaml"))


def test_a_program_of_this_machine_listens_with_the_libraries_that_it_names(world: World, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    source = tmp_path / "server.c"
    source.write_text(
        "#include <arpa/inet.h>\n#include <math.h>\n#include <stdlib.h>\n#include <sys/socket.h>\n#include <unistd.h>\n"
        "int main(int n, char **w) { struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)};\n"
        "  int s = socket(AF_INET, SOCK_STREAM, 0); if (bind(s, (void *)&a, sizeof a) || listen(s, 9)) return 1;\n"
        "  return sleep(600 + (int)cos(n)); }\n"
    )
    subprocess.run([compiler, "-o", world.folder / "app/server", source, "-lm"], check=True)
    files = {f"lib/x86_64-linux-gnu/{name}": Path(f"/usr/lib/x86_64-linux-gnu/{name}").read_bytes()
             for name in ("libm.so.6", "libz.so.1")}  # fmt: skip
    more = deb("more", {"lib/": None, "lib/x86_64-linux-gnu/": None, **files})
    lock = base(world)
    lock = world.lock([*lock.packages, world.package("more", more)], bake_format=2)
    baked = bake(world, lock, "files: [{from: app, to: /app}]\nslim: true", "[/app/server]", "  port: 8080\n")
    assert "listens on port 8080" in said(world)
    with world.mounted(baked.image) as root:
        assert held(root) >= {"app/server", *(f"usr/{name}" for name in (*LIBC, "lib/x86_64-linux-gnu/libm.so.6"))}
        assert not os.path.lexists(root / "usr/lib/x86_64-linux-gnu/libz.so.1")
        assert stat.S_IMODE((root / "app/server").stat().st_mode) == 0o755
