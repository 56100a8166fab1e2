"""The same service on every provider, for one contract. ``BENCHES`` says which providers there are."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from tiny_world import TinyWorld, wait_until

from instar.errors import InstarError
from instar.model.definition import Health, Service, Stop
from instar.model.doors import Door
from instar.model.environment import Settings
from instar.model.image import Image
from instar.model.release import EnvironmentId, Release
from instar.providers.base import NetworkPlan, Provider
from instar.providers.local.package import LOCAL
from instar.providers.local.router import LocalRouter
from instar.providers.machine import MachineProvider
from instar.providers.package import ProviderPackage
from instar.workspace import MachineWorkspace
from simulated import Behaviour, EngineSimulation, Simulation
from simulated.values import image as simulated_image

T = TypeVar("T")
SERVE = "mkdir /tmp/www; echo well >/tmp/www/index.html; echo serving; exec httpd -f -p 8080 -h /tmp/www"
SERVICE = Service(
    command=("sh", "-c", SERVE),
    port=8080,
    health=Health(kind="http", path="/", timeout_ms=2_000),
    stop=Stop(grace_ms=3_000),
)
SERVE_HERE = "exec python3 -m http.server $PORT --bind $ADDRESS --directory /usr/share/doc/bash"
DEAF = "trap '' TERM"
STUBBORN = 2  # the number of its release
STUBBORN_STOP = Stop(grace_ms=4_000)
TRIAL = Path(__file__).parents[1] / "trial_provider"
_TRIES = 50


class ProviderBench(Protocol):
    """A provider with nothing on it, and what a test needs beside it."""

    @property
    def provider(self) -> Provider: ...

    @property
    def image(self) -> Image: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def with_doors(self) -> Settings | None:
        """The settings with a door of their own for the role "api"; None where the provider has but one door."""

    @property
    def with_uses(self) -> Settings | None:
        """The same, by which both roles are found by name; None where the provider finds none."""

    @property
    def package(self) -> ProviderPackage: ...

    def know(self, environment: EnvironmentId, settings: Settings, *releases: Release) -> None:
        """Have an environment known, and have instances of its ``releases`` reach what they use."""

    @property
    def service(self) -> Service: ...

    @property
    def stubborn(self) -> Service:
        """One that ends only when its grace is over."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds. Fails when that takes too long."""


def patiently(call: Callable[[], T]) -> T:
    """Make a call again when its error says that this makes sense."""
    for _ in range(_TRIES):
        try:
            return call()
        except InstarError as error:
            if error.retry_after_s is None:
                raise
    raise AssertionError(f"it was said {_TRIES} times to try again")


class SimulatedBench:
    service = SERVICE
    stubborn = dataclasses.replace(SERVICE, stop=STUBBORN_STOP)
    settings = Settings(listen=("127.0.0.1:8080",), instances=3)
    with_doors = with_uses = dataclasses.replace(settings, doors={"api": Door(listen=("127.0.0.1:8081",))})
    package = LOCAL

    def know(self, environment: EnvironmentId, settings: Settings, *releases: Release) -> None:
        """There is nobody to be told."""

    def __init__(self, simulation: Simulation | EngineSimulation) -> None:
        self._simulation = simulation
        self.provider = simulation.provider
        self.image = simulated_image()
        simulation.runtime.behave(STUBBORN, Behaviour(ends_after_s=1e6))

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            self._simulation.clock.sleep(0.5)
        raise AssertionError("it never came about")


class LocalBench:
    package = LOCAL
    service = SERVICE
    stubborn = dataclasses.replace(SERVICE, command=("sh", "-c", f"{DEAF}; {SERVE}"), stop=STUBBORN_STOP)

    def __init__(self, home: Path) -> None:
        self._world = TinyWorld(home)
        self.image = self._world.image
        router = LocalRouter(self._world.state, self._world.id)
        self.provider: Provider = MachineProvider(runtime=self._world.runtime, router=router)
        self.settings = _settings()
        self.with_doors = dataclasses.replace(self.settings, doors={"api": Door(listen=_settings().listen)})
        self.with_uses = dataclasses.replace(
            self.settings, listen=(), internal=True, doors={"api": Door(internal=True)}
        )

    def know(self, environment: EnvironmentId, settings: Settings, *releases: Release) -> None:
        assert self.provider.networks is not None
        if releases:
            self.provider.networks.set_network(NetworkPlan.of(environment, settings, releases))

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition)

    def close(self) -> None:
        self._world.close()


class TrialBench:
    """A provider that is none of Instar's: found by its entry point, as an installed one is."""

    service = dataclasses.replace(SERVICE, command=("sh", "-c", SERVE_HERE))
    stubborn = dataclasses.replace(SERVICE, command=("sh", "-c", f"{DEAF}; {SERVE_HERE}"), stop=STUBBORN_STOP)
    with_doors = with_uses = None

    def __init__(self, home: Path) -> None:
        workspace = MachineWorkspace({"INSTAR_HOME": str(home)}, lambda progress: None)
        self.provider, self.package = workspace.provider("trial"), workspace.provider_package("trial")
        self.image = simulated_image()
        self.settings = dataclasses.replace(_settings(), provider="trial")

    def know(self, environment: EnvironmentId, settings: Settings, *releases: Release) -> None:
        """It finds nobody by name."""

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition)


def _settings() -> Settings:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Settings(listen=(f"127.0.0.1:{free.getsockname()[1]}",), instances=2)


@contextlib.contextmanager
def machine(home: Path) -> Iterator[ProviderBench]:
    yield SimulatedBench(Simulation())


@contextlib.contextmanager
def engine(home: Path) -> Iterator[ProviderBench]:
    yield SimulatedBench(EngineSimulation())


@contextlib.contextmanager
def local(home: Path) -> Iterator[ProviderBench]:
    bench = LocalBench(home)
    try:
        yield bench
    finally:
        bench.close()


@contextlib.contextmanager
def trial(home: Path) -> Iterator[ProviderBench]:
    sys.path.insert(0, str(TRIAL))
    try:
        yield TrialBench(home)
    finally:
        sys.path.remove(str(TRIAL))


@contextlib.contextmanager
def kubernetes(home: Path, *, gateway: bool = True) -> Iterator[ProviderBench]:
    from cluster_bench import ClusterBench

    stubborn = dataclasses.replace(SERVICE, command=("sh", "-c", f"{DEAF}; {SERVE}"), stop=STUBBORN_STOP)
    bench = ClusterBench(home, EnvironmentId(service="port", name="dev"), SERVICE, stubborn, gateway=gateway)
    try:
        yield bench
    finally:
        bench.close()


# what these run are programs, which read, print and end
REAL_BENCHES = [
    pytest.param(trial, id="trial"),
    pytest.param(local, id="local", marks=pytest.mark.root),
    pytest.param(kubernetes, id="kubernetes", marks=pytest.mark.cluster),
]
BENCHES = [
    pytest.param(machine, id="simulated machine"),
    pytest.param(engine, id="simulated engine"),
    *REAL_BENCHES,
]
