"""Shells in instances of this machine: where the image has none, and where whoever is inside does not want one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld, wait_until

from instar.errors import ComponentMissing, ProviderError
from instar.host.isolation import toolbox
from instar.model.definition import Volume
from instar.model.release import Instance, Release
from instar.model.survey import Difference, differences
from instar.providers.base import Shell, Streams

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path / "home")
    yield made
    made.sweep()
    made.close()


@pytest.fixture
def bare(world: TinyWorld, tmp_path: Path) -> Iterator[tuple[Instance, Release]]:
    """An instance of an image that has one program and no shell."""
    tree = tmp_path / "bare"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/sleep")
    for folder in (tree, tree / "bin"):
        folder.chmod(0o755)
    image = world.image_of(tree)
    release = world.release(["sleep", "1000"])
    yield world.run(release, image=image), release


def run(
    world: TinyWorld, instance: Instance, release: Release, command: str, *, tools: bool = False
) -> tuple[int | None, str, tuple[Difference, ...]]:
    """Run a command with a shell; return its exit status, what it printed, and what differs."""
    shell = world.runtime.open_shell(instance, release, toolbox=tools)
    before = shell.survey()
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        shell.begin(command, Streams(stdin=nothing, stdout=writing, stderr=writing), term="dumb")
        os.close(writing)
        with os.fdopen(reading, "rb") as output:
            said = output.read().decode()
        status = shell.wait()
    finally:
        os.close(nothing)
        shell.close()
    after = shell.survey()
    assert before is not None and after is not None
    return status, said, differences(before, after)


def shown(shell: Shell) -> list[str]:
    """Return the command lines of the instance's processes."""
    found = shell.survey()
    return list(found.processes.values()) if found else []


def test_an_image_without_a_shell_is_looked_into_with_the_toolbox(
    world: TinyWorld, bare: tuple[Instance, Release]
) -> None:
    instance, release = bare
    with pytest.raises(ProviderError, match="'/bin/sh' is not in the image") as caught:
        world.runtime.open_shell(instance, release, toolbox=False)
    assert "--toolbox" in (caught.value.hint or "")
    status, said, different = run(world, instance, release, "id -u; ls /bin; echo x >/tmp/x; exit 4", tools=True)
    assert (status, said) == (4, "10001\nsleep\n")
    assert [one.name for one in different] == ["/tmp/x"]
    boxes = [path.name for path in world.state.toolbox.iterdir()]
    run(world, instance, release, "true", tools=True)
    assert [path.name for path in world.state.toolbox.iterdir()] == boxes, "one copy does for all"


def test_the_toolbox_can_be_run_and_not_written_to_nor_moved(world: TinyWorld, bare: tuple[Instance, Release]) -> None:
    script = (
        "cd /tmp/.instar-toolbox-*; grep -o 'ro,nosuid,nodev,relatime - ' /proc/self/mountinfo | tail -n 1; "
        "touch new; rm busybox; rmdir $PWD; mv $PWD /tmp/elsewhere; chmod 777 $PWD; ls"
    )
    _, said, _ = run(world, *bare, script, tools=True)
    lines = said.splitlines()  # what comes by the one stream and the other has no order
    assert "busybox" in lines
    assert [line.rpartition(": ")[2] for line in lines if "/proc" not in line and ": " in line] == [
        "Read-only file system",
        "Read-only file system",
        "Device or resource busy",
        "Device or resource busy",
        "Read-only file system",
    ]
    assert "ro,nosuid,nodev,relatime - " in lines


def test_a_machine_without_a_static_busybox_says_so(
    world: TinyWorld, bare: tuple[Instance, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "PROGRAM", "no-busybox")
    with pytest.raises(ComponentMissing, match="busybox is not installed"):
        world.runtime.open_shell(*bare, toolbox=True)


def test_an_instance_that_ends_takes_its_shell_and_the_toolbox_along(
    world: TinyWorld, bare: tuple[Instance, Release]
) -> None:
    instance, release = bare
    shell = world.runtime.open_shell(instance, release, toolbox=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    streams = Streams(stdin=nothing, stdout=nothing, stderr=nothing)
    shell.begin("sleep 1234", streams, term="dumb")
    os.close(nothing)
    wait_until(lambda: "sleep 1234" in " ".join(shown(shell)))
    process = world.process(instance)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert shell.wait() == 128 + signal.SIGKILL
    shell.close()
    assert shell.survey() is None
    with pytest.raises(ProviderError, match="it does not run"):
        world.runtime.open_shell(instance, release, toolbox=True)


def test_a_hostile_instance_is_looked_at_all_the_same(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], volumes=(Volume(name="data", path="/srv"),))
    instance = world.run(release)
    way = world.runtime.open_shell(instance, release, toolbox=False)
    wait_until(lambda: "sleep 1000" in shown(way))
    script = (
        "cd /tmp; ln -s / root; ln -s /proc/1/root up; mkdir -p a/b; echo 1 >a/b/c; "
        "touch \"$(printf 'x\\033[2J\\ny')\"; ln -s / /srv/out; echo 22 >/srv/two; "
        "sleep 600 >/dev/null 2>&1 </dev/null & kill $! ; sleep 700 >/dev/null 2>&1 </dev/null &"
    )
    _, _, different = run(world, instance, release, script)
    names = {(one.kind, one.name) for one in different}
    assert names == {
        ("added", "/srv/out"),
        ("added", "/srv/two"),
        ("added", "/tmp/a"),
        ("added", "/tmp/a/b"),
        ("added", "/tmp/a/b/c"),
        ("added", "/tmp/root"),
        ("added", "/tmp/up"),
        ("added", "/tmp/x\ufffd[2J\ufffdy"),
        ("started", "sleep 700"),
    }


def test_what_a_shell_left_in_the_middle_is_ended_with_it(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"])
    instance = world.run(release)
    shell = world.runtime.open_shell(instance, release, toolbox=False)
    nothing = os.open(os.devnull, os.O_RDWR)
    shell.begin("sleep 800 & sleep 900", Streams(stdin=nothing, stdout=nothing, stderr=nothing), term="dumb")
    os.close(nothing)
    wait_until(lambda: "sleep 800" in shown(shell))
    shell.close()
    shell.close()
    assert not [line for line in world.processes() if "sleep 8" in line or "sleep 9" in line]
    assert not list(world.state.instances.glob("*/shell-*"))


def test_one_that_is_closed_before_it_began_leaves_nothing(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"])
    instance = world.run(release)
    for _ in range(5):
        shell = world.runtime.open_shell(instance, release, toolbox=True)
        nothing = os.open(os.devnull, os.O_RDWR)
        shell.begin("sleep 800 & sleep 900", Streams(stdin=nothing, stdout=nothing, stderr=nothing), term="dumb")
        os.close(nothing)
        shell.close()
        assert not [line for line in world.processes() if "sleep 8" in line or "sleep 9" in line]
    assert run(world, instance, release, "ls -a /tmp")[1] == ".\n..\n"
