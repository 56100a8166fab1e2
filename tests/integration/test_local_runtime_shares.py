"""What one instance uses up is its own: what the kernel counts by user, and what is done for it outside."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import TinyWorld, wait_until

from instar.host.isolation import conmon, runc
from instar.host.kernel import cgroups
from instar.host.processes import rlimits
from instar.model.definition import Limits, Stop
from instar.model.release import Instance
from instar.providers.base import Subject
from instar.providers.local.names import InstanceNames, Names

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=500)
GREEDY = """
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>
int main(void) {
  int n = 0; char name[32]; sigset_t all; union sigval v = {0};
  while (n < 5000 && inotify_init1(0) >= 0) n++;
  printf("inotify %d\\n", n);
  struct mq_attr large = {.mq_maxmsg = 10, .mq_msgsize = 8192};
  for (n = 0; n < 200; n++) { sprintf(name, "/q%d", n); if (mq_open(name, O_CREAT | O_RDWR, 0600, &large) < 0) break; }
  printf("queues %d\\n", n);
  sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0);
  for (n = 0; n < 1000000 && sigqueue(getpid(), SIGRTMIN, v) == 0; n++);
  printf("signals %d\\ndone\\n", n); fflush(stdout);
  sigemptyset(&all); sigaddset(&all, SIGTERM); sigwaitinfo(&all, 0); return 0; }
"""


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that takes all that it is given of what the kernel counts by user, and keeps it."""
    folder = tmp_path_factory.mktemp("greedy")
    (folder / "greedy.c").write_text(GREEDY)
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", folder / "tree/srv/greedy", folder / "greedy.c", "-lrt"], check=True)
    return folder / "tree"


def test_an_instance_that_takes_all_takes_nothing_from_others(world: TinyWorld, greedy: Path) -> None:
    image = world.image_of(world.home / "tree", greedy)
    release = world.release(["/srv/greedy"], stop=QUICK, limits=Limits(memory_bytes=256 << 20))
    first = world.run(release, 1, image)
    world.printed(first, "done")
    second = world.run(release, 2, image)
    world.printed(second, "done")
    taken = [_printed(world, instance) for instance in (first, second)]
    assert taken[0] == taken[1], "the one that came second has as much"
    assert taken[0]["inotify"] == int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert taken[0]["queues"] > 5
    assert taken[0]["signals"] == min(16_384, rlimits.of_instance()["SIGPENDING"][1])
    descriptor = ctypes.CDLL(None, use_errno=True).inotify_init1(0)
    assert descriptor >= 0, "root of this machine has its own"
    os.close(descriptor)
    for instance in (first, second):
        world.destroy(instance, release)


def test_limits_are_the_same_whoever_makes_it(world: TinyWorld) -> None:
    """A shell's own limits are not the instance's, nor are they those of a command inside."""
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    limits = _limits(_pid(world, instance))
    wanted = rlimits.of_instance()
    assert limits["Max pending signals"] == wanted["SIGPENDING"]
    assert limits["Max msgqueue size"] == wanted["MSGQUEUE"]
    assert limits["Max open files"] == wanted["NOFILE"]
    assert limits["Max core file size"] == (0, 0)
    assert limits["Max locked memory"] == wanted["MEMLOCK"]
    command = ["cat", "/proc/self/limits"]
    executed = runc.execute(world.state.runc, instance.id, command, scratch=world.home, timeout_s=20)
    assert executed is not None
    inside = _parsed(executed.output)
    assert inside["Max open files"][0] == wanted["NOFILE"][0]
    own = {"Max open files", "Max file locks"}  # the first process carries a mark in the latter
    assert {name: value for name, value in inside.items() if name not in own} == {
        name: value for name, value in limits.items() if name not in own
    }
    made = {"NOFILE": 5000, "SIGPENDING": 900, "STACK": -1}
    lower = runc.execute(world.state.runc, instance.id, command, scratch=world.home, timeout_s=20, limits=made)
    assert lower is not None
    inside = _parsed(lower.output)
    assert (inside["Max open files"], inside["Max pending signals"]) == ((5000, 5000), (900, 900))
    world.destroy(instance, release)


