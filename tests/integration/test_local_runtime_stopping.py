"""How instances are stopped: told once, given the whole of their grace, waited for by nobody, and then killed."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_world import TinyWorld, wait_until

from instar.host.processes import processes
from instar.model.definition import Stop
from instar.model.release import Instance, Release
from instar.providers.local import record
from instar.waiting import Deadline, until

pytestmark = pytest.mark.root
GRACE_S = 3.0
SOON_S = 3.0  # a call that waits for no grace has returned by then, on a busy machine too


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def swept(world: TinyWorld) -> Iterator[None]:
    yield
    world.sweep()


def stubborn(world: TinyWorld, grace_s: float = GRACE_S) -> tuple[Instance, Release]:
    """Return what says when it is told to end, and ends only when it is killed."""
    script = "trap 'echo told' TERM; echo deaf; while :; do sleep 0.05; done"
    release = world.release(["sh", "-c", script], stop=Stop(grace_ms=round(grace_s * 1000)))
    instance = world.run(release)
    world.printed(instance, "deaf")
    return instance, release


def told(world: TinyWorld, instance: Instance) -> int:
    """Return how often it says that it was told to end."""
    return sum(line.endswith(" told") for line in world.runtime.log_lines(instance.id))


def dies(destroy: Callable[[], object], where: object, call: str) -> None:
    """Have another process destroy, which is killed as it makes the ``call``."""
    child = os.fork()
    if child == 0:
        setattr(where, call, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            destroy()
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_signal_that_comes_with_the_start_is_not_lost(world: TinyWorld) -> None:
    release = world.release(
        ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"], stop=Stop(grace_ms=15_000)
    )
    for serial in range(1, 4):
        instance = world.run(release, serial)
        with ThreadPoolExecutor(1) as threads:
            threads.submit(world.destroy, instance, release).result(timeout=10)


def test_what_does_not_hear_is_killed_after_its_grace(world: TinyWorld) -> None:
    instance, release = stubborn(world, 0.2)
    assert until(lambda: world.runtime.destroy(instance, release), Deadline.after(10)), "its grace is over"
    assert world.traces() == []


def test_a_long_grace_is_not_waited_for_and_is_whole(world: TinyWorld) -> None:
    """What ends only when it is killed is told once, and lives until its grace is over and somebody looks."""
    instance, release = stubborn(world)
    began = time.monotonic()
    assert not world.runtime.destroy(instance, release)
    assert time.monotonic() - began < SOON_S
    assert world.observe(instance).state == "ending"
    world.printed(instance, " told")
    assert not world.another_runtime().destroy(instance, release)
    wait_until(lambda: world.observe(instance).state != "ending")
    assert time.monotonic() - began >= GRACE_S
    assert world.observe(instance).state == "running", "nobody has ended it yet"
    assert told(world, instance) == 1
    assert world.runtime.destroy(instance, release)
    assert world.traces() == []


def test_what_ends_within_its_grace_is_seen_to_have_ended(world: TinyWorld) -> None:
    script = "trap 'echo told; sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    release = world.release(["sh", "-c", script], stop=Stop(grace_ms=60_000))
    instance = world.run(release)
    world.printed(instance, "ready")
    assert not world.runtime.destroy(instance, release)
    assert world.observe(instance).state == "ending"
    assert world.ended(instance).exit_status == 7
    assert world.runtime.destroy(instance, release)
    assert world.traces() == []


def test_where_its_grace_cannot_be_written_down_it_is_waited_for(
    world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    instance, release = stubborn(world, 1.5)
    monkeypatch.setattr(record, "write_stopping", full)
    began = time.monotonic()
    assert world.runtime.destroy(instance, release)
    assert time.monotonic() - began >= 1.5
    assert told(world, instance) == 1
    assert world.traces() == []


def test_who_is_killed_before_a_grace_is_written_down_cuts_none_short(world: TinyWorld) -> None:
    """The signal was sent, and nobody knows: it is sent again, and the grace begins then."""
    instance, release = stubborn(world)
    dies(lambda: world.another_runtime().destroy(instance, release), record, "write_stopping")
    wait_until(lambda: told(world, instance) == 1)
    assert world.observe(instance).state == "running"
    began = time.monotonic()
    assert not world.runtime.destroy(instance, release)
    assert world.observe(instance).state == "ending"
    world.destroy(instance, release)
    assert time.monotonic() - began >= GRACE_S
    assert told(world, instance) == 2
    assert world.traces() == []


def test_who_is_killed_while_an_instance_ends_leaves_it_to_the_next(world: TinyWorld) -> None:
    """Its grace goes on, whole and no longer, and it is told nothing again."""
    instance, release = stubborn(world)
    began = time.monotonic()
    dies(lambda: world.another_runtime().destroy(instance, release), processes, "wait")
    assert world.observe(instance).state == "ending"
    world.destroy(instance, release)
    assert GRACE_S <= time.monotonic() - began < GRACE_S + SOON_S
    assert told(world, instance) == 1
    assert world.traces() == []
