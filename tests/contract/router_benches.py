"""Servers, requests and ports for every router, for one contract. ``BENCHES`` says which routers there are."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest
from router_world import Backend, Client, World, free_port, until

from instar.model.release import EnvironmentId
from instar.providers.local.router import LocalRouter
from instar.providers.machine_router import Router
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import Target
from simulated import Behaviour, Simulation
from simulated.values import image, instance, release

ENV = EnvironmentId(service="contract", name="dev")
OTHER = EnvironmentId(service="contract", name="production")


class RouterBench(Protocol):
    """A router with nothing on it, and what a test needs beside it."""

    @property
    def router(self) -> Router: ...

    def another(self) -> Router:
        """Return the router that another process of the same state directory would have."""

    def plan(self, environment: EnvironmentId = ENV) -> RouterPlan:
        """Return a plan with an address that is free (the same for the same place)."""

    def preview_address(self) -> str:
        """Return a free address for a plan's preview, always the same."""

    def server(self, name: str, *, well: bool = True) -> Target:
        """Start a server. One that isn't well answers its health path with an error."""

    def fall(self, name: str) -> None:
        """End a server."""

    def behave(self, name: str, *, fails: bool = False, answers_in_ms: int = 0) -> None:
        """Have a server, which stays well, answer requests so from now on."""

    def ask(self, environment: EnvironmentId = ENV, *, release: int | None = None) -> str | None:
        """Send a request, for ``release`` if it says so; return the name of the server that answers, None when none
        does."""

    def ask_preview(self) -> str | None:
        """Send a request to the preview address of ``ENV``; return who answers as :meth:`ask` does."""

    def ask_in_gap(self) -> Callable[[], str | None]:
        """Send a request that nobody can answer yet; return what waits for its answer, as :meth:`ask` returns it."""

    def begin(self, environment: EnvironmentId = ENV) -> None:
        """Send a request that its server doesn't answer before :meth:`finish`."""

    def finish(self) -> None:
        """Have all requests answered."""

    def occupy(self, plan: RouterPlan) -> contextlib.AbstractContextManager[object]:
        """Have somebody else listen on the plan's address inside: that of its preview, if it has one."""

    def until(self, condition: Callable[[], object]) -> None:
        """Return when ``condition`` holds. Fails when that takes too long."""


class SimulatedBench:
    def __init__(self) -> None:
        self._simulation = Simulation()
        self.router = self._simulation.router
        self._servers = 0

    def another(self) -> Router:
        return self.router  # the machine is in this object

    def plan(self, environment: EnvironmentId = ENV) -> RouterPlan:
        return _plan(environment, 8080 if environment == ENV else 8081)

    def preview_address(self) -> str:
        return "127.0.0.1:8091"

    def server(self, name: str, *, well: bool = True) -> Target:
        self._servers += 1
        of = release(self._servers, environment=ENV)
        one = dataclasses.replace(instance(of=of), id=name, serial=self._servers)
        runtime = self._simulation.runtime
        runtime.behave(name, Behaviour(answers=200 if well else 500))
        runtime.create(one, of, image())
        runtime.start(one)
        assert of.service.port is not None
        return Target(name=name, address=runtime.find_address(one), port=of.service.port)

    def fall(self, name: str) -> None:
        self._simulation.runtime.kill(name)

    def behave(self, name: str, *, fails: bool = False, answers_in_ms: int = 0) -> None:
        self._simulation.runtime.change(name, fails_share=float(fails), answers_in_ms=answers_in_ms)

    def ask(self, environment: EnvironmentId = ENV, *, release: int | None = None) -> str | None:
        return self.router.request(environment, release=release)

    def ask_preview(self) -> str | None:
        return self.router.request_preview(ENV)

    def ask_in_gap(self) -> Callable[[], str | None]:
        assert self.router.request(ENV) is None
        held = self.router.held(ENV)[-1]

        def answered() -> str | None:
            while not held.over:
                self._simulation.clock.sleep(1)
                self.router.counters(ENV)
            return held.answered

        return answered

    def begin(self, environment: EnvironmentId = ENV) -> None:
        assert self.router.request(environment, lasts_s=1_000)

    def finish(self) -> None:
        self._simulation.clock.sleep(1_001)

    @contextlib.contextmanager
    def occupy(self, plan: RouterPlan) -> Iterator[object]:
        addresses = (plan.preview,) if plan.preview else plan.listen
        self.router.taken = dict.fromkeys(addresses, "process 7 (nginx)")
        yield None
        self.router.taken = {}

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._simulation.clock.sleep(1)


