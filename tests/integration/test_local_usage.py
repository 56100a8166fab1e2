"""What real instances use: read from their groups and links, and nothing of what does not run."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tiny_world import TinyWorld, wait_until

from instar.host.kernel import cgroups
from instar.model.definition import Limits, Stop
from instar.model.release import Instance
from instar.model.usage import Usage

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=1_000)
LIMITS = Limits(memory_bytes=64 << 20)
MIB = 1 << 20


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


def measured(world: TinyWorld, *instances: Instance) -> dict[str, Usage]:
    members = world.runtime.measure(instances[0].environment, instances).members
    assert all(one.name == one.group for one in members)
    return {one.name: one.usage for one in members}


def number(value: int | None) -> int:
    assert value is not None
    return value


def test_each_has_its_own_and_one_that_ended_has_none(world: TinyWorld) -> None:
    idle, busy = (
        world.release(["sleep", "1000"], stop=QUICK),
        world.release(["sh", "-c", "sleep 1000 & while :; do :; done"], stop=QUICK, limits=LIMITS),
    )
    first, second = world.run(idle, 1), world.run(busy, 2)
    planned = world.instance(idle, 3)
    wait_until(lambda: number(measured(world, second)[second.id].processor_us) > 300_000)
    found = measured(world, first, second, planned)
    assert set(found) == {first.id, second.id}
    assert found[second.id].limit_bytes == LIMITS.memory_bytes
    assert 0 <= number(found[first.id].processor_us) < number(found[second.id].processor_us)
    wait_until(lambda: measured(world, second)[second.id].processes == 3)  # its init, sh and sleep
    assert measured(world, first)[first.id].processes == 2
    world.destroy(second, busy)
    assert set(measured(world, first, second)) == {first.id}
    world.destroy(first, idle)
    assert measured(world, first, second) == {}


def test_one_that_was_made_and_not_begun_has_figures(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.instance(release)
    world.runtime.create(instance, release, world.image)
    assert number(measured(world, instance)[instance.id].memory_bytes) > 0
    world.destroy(instance, release)


def test_what_was_sent_and_received_is_told_apart(world: TinyWorld) -> None:
    """The instance takes a megabyte and answers a few bytes."""
    release = world.release(["sh", "-c", "nc -l -p 8080 >/dev/null; exec sleep 1000"], port=8080, stop=QUICK)
    instance = world.run(release)

    def sent() -> bool:
        try:
            with socket.create_connection((world.address(instance), 8080), timeout=2) as connection:
                connection.sendall(bytes(MIB))
            return True
        except OSError:
            return False

    wait_until(lambda: world.observe(instance).state == "running")
    wait_until(sent)
    wait_until(lambda: number(measured(world, instance)[instance.id].received_bytes) >= MIB)
    found = measured(world, instance)[instance.id]
    assert number(found.sent_bytes) < MIB // 4
    world.destroy(instance, release)


def test_cache_of_files_is_told_apart_from_what_is_in_use(world: TinyWorld) -> None:
    """What is written to a file on a disk is cache soon; what is in /tmp is memory, which can't be given back."""
    script = "dd if=/dev/zero of=/tmp/held bs=1024k count=16 2>/dev/null; echo held; exec sleep 1000"
    release = world.release(["sh", "-c", script], stop=QUICK, limits=LIMITS)
    instance = world.run(release)
    world.printed(instance, "held")
    wait_until(lambda: number(measured(world, instance)[instance.id].memory_bytes) >= 16 * MIB)
    found = measured(world, instance)[instance.id]
    assert number(found.cache_bytes) < 16 * MIB
    assert number(found.memory_bytes) + number(found.cache_bytes) <= LIMITS.memory_bytes
    world.destroy(instance, release)


def test_a_limit_that_somebody_lifted_is_none(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK, limits=LIMITS)
    instance = world.run(release)
    assert measured(world, instance)[instance.id].limit_bytes == LIMITS.memory_bytes
    group = world.names(instance).group
    for hierarchy in cgroups.hierarchies():
        for limits in (("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"), ("memory.max",)):
            for name in limits:
                file = hierarchy.mount / group / name
                if file.exists():
                    file.write_text("max" if name == "memory.max" else "-1")
    assert measured(world, instance)[instance.id].limit_bytes is None
    world.destroy(instance, release)
