"""The same few services on every runtime, for one contract. ``BENCHES`` says which runtimes there are."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import pytest
from tiny_world import TinyWorld, wait_until

from instar.model.configuration import Configuration
from instar.model.definition import Health, Service, Stop, Task
from instar.model.image import Image
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.machine_runtime import Runtime
from simulated import Behaviour, Simulation
from simulated.values import image as simulated_image

ENV = EnvironmentId(service="contract", name="dev")
MISSING = "no-such-command"

Kind = Literal["web", "ill", "worker", "brief", "missing", "tasks"]
# the number of its release
KINDS: dict[Kind, int] = {"web": 1, "ill": 2, "worker": 3, "brief": 4, "missing": 5, "tasks": 6}
HTTP = Health(kind="http", path="/", timeout_ms=2_000)
ALIVE = Health(kind="none")
SERVE = "mkdir /tmp/www; echo well >/tmp/www/index.html; echo serving; exec httpd -f -p 8080 -h /tmp/www"
SERVICES: dict[Kind, Service] = {
    "web": Service(command=("sh", "-c", SERVE), port=8080, health=HTTP, stop=Stop(grace_ms=3_000)),
    "ill": Service(command=("sh", "-c", "exec httpd -f -p 8080 -h /srv"), port=8080, health=HTTP),
    "worker": Service(command=("sleep", "1000"), health=ALIVE),
    "brief": Service(command=("sh", "-c", "echo going; exit 3"), health=ALIVE),
    "missing": Service(command=(MISSING,), health=ALIVE),
    "tasks": Service(
        command=("sh", "-c", SERVE),
        port=8080,
        health=HTTP,
        stop=Stop(grace_ms=3_000),
        before=(
            Task(command=("sh", "-c", "echo migrated")),
            Task(command=("sh", "-c", "echo trying; exit 4")),
            Task(command=("sleep", "1000")),
        ),
        after=(Task(command=(MISSING,)),),
    ),
}
NOT_IN_IMAGE = Behaviour(create_fails=f"command '{MISSING}' is not in the image")
BEHAVIOURS: dict[Kind, Behaviour] = {
    "web": Behaviour(says=("serving",), fails_checks={"/nowhere", "/index.html", "false"}),
    "ill": Behaviour(answers=404),
    "worker": Behaviour(),
    "brief": Behaviour(dies_after_s=0, exit_status=3, says=("going",)),
    "missing": NOT_IN_IMAGE,
    "tasks": Behaviour(says=("serving",)),
}
OF_TASKS = {
    "before 1": Behaviour(says=("migrated",)),
    "before 2": Behaviour(says=("trying",), task_exit_status=4),
    "before 3": Behaviour(task_hangs=True),
    "after 1": NOT_IN_IMAGE,
}


class RuntimeBench(Protocol):
    """A runtime with nothing on it, and what a test needs beside it."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def image(self) -> Image: ...

    def another(self) -> Runtime:
        """Return the runtime that another process of the same state directory would have."""

    def in_another_process(self, work: Callable[[], None]) -> None:
        """Have ``work`` done by a process that has ended when this returns: what it began, nobody is at any more."""

    def first_process(self, instance: Instance) -> object | None:
        """Return what tells its first process from any other; None where it has none."""

    def kill(self, instance: Instance) -> None:
        """End its first process, as an error in it would."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds. Fails when that takes too long."""

    def traces(self) -> Sequence[str]:
        """Name all that is on the machine of instances."""


class SimulatedBench:
    def __init__(self) -> None:
        self._simulation = Simulation()
        self.runtime = self._simulation.runtime
        self.image = simulated_image()
        for kind, number in KINDS.items():
            self.runtime.behave(number, BEHAVIOURS[kind])
        for name, behaviour in OF_TASKS.items():
            self.runtime.behave((KINDS["tasks"], name), behaviour)

    def another(self) -> Runtime:
        return self.runtime  # the machine is in this object

    def in_another_process(self, work: Callable[[], None]) -> None:
        work()

    def first_process(self, instance: Instance) -> object | None:
        return self.runtime.first_process(instance)

    def kill(self, instance: Instance) -> None:
        self.runtime.kill(instance.id)

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._simulation.clock.sleep(60)

    def traces(self) -> Sequence[str]:
        return self.runtime.traces()


class LocalBench:
    def __init__(self, home: Path) -> None:
        self._world = TinyWorld(home)
        self.runtime = self._world.runtime
        self.image = self._world.image

    def another(self) -> Runtime:
        return self._world.another_runtime()

    def in_another_process(self, work: Callable[[], None]) -> None:
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def first_process(self, instance: Instance) -> object | None:
        return self._world.process(instance)

    def kill(self, instance: Instance) -> None:
        process = self._world.process(instance)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition)

    def traces(self) -> Sequence[str]:
        return self._world.traces()

    def close(self) -> None:
        self._world.close()


def simulated(home: Path) -> AbstractContextManager[RuntimeBench]:
    return contextlib.nullcontext(SimulatedBench())


def local(home: Path) -> AbstractContextManager[RuntimeBench]:
    return contextlib.closing(LocalBench(home))


BENCHES = [pytest.param(simulated, id="simulated"), pytest.param(local, id="local", marks=pytest.mark.root)]

_serials = itertools.count(1)


def release(kind: Kind, bench: RuntimeBench) -> Release:
    return Release(
        environment=ENV,
        number=KINDS[kind],
        image=bench.image.digest,
        configuration=Configuration(service=SERVICES[kind]),
        created_at=datetime.now(UTC),
    )


def instance(of: Release, bench: RuntimeBench, task: str | None = None) -> Instance:
    """Return one with a serial that no other has."""
    serial = next(_serials)
    return Instance(
        id=f"{of.environment.service}-{of.environment.name}-{of.number}-{serial}",
        serial=serial,
        environment=of.environment,
        release=of.number,
        created_at=datetime.now(UTC),
        task=task,
    )
