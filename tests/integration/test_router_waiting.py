"""Requests in a gap wait in the router until an instance is there, up to the time that they are given."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import pytest
from router_world import ENV, World, until

from instar.providers.router_state import Counters
from instar.router import waiting

pytestmark = pytest.mark.root

WAIT_MS = 10_000


class Waiting:
    """Requests, each over a connection of its own, and what came of them."""

    def __init__(self, here: World, count: int) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.seconds: list[float] = []
        self._here = here
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        client, began = self._here.client(), time.monotonic()
        try:
            self.answers.append(client.get(keep=False))
        except OSError:
            self.answers.append((0, b""))
        finally:
            self.seconds.append(time.monotonic() - began)
            client.close()


def close(here: World, *names: str) -> None:
    """Take the traffic and the instances away, once they have answered."""
    here.router.route(ENV, {})
    until(lambda: not any(one.sessions for one in here.router.observe(ENV).targets))
    here.router.detach(ENV, names)


def opened(here: World, name: str) -> float:
    """Let another instance have the traffic; return when it got it."""
    here.router.attach(ENV, [here.backend(name).target])
    here.router.route(ENV, {name: 100})
    return time.monotonic()


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_requests_in_the_gap_are_answered_when_it_is_over(here: World, protocol: str) -> None:
    here.start("old", wait_ms=WAIT_MS, protocol=protocol, health_path=None)
    close(here, "old")
    with Waiting(here, 50) as asked:
        time.sleep(1)
        assert asked.answers == []
        moment = opened(here, "new")
    assert asked.answers == [(200, b"new")] * 50
    assert time.monotonic() - moment < WAIT_MS / 1000 - 2
    assert here.router.counters(ENV) == Counters(requests=50, failed=0)


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_a_gap_longer_than_the_time_is_said(here: World, protocol: str) -> None:
    here.start("old", wait_ms=1_000, protocol=protocol, health_path=None)
    close(here, "old")
    with Waiting(here, 5) as asked:
        pass
    assert asked.answers == [(503 if protocol == "http" else 0, asked.answers[0][1])] * 5
    assert all(0.9 < seconds < 8 for seconds in asked.seconds)


def test_requests_over_kept_connections_wait_too(here: World) -> None:
    here.start("old", wait_ms=WAIT_MS)
    with here.load(8) as load:
        for name, before in (("new", "old"), ("newer", "new")):
            close(here, before)
            time.sleep(0.3)
            opened(here, name)
            load.wait(50)
    assert load.failures == []


def test_instances_that_fail_their_checks_are_waited_for(here: World) -> None:
    (only,) = here.start("only", wait_ms=WAIT_MS)
    only.healthy = False
    until(lambda: not here.router.observe(ENV).targets[0].up)
    with Waiting(here, 3) as asked:
        time.sleep(0.3)
        assert asked.answers == []
        only.healthy = True
    assert asked.answers == [(200, b"only")] * 3


def test_a_router_that_is_killed_in_the_gap_lets_what_comes_next_wait(here: World) -> None:
    here.start("old", wait_ms=WAIT_MS)
    close(here, "old")
    with Waiting(here, 4) as lost:
        time.sleep(0.2)
        (before,) = here.haproxies()
        os.kill(before, signal.SIGKILL)
    assert lost.answers == [(0, b"")] * 4  # those in flight, as ever
    with Waiting(here, 20) as asked:
        until(lambda: here.haproxies() not in ([], [before]))
        time.sleep(0.3)
        assert asked.answers == []
        opened(here, "new")
    assert asked.answers == [(200, b"new")] * 20


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_another_plan_in_the_gap_loses_nobody_who_waits(here: World, protocol: str) -> None:
    here.start("old", wait_ms=WAIT_MS, protocol=protocol, health_path=None)
    close(here, "old")
    with Waiting(here, 20) as asked:
        time.sleep(0.3)
        here.router.ensure(here.plan(wait_ms=WAIT_MS, protocol=protocol, health_path=None, request_timeout_ms=15_000))
        time.sleep(0.3)
        assert asked.answers == []
        opened(here, "new")
    assert asked.answers == [(200, b"new")] * 20


def test_who_waited_through_another_plan_is_still_who_asked(here: World) -> None:
    here.start("old", wait_ms=WAIT_MS, accept_proxy=("127.0.0.0/8",))
    close(here, "old")
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(
            b"PROXY TCP4 203.0.113.9 192.0.2.1 1 80\r\nGET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        time.sleep(0.3)
        plan = here.plan(wait_ms=WAIT_MS, accept_proxy=("127.0.0.0/8",), request_timeout_ms=15_000)
        here.router.ensure(plan)
        opened(here, "new")
        answer = client.makefile("rb").read().lower()
    assert b"x-forwarded-for: 203.0.113.9\r\n" in answer


def test_a_script_that_was_changed_is_found_and_put_back(here: World) -> None:
    (old,) = here.start("old", wait_ms=WAIT_MS)
    script = here.directory / waiting.SCRIPT
    assert here.router.inspect(ENV) == ()
    for damage in (lambda: script.write_text("-- nothing\n"), lambda: script.write_bytes(b"\xff"), script.unlink):
        damage()
        assert {one.path.partition(",")[0] for one in here.router.inspect(ENV)} == {waiting.SCRIPT}
        here.router.restore(here.plan(wait_ms=WAIT_MS), [old.target])
        assert here.router.inspect(ENV) == ()
        assert here.client().get() == (200, b"old")