def test_what_is_done_for_it_outside_counts_to_it(world: TinyWorld) -> None:
    """Who prints without end takes conmon's time, and no more than its own limit of it."""
    release = world.release(["sh", "-c", "while :; do echo a long line of nothing; done"], stop=QUICK,
                            limits=Limits(cpus_milli=200))  # fmt: skip
    instance = world.run(release)
    keeper = _keeper(world, instance)
    begun, before = time.monotonic(), _used_s(world, instance)
    assert cgroups.is_keeper(_names(world, instance).group, keeper)
    assert keeper not in cgroups.members(_names(world, instance).group), "it is none of the instance's processes"
    wait_until(lambda: time.monotonic() - begun > 1.0 and _cpu_s(keeper) > 0)
    lasted, used = time.monotonic() - begun, _used_s(world, instance) - before
    assert used < 0.2 * lasted + 0.15, "both together stay below the limit"
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{keeper}").exists())
    world.destroy(instance, release)
    assert world.traces() == []


def test_an_instance_outlives_its_conmon(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    os.kill(_keeper(world, instance), signal.SIGKILL)
    wait_until(lambda: conmon.find_keeper(_names(world, instance).keeping) is None)
    assert world.observe(instance).state == "running"
    world.destroy(instance, release)
    assert world.traces() == []


def test_a_conmon_whose_time_counts_to_others_is_found(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    (subject,) = [Subject(instance=_with_process(world, instance), release=release, image=world.image)]
    assert world.runtime.inspect([subject]) == ()
    for hierarchy in cgroups.hierarchies():
        (hierarchy.mount / f"instar-{world.id}/elsewhere").mkdir(parents=True)
    cgroups.join_keeper(f"instar-{world.id}/elsewhere", _keeper(world, instance))
    (finding,) = world.runtime.inspect([subject])
    assert (finding.kind, finding.path, finding.observed) == ("runtime", "conmon", "it counts to others")
    world.destroy(instance, release)
    cgroups.remove(f"instar-{world.id}/elsewhere")


def _names(world: TinyWorld, instance: Instance) -> InstanceNames:
    return Names(world.state, world.id).instance(instance.id, instance.serial)


def _with_process(world: TinyWorld, instance: Instance) -> Instance:
    return instance


def _keeper(world: TinyWorld, instance: Instance) -> int:
    found = conmon.find_keeper(_names(world, instance).keeping)
    assert found is not None
    return found.pid


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _used_s(world: TinyWorld, instance: Instance) -> float:
    """Return the processor time of the instance's group, what is below it included."""
    for hierarchy in cgroups.hierarchies():
        folder = hierarchy.mount / _names(world, instance).group
        with contextlib.suppress(FileNotFoundError):
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        with contextlib.suppress(FileNotFoundError):
            fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
            if "usage_usec" in fields and hierarchy.counts_time:
                return int(fields["usage_usec"]) / 1e6
    raise AssertionError("nobody counts the instance's time")


def _printed(world: TinyWorld, instance: Instance) -> dict[str, int]:
    lines = [line.split(" ")[2:] for line in world.runtime.log_lines(instance.id)]
    return {words[0]: int(words[1]) for words in lines if len(words) == 2}


def _pid(world: TinyWorld, instance: Instance) -> int:
    wait_until(lambda: world.process(instance) is not None)
    process = world.process(instance)
    assert process is not None
    return process.pid


def _limits(pid: int) -> dict[str, tuple[int, int]]:
    return _parsed(Path(f"/proc/{pid}/limits").read_text())


def _parsed(text: str) -> dict[str, tuple[int, int]]:
    lines = [line for line in text.splitlines() if line.startswith("Max ")]
    return {line[:26].strip(): (_number(line[26:47]), _number(line[47:68])) for line in lines}


def _number(text: str) -> int:
    return -1 if text.strip() == "unlimited" else int(text)