class LocalBench:
    def __init__(self, home: Path) -> None:
        self._world = World(home)
        self.router = self._world.router
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:  # two
            self._ports = {ENV: one.getsockname()[1], OTHER: other.getsockname()[1]}
        self._preview_port = free_port()
        self._backends: dict[str, Backend] = {}
        self._asking: list[threading.Thread] = []

    def another(self) -> Router:
        return LocalRouter(self._world.state, self._world.id)

    def plan(self, environment: EnvironmentId = ENV) -> RouterPlan:
        return _plan(environment, self._ports[environment])

    def preview_address(self) -> str:
        return f"127.0.0.1:{self._preview_port}"

    def server(self, name: str, *, well: bool = True) -> Target:
        made = self._backends[name] = self._world.backend(name)
        made.healthy = well
        return made.target

    def fall(self, name: str) -> None:
        self._backends[name].close()

    def behave(self, name: str, *, fails: bool = False, answers_in_ms: int = 0) -> None:
        backend = self._backends[name]
        backend.failing, backend.delay_s = fails, answers_in_ms / 1000

    def ask(self, environment: EnvironmentId = ENV, *, release: int | None = None) -> str | None:
        return self._ask(self._ports[environment], release)

    def ask_preview(self) -> str | None:
        return self._ask(self._preview_port)

    def ask_in_gap(self) -> Callable[[], str | None]:
        answers: list[str | None] = []
        thread = threading.Thread(target=lambda: answers.append(self.ask()), daemon=True)
        before = self.router.counters(ENV).requests
        thread.start()
        until(lambda: self.router.counters(ENV).requests > before)

        def answered() -> str | None:
            thread.join()
            return answers[0]

        return answered

    def begin(self, environment: EnvironmentId = ENV) -> None:
        arrived = self._slow_requests()
        self._asking.append(threading.Thread(target=self._ask_slowly, args=(environment,), daemon=True))
        self._asking[-1].start()
        until(lambda: self._slow_requests() > arrived)

    def finish(self) -> None:
        for backend in self._backends.values():
            backend.release.set()
        for thread in self._asking:
            thread.join()

    def occupy(self, plan: RouterPlan) -> contextlib.AbstractContextManager[object]:
        return socket.create_server(
            ("127.0.0.1", self._preview_port if plan.preview else self._ports[plan.environment])
        )

    def until(self, condition: Callable[[], object]) -> None:
        until(condition)

    def close(self) -> None:
        self.finish()
        self.router.clear_orphans(lambda: ())
        for backend in self._world.backends:
            backend.close()
        assert self._world.processes() == []

    def _ask(self, port: int, release: int | None = None) -> str | None:
        headers = {} if release is None else {"X-Instar-Release": str(release)}
        with contextlib.closing(Client(("127.0.0.1", port))) as client:
            try:
                status, body = client.get(keep=False, headers=headers)
            except OSError:
                return None
        return body.decode() if status == 200 else None

    def _slow_requests(self) -> int:
        return sum(backend.seen["/slow"] for backend in self._backends.values())

    def _ask_slowly(self, environment: EnvironmentId) -> None:
        with (
            contextlib.closing(Client(("127.0.0.1", self._ports[environment]))) as client,
            contextlib.suppress(OSError),  # it may be cut
        ):
            client.get("/slow", keep=False)


def _plan(environment: EnvironmentId, port: int) -> RouterPlan:
    return RouterPlan(
        environment=environment,
        listen=(f"127.0.0.1:{port}",),
        protocol="http",
        request_timeout_ms=20_000,
        tunnel_timeout_ms=20_000,
        health_path="/healthz",
        instances=2,
    )


def simulated(home: Path) -> AbstractContextManager[RouterBench]:
    return contextlib.nullcontext(SimulatedBench())


def local(home: Path) -> AbstractContextManager[RouterBench]:
    return contextlib.closing(LocalBench(home))


BENCHES = [pytest.param(simulated, id="simulated"), pytest.param(local, id="local", marks=pytest.mark.root)]
