"""A router with several doors: each port has its own, and all move together, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from router_world import ENV, Backend, Client, Load, World, free_port, until

from instar.providers.base import Target
from instar.providers.doors import DoorPlan
from instar.providers.local import proxy
from instar.router import admin_socket

pytestmark = pytest.mark.root
KEY = ".admin"


class Doors:
    """A world whose servers have a second port, each with a server of its own there: ``old`` answers "old" at one and
    "old-admin" at the other."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.admin = ("127.0.0.1", free_port())
        self.second: dict[str, Backend] = {}

    def door(self, **changes: object) -> DoorPlan:
        values: dict[str, object] = {
            "key": KEY,
            "listen": (f"{self.admin[0]}:{self.admin[1]}",),
            "protocol": "http",
            "request_timeout_ms": 20_000,
            "tunnel_timeout_ms": 20_000,
        }
        return DoorPlan(**{**values, **changes})  # type: ignore[arg-type]

    def target(self, name: str) -> Target:
        first = self.here.backend(name)
        host = first.target.address
        second = self.second[name] = Backend(f"{name}-admin", host)
        self.here.backends.append(second)
        return replace(first.target, ports={KEY: second.target.port})

    def start(self, *names: str, **changes: object) -> None:
        self.here.router.ensure(self.here.plan(doors=(self.door(**changes),)))
        self.here.router.attach(ENV, [self.target(name) for name in names])
        self.here.router.route(ENV, {names[0]: 100})

    def answers(self) -> tuple[str, str]:
        found = []
        for address in (self.here.address, self.admin):
            client = Client(address)
            found.append(client.get()[1].decode())
            client.close()
        return found[0], found[1]


@pytest.fixture
def doors(here: World) -> Doors:
    return Doors(here)


def test_all_doors_move_together_and_no_request_fails(doors: Doors) -> None:
    doors.start("old", "new")
    router = doors.here.router
    with doors.here.load(4) as load, Load(doors.admin, 4) as other:
        for _ in range(10):
            for name in ("new", "old"):
                router.route(ENV, {name: 100})
                assert doors.answers() == (name, f"{name}-admin")
                load.wait(5)
    assert load.failures == other.failures == []
    counters = router.counters(ENV)
    assert counters.failed == 0
    assert counters.requests == load.served + other.served + 2 * 20
    assert router.inspect(ENV) == ()


def test_a_door_comes_and_goes_under_load(doors: Doors) -> None:
    here, router = doors.here, doors.here.router
    router.ensure(here.plan())
    router.attach(ENV, [doors.target("old")])  # its second port is known before it has a door
    router.route(ENV, {"old": 100})
    with here.load() as load:
        for _ in range(3):
            router.ensure(here.plan(doors=(doors.door(),)))
            assert doors.answers() == ("old", "old-admin")
            with Load(doors.admin, 2) as other:
                other.wait(20)
            assert other.failures == []
            router.ensure(here.plan())
            with pytest.raises(OSError):
                Client(doors.admin).get()
            load.wait(10)
    assert load.failures == []


def test_a_door_of_bytes_beside_one_of_http(doors: Doors) -> None:
    doors.start("old", "new", protocol="tcp")
    assert doors.answers() == ("old", "old-admin")
    doors.here.router.route(ENV, {"new": 100})
    assert doors.answers() == ("new", "new-admin")
    assert doors.here.router.inspect(ENV) == ()


def test_nobody_gets_traffic_whose_second_port_does_not_accept(doors: Doors) -> None:
    doors.start("old")
    target = doors.target("new")
    doors.second["new"].close()
    with pytest.raises(Exception, match=rf"the router's check of {target.address}:{target.ports[KEY]} does not pass"):
        doors.here.router.attach(ENV, [target])
    assert [one.target.name for one in doors.here.router.observe(ENV).targets] == ["old"]
    assert doors.answers() == ("old", "old-admin")


def test_a_server_without_that_port_has_no_part_in_its_door(doors: Doors) -> None:
    doors.start("old")
    doors.here.router.attach(ENV, [doors.here.backend("plain").target])
    doors.here.router.route(ENV, {"plain": 100})
    client = Client(doors.admin)
    assert client.get()[0] == 503
    client.close()
    assert doors.here.client().get()[1] == b"plain"
    doors.here.router.route(ENV, {"old": 100})
    assert doors.answers() == ("old", "old-admin")


def test_requests_in_flight_at_a_second_port_are_waited_for_and_can_be_cut(doors: Doors) -> None:

    doors.start("old", "new")
    statuses: list[int] = []
    thread = threading.Thread(target=_asked, args=(Client(doors.admin), statuses))
    thread.start()
    router = doors.here.router
    until(lambda: doors.second["old"].seen["/slow"])
    router.route(ENV, {"new": 100})
    assert {one.target.name: one.sessions for one in router.observe(ENV).targets} == {"old": 1, "new": 0}
    assert router.detach(ENV, ["old"]) == 1
    thread.join(20)
    assert statuses == [502]


