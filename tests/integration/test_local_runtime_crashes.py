"""Instar is killed in the middle of things; what it leaves is found and cleared by the next command."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from tiny_world import TinyWorld, wait_until

from instar.host.isolation import conmon
from instar.model.definition import Stop, Volume
from instar.model.release import Instance, Release

pytestmark = pytest.mark.root
POINTS, MOMENTS, FIRST_CALLS = 24, 16, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path_factory.mktemp("home"))
    made.output("true", volumes=_volumes())  # what is made once is made: bridge, plate, mounts
    yield made
    made.close()


def _volumes() -> tuple[Volume, ...]:
    return (Volume(name="data", path="/var/lib/data"),)


def _release(world: TinyWorld) -> Release:
    return world.release(["sleep", "1000"], volumes=_volumes(), stop=Stop(grace_ms=1_000))


def _life(world: TinyWorld, instance: Instance, release: Release) -> None:
    runtime = world.another_runtime()
    runtime.create(instance, release, world.image)
    runtime.start(instance)
    wait_until(lambda: runtime.destroy(instance, release))


def _calls(world: TinyWorld, instance: Instance, release: Release) -> int:
    """Count the calls of Instar's own functions in one life."""
    count = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "/instar/" in frame.f_code.co_filename

    sys.setprofile(see)
    try:
        _life(world, instance, release)
    finally:
        sys.setprofile(None)
    return count


def _die_at(number: int) -> Callable[[FrameType, str, object], None]:
    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal number
        number -= event == "call" and "/instar/" in frame.f_code.co_filename
        if number <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return see


def _in_child(action: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            action()
        finally:
            os._exit(0)
    return child


def _cleared(world: TinyWorld, instance: Instance, release: Release, *, by_destroy: bool) -> None:
    runtime = world.another_runtime()
    if by_destroy:
        wait_until(lambda: runtime.destroy(instance, release))
    else:
        runtime.clear_orphans(lambda: [])
    assert world.traces() == []


def test_killed_at_many_points_of_its_own_code(world: TinyWorld) -> None:
    release = _release(world)
    calls = _calls(world, world.instance(release, 1), release)
    died = 0
    for point in range(POINTS):
        instance = world.instance(release, 2 + point)
        number = 1 + point * calls // POINTS if point >= FIRST_CALLS else 1 + 4 * point

        def die(instance: Instance = instance, number: int = number) -> None:
            sys.setprofile(_die_at(number))
            _life(world, instance, release)

        _, status = os.waitpid(_in_child(die), 0)
        died += os.WIFSIGNALED(status)
        _cleared(world, instance, release, by_destroy=point % 2 == 0)
    assert died > POINTS * 3 // 4  # where it waits, it makes more calls one time than another


def test_killed_at_many_moments(world: TinyWorld) -> None:
    """Also while runc, conmon and the kernel are at work for it."""
    release = _release(world)
    began = time.monotonic()
    _life(world, world.instance(release, 100), release)
    whole = time.monotonic() - began
    for moment in range(MOMENTS):
        instance = world.instance(release, 101 + moment)
        child = _in_child(lambda instance=instance: _life(world, instance, release))  # type: ignore[misc]
        time.sleep(whole * moment / MOMENTS)  # the moment is the test
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _cleared(world, instance, release, by_destroy=moment % 2 == 1)


def test_creation_goes_on_where_it_was_killed(world: TinyWorld) -> None:
    release = _release(world)
    instance = world.instance(release, 200)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def create() -> None:
        conmon.create = die  # type: ignore[assignment]
        world.another_runtime().create(instance, release, world.image)

    os.waitpid(_in_child(create), 0)
    assert (world.state.instances / instance.id).exists()
    assert world.observe(instance).state == "absent"
    world.runtime.create(instance, release, world.image)
    world.runtime.start(instance)
    assert world.observe(instance).state == "running"
    world.destroy(instance, release)
    assert world.traces() == []


def test_what_somebody_else_is_making_is_left_alone(world: TinyWorld) -> None:
    release = _release(world)
    instance = world.run(release, 300)
    child = _in_child(lambda: os._exit(0 if world.another_runtime().clear_orphans(lambda: []) == () else 1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert world.observe(instance).state == "running"
    world.destroy(instance, release)
