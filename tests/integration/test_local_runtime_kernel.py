"""What the kernel shows inside: nothing to write to, and the limits where runtimes look for them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from instar.host.kernel import cgroups
from instar.model.definition import Limits, Stop
from instar.model.release import Instance

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=500)
WALKER = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>
static int seen;
static int look(const char *path, const struct stat *st, int kind, struct FTW *at) {
  seen++;
  if (kind == FTW_D || kind == FTW_DP) {
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0) printf("folder %s\\n", path);
  } else if (S_ISREG(st->st_mode)) {
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) { close(fd); printf("file %s\\n", path); }
  }
  return 0; }
int main(void) { nftw("/proc", look, 64, FTW_PHYS); nftw("/sys", look, 64, FTW_PHYS); printf("seen %d\\n", seen); }
"""
# of one's own processes alone: the kernel checks who asks, and lets nobody lower what would matter to others
OWN_PROCESS = re.compile(r"(file|folder) /proc/[0-9]+/.*")


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that walks /proc and /sys and prints what it can open for writing."""
    folder = tmp_path_factory.mktemp("walker")
    (folder / "walk.c").write_text(WALKER)
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", folder / "tree/srv/walk", folder / "walk.c"], check=True)
    return folder / "tree"


def test_nothing_of_the_kernels_is_writable_but_ones_own_processes(world: TinyWorld, walker: Path) -> None:
    """As the image's user, and as root of the instance's own users with every capability there."""
    image = world.image_of(world.home / "tree", walker)
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release, image=image)
    everything = [f"--cap=CAP_{name}" for name in ("SYS_ADMIN", "SYS_RESOURCE", "DAC_OVERRIDE", "NET_ADMIN", "FOWNER")]
    for who in ([], ["--user=0:0", *everything]):
        argv = ["runc", "--root", str(world.state.runc), "exec", *who, instance.id, "/srv/walk"]
        lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        assert int(lines[-1].removeprefix("seen ")) > 1_000, "it has walked"
        assert any("oom_score_adj" in line for line in lines), "it finds what is writable"
        assert [line for line in lines[:-1] if not OWN_PROCESS.fullmatch(line)] == []
    world.destroy(instance, release)


def test_a_layer_that_an_image_has_twice_is_one_of_the_root(world: TinyWorld, tmp_path: Path) -> None:
    """As two lines of a definition leave it that change nothing; with users of its own the instance has copies."""
    (tmp_path / "nothing").mkdir()
    image = world.image_of(world.home / "tree", tmp_path / "nothing", tmp_path / "nothing")
    assert image.layers[-1] == image.layers[-2]
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release, image=image)
    world.destroy(instance, release)


def test_pressure_can_be_read_and_not_written(world: TinyWorld) -> None:
    if not Path("/proc/pressure").is_dir():
        pytest.skip("this kernel tells no pressure")
    lines = world.output("head -n 1 /proc/pressure/cpu; echo some 150000 2000000 >/proc/pressure/cpu")
    assert lines[0].startswith("some avg10=")
    assert "Read-only file system" in lines[1]


def test_limits_are_where_runtimes_look_for_them(world: TinyWorld) -> None:
    """As a JVM, Node, Go and .NET do: the group by /proc/self/cgroup, where it is by mountinfo."""
    limits = Limits(memory_bytes=300 << 20, cpus_milli=1500, pids=77)
    release = world.release(["sh", "-c", "cat /proc/self/cgroup /proc/self/mountinfo; echo end; sleep 1000"],
                            limits=limits, stop=QUICK)  # fmt: skip
    instance = world.run(release)
    world.printed(instance, "end")
    lines = [line.split(" stdout ", 1)[-1] for line in world.runtime.log_lines(instance.id)]
    if cgroups.layout() == "v2":
        folder = _folder(lines, "", "cgroup2")
        assert _read(world, instance, f"{folder}/memory.max") == str(300 << 20)
        assert _read(world, instance, f"{folder}/cpu.max") == "150000 100000"
        assert _read(world, instance, f"{folder}/pids.max") == "79", "the init, and conmon, which counts here"
    else:
        assert _read(world, instance, f"{_folder(lines, 'memory')}/memory.limit_in_bytes") == str(300 << 20)
        assert _read(world, instance, f"{_folder(lines, 'cpu')}/cpu.cfs_quota_us") == "150000"
        assert _read(world, instance, f"{_folder(lines, 'cpu')}/cpu.cfs_period_us") == "100000"
        assert _read(world, instance, f"{_folder(lines, 'pids')}/pids.max") == "78"
        assert _read(world, instance, "/sys/fs/cgroup/memory/memory.limit_in_bytes") == str(300 << 20), "libuv"
        assert int(_read(world, instance, "/sys/fs/cgroup/cpuacct/cpuacct.usage")) > 0
    world.destroy(instance, release)


def _folder(lines: list[str], controller: str, kind: str = "cgroup") -> str:
    """Return where the instance's group of a controller is mounted, found as libcontainer and the JVM find it."""
    groups = [line.split(":", 2) for line in lines if re.match(r"\d+:[^ ]*:/", line)]
    (group,) = [path for _, names, path in groups if controller in names.split(",")]
    mounts = [line.split(" ") for line in lines if f" - {kind} " in line]
    (point, root) = next(
        (fields[4], fields[3]) for fields in mounts if not controller or controller in fields[-1].split(",")
    )
    return point + ("" if group == root else group).rstrip("/")


def _read(world: TinyWorld, instance: Instance, path: str) -> str:
    argv = ["runc", "--root", str(world.state.runc), "exec", instance.id, "cat", path]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