def test_what_is_tampered_with_is_found_and_put_right(doors: Doors) -> None:
    doors.start("old", "new")
    router, plan = doors.here.router, doors.here.plan(doors=(doors.door(),))
    targets = [one.target for one in router.observe(ENV).targets]
    sockets = doors.here.state.router_sockets
    (socket,) = sockets.glob("*.sock")
    admin_socket.ask(sockets, socket.name, ["set server instances:.admin/d2 state ready"])
    admin_socket.ask(sockets, socket.name, ["set server instances:.admin/d2 weight 100"])
    (found,) = router.inspect(ENV)
    assert (found.path, found.observed.endswith("with weight 100")) == ("slot d2 of door .admin (new)", True)
    router.restore(plan, targets)
    assert router.inspect(ENV) == ()
    file = doors.here.directory / "haproxy.cfg"
    text = file.read_text()
    port = targets[0].ports[KEY]
    file.write_text(text.replace(f":{port} weight 100 # old", f":{port + 1} weight 100 # old"))
    assert any(one.path.startswith("haproxy.cfg, line") for one in router.inspect(ENV))
    file.write_text(text.replace(f".admin={port}", f".admin={port + 1}"))
    assert any(one.path.startswith("haproxy.cfg, line") for one in router.inspect(ENV))
    router.restore(plan, targets)
    assert router.inspect(ENV) == ()
    assert file.read_text() == text
    assert doors.answers() == ("old", "old-admin")


def test_all_doors_are_there_after_haproxy_was_killed(doors: Doors) -> None:
    doors.start("old", "new")
    doors.here.router.route(ENV, {"new": 100})
    (running,) = doors.here.haproxies()
    os.kill(running, signal.SIGKILL)
    until(lambda: doors.here.haproxies() not in ([], [running]))
    until(lambda: all(one.up for one in doors.here.router.observe(ENV).targets))
    assert doors.answers() == ("new", "new-admin")
    assert doors.here.router.inspect(ENV) == ()


def test_a_lost_file_loses_no_door(doors: Doors) -> None:
    doors.start("old", "new")
    (doors.here.directory / "haproxy.cfg").unlink()
    plan, known = doors.here.plan(doors=(doors.door(),)), dict[str, Target]()
    for name in ("old", "new"):
        first = next(one for one in doors.here.backends if one.name == name)
        known[name] = replace(first.target, ports={KEY: doors.second[name].target.port})
    with doors.here.load(2) as load, Load(doors.admin, 2) as other:
        doors.here.router.ensure(plan)
        doors.here.router.attach(ENV, list(known.values()))
        load.wait(10)
    assert load.failures == other.failures == []
    assert doors.here.router.inspect(ENV) == ()


class Killed(BaseException):
    """Whoever worked on the router was killed."""


def _points(monkeypatch: pytest.MonkeyPatch, at: int | None) -> Iterator[int]:
    """Yield how often something was done to the router so far; the one numbered ``at`` kills whoever does it."""
    count = 0
    ask, write = proxy.Proxy.ask, proxy.RouterFiles.write

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            raise Killed

    def asking(self: proxy.Proxy, *commands: str) -> tuple[str, ...]:
        answers: list[str] = []
        for command in commands:
            if not command.startswith("show "):
                step()
            answers += ask(self, command)
        return tuple(answers)

    def writing(self: proxy.RouterFiles, *words: object) -> None:
        step()
        write(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(proxy.Proxy, "ask", asking)
    monkeypatch.setattr(proxy.RouterFiles, "write", writing)
    while True:
        yield count


def test_who_moves_the_traffic_is_killed_at_each_step(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    doors.start("old", "new")
    router = doors.here.router
    for name in ("new", "old"):
        router.route(ENV, {name: 100})
    with monkeypatch.context() as patched:
        counted = _points(patched, None)
        next(counted)
        router.route(ENV, {"new": 100})
        steps = next(counted)
    assert steps >= 5  # its file, and two servers of each door
    router.route(ENV, {"old": 100})
    with doors.here.load(3) as load, Load(doors.admin, 3) as other:
        for at in range(1, steps + 1):
            with monkeypatch.context() as patched:
                next(_points(patched, at))
                with pytest.raises(Killed):
                    router.route(ENV, {"new": 100})
            load.wait(5)
            other.wait(5)
            router.route(ENV, {"new": 100})
            assert doors.answers() == ("new", "new-admin")
            assert router.inspect(ENV) == ()
            router.route(ENV, {"old": 100})
    assert load.failures == other.failures == []


def _asked(client: Client, statuses: list[int]) -> None:
    statuses.append(client.get("/slow")[0])
    client.close()
