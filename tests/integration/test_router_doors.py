"""A router with several doors: each port has its own, and all move together, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from router_world import ENV, Backend, Client, Load, World, free_port, until

from instar.model.host_names import HostNames
from instar.providers.doors import DoorPlan
from instar.providers.local import proxy
from instar.providers.router_state import Target
from instar.router import admin_socket, listener

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

    def start(self, *names: str, plan: Mapping[str, object] = {}, **changes: object) -> None:
        self.here.router.ensure(self.here.plan(**plan, doors=(self.door(**changes),)))
        self.here.router.attach(ENV, [self.target(name) for name in names])
        self.here.router.route(ENV, {names[0]: 100})

    def answers(self) -> tuple[str, str]:
        found = []
        for address in (self.here.address, self.admin):
            client = Client(address)
            found.append(client.get()[1].decode())
            client.close()
        return found[0], found[1]

    def by_name(self, name: str, headers: str = "") -> bytes:
        """Return what is answered to a request that the edge passes on, by the name."""
        folder = os.open(proxy.Proxy(self.here.state, self.here.id, ENV).door, os.O_PATH)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as one, contextlib.ExitStack() as opened:
            opened.callback(os.close, folder)
            one.settimeout(20)
            one.connect(f"/proc/self/fd/{folder}/{listener.DOOR}")  # its whole path may be too long for a socket's
            one.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
            one.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n{headers}\r\n".encode())
            answer = b"".join(iter(lambda: one.recv(65_536), b""))
        return answer.partition(b"\r\n\r\n")[2]

    def asked(self, address: tuple[str, int], headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
        client = Client(address)
        try:
            return client.get(headers=headers)
        finally:
            client.close()


NAMED = {"names": HostNames(http=("a.test", "admin.a.test")), "sites": ("a.test",)}


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
    (path,) = sockets.glob("*.sock")
    admin_socket.ask(sockets, path.name, ["set server instances:.admin/d2 state ready"])
    admin_socket.ask(sockets, path.name, ["set server instances:.admin/d2 weight 100"])
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


@pytest.mark.parametrize("own_address", [True, False])
def test_who_asks_for_a_release_is_led_by_the_door_that_they_came_by(doors: Doors, own_address: bool) -> None:
    more = {} if own_address else {"listen": ()}
    doors.start("old", "new", plan={**NAMED, "preview": "header"}, sites=("admin.a.test",), **more)
    doors.here.router.preview(ENV, {2: "new"})
    asks = "X-Instar-Release: 2\r\n"
    assert [doors.by_name(name) for name in ("a.test", "admin.a.test")] == [b"old", b"old-admin"]
    assert [doors.by_name(name, asks) for name in ("a.test", "admin.a.test")] == [b"new", b"new-admin"]
    assert doors.by_name("admin.a.test", "X-Instar-Release: 3\r\n") == b"no such release to preview\n"
    assert doors.asked(doors.here.address, {"X-Instar-Release": "2"}) == (200, b"new")
    assert doors.asked(doors.here.address, {"X-Instar-Release": "2@.admin"}) == (200, b"new"), "no door but one's own"
    if own_address:
        assert doors.asked(doors.admin, {"X-Instar-Release": "2"}) == (200, b"new-admin")
        assert doors.asked(doors.admin, {"X-Instar-Release": "7"})[0] == 404
    assert doors.here.router.observe(ENV).previewed == {2: "new"}
    assert doors.here.router.counters(ENV).failed == 0
    assert doors.here.router.inspect(ENV) == ()
    doors.here.router.detach(ENV, ["new"])
    assert doors.by_name("admin.a.test", asks) == b"no such release to preview\n"


def test_a_door_that_comes_later_leads_to_what_is_previewed_too(doors: Doors) -> None:
    here = doors.here
    here.router.ensure(here.plan(preview="header"))
    here.router.attach(ENV, [doors.target("old"), doors.target("new")])
    here.router.route(ENV, {"old": 100})
    here.router.preview(ENV, {2: "new"})
    here.router.ensure(here.plan(preview="header", doors=(doors.door(),)))
    assert doors.asked(doors.admin, {"X-Instar-Release": "2"}) == (200, b"new-admin")
    here.router.ensure(here.plan(preview="header"))
    assert doors.asked(here.address, {"X-Instar-Release": "2@.admin"})[0] == 404


@pytest.mark.parametrize("by", ["address", "name", "name alone"])
@pytest.mark.parametrize("renewed", [True, False])
def test_what_waits_in_a_gap_is_let_in_by_the_door_that_it_came_by(doors: Doors, by: str, renewed: bool) -> None:
    """Also what waits in an HAProxy whose place another has taken since, which sends it through the door again."""
    router, plan = doors.here.router, {**NAMED, "wait_ms": 20_000}
    more: dict[str, object] = {"sites": ("admin.a.test",), "wait_ms": 20_000}
    more |= {"listen": ()} if by == "name alone" else {}
    doors.start("old", plan=plan, **more)
    router.route(ENV, {})
    router.detach(ENV, ["old"])
    with ThreadPoolExecutor(6) as pool:
        ask = (lambda: doors.asked(doors.admin)[1]) if by == "address" else (lambda: doors.by_name("admin.a.test"))
        waiting = [pool.submit(ask) for _ in range(4)] + [pool.submit(doors.by_name, "a.test") for _ in range(2)]
        time.sleep(0.5)
        if renewed:
            router.ensure(doors.here.plan(**{**plan, "request_timeout_ms": 15_000}, doors=(doors.door(**more),)))
            time.sleep(0.3)
        assert not any(one.done() for one in waiting)
        router.attach(ENV, [doors.target("new")])
        router.route(ENV, {"new": 100})
        assert [one.result(20) for one in waiting] == [b"new-admin"] * 4 + [b"new"] * 2
    assert router.counters(ENV).failed == 0
    assert router.inspect(ENV) == ()


def test_bytes_wait_at_their_own_door(doors: Doors) -> None:
    doors.start("old", plan={"wait_ms": 20_000}, protocol="tcp", wait_ms=20_000)
    doors.here.router.route(ENV, {})
    doors.here.router.detach(ENV, ["old"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(doors.asked, doors.admin)
        time.sleep(0.5)
        assert not waiting.done()
        doors.here.router.attach(ENV, [doors.target("new")])
        doors.here.router.route(ENV, {"new": 100})
        assert waiting.result(20) == (200, b"new-admin")


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
