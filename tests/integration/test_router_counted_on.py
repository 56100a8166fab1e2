"""What a router has answered is counted on where one HAProxy follows another, and begins anew after one that was
killed."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from router_world import ENV, Backend, Client, World, free_port, until

from instar.providers.doors import DoorPlan
from instar.providers.router_state import Counters

pytestmark = pytest.mark.root


def replaced(here: World, wait_ms: int) -> None:
    """Have another HAProxy follow the one that runs."""
    before = set(here.haproxies())
    here.router.ensure(here.plan(tunnel_timeout_ms=wait_ms))
    assert set(here.haproxies()) - before


def test_no_request_is_left_out_where_haproxies_follow_one_another_under_load(here: World) -> None:
    here.start("a")
    since = here.router.counters(ENV).since
    assert since is not None
    with here.load() as load:
        for number in range(4):
            replaced(here, 10_000 + number)
            load.wait(30)
    assert load.failures == []
    until(lambda: len(here.haproxies()) == 1)
    until(lambda: here.router.counters(ENV) == Counters(requests=load.served, failed=0))
    assert here.router.counters(ENV).since == since


def test_what_a_retired_haproxy_answers_counts_while_it_does(here: World) -> None:
    backend = here.start("a")[0]
    kept = here.client()
    assert kept.get()[0] == 200
    replaced(here, 10_000)
    assert here.router.counters(ENV) == Counters(requests=1, failed=0)
    backend.failing = True
    assert kept.get()[0] == 500, "over the connection that the retired one has"
    until(lambda: here.router.counters(ENV) == Counters(requests=2, failed=1))
    kept.close()
    until(lambda: len(here.haproxies()) == 1)
    replaced(here, 10_001)
    assert here.router.counters(ENV) == Counters(requests=2, failed=1), "also when it is long gone"


def test_a_request_that_waits_in_a_retired_haproxy_counts_once(here: World) -> None:
    backend = here.backend("a")
    here.router.ensure(here.plan(wait_ms=20_000))
    with ThreadPoolExecutor(1) as pool, contextlib.closing(here.client()) as client:
        waiting = pool.submit(client.get)
        until(lambda: here.router.counters(ENV).requests == 1)
        here.router.ensure(here.plan(wait_ms=20_001))
        here.send_to(backend.target)
        assert waiting.result()[0] == 200
    until(lambda: len(here.haproxies()) == 1)
    assert here.router.counters(ENV) == Counters(requests=1, failed=0)


def test_after_a_killed_haproxy_the_counting_begins_anew_and_says_so(here: World) -> None:
    here.start("a")
    assert here.client().get()[0] == 200
    replaced(here, 10_000)
    since = here.router.counters(ENV).since
    until(lambda: len(here.haproxies()) == 1)
    (killed,) = here.haproxies()
    until(lambda: _seconds_old(killed) >= 1)  # HAProxy tells its beginning by the second
    os.kill(killed, signal.SIGKILL)
    until(lambda: here.haproxies() not in ([], [killed]))
    until(lambda: here.client().get()[0] == 200)
    found = here.router.counters(ENV)
    assert found.requests == 1 and found.since is not None and since is not None and found.since > since
    replaced(here, 10_001)
    assert here.router.counters(ENV).since == found.since, "and from there on it goes on"


def test_requests_by_a_door_that_is_gone_stay_counted(here: World) -> None:
    address = ("127.0.0.1", free_port())
    door = DoorPlan(
        key=".admin",
        listen=(f"{address[0]}:{address[1]}",),
        protocol="http",
        request_timeout_ms=20_000,
        tunnel_timeout_ms=20_000,
    )
    first = here.backend("a")
    second = Backend("a-admin", first.target.address)
    here.backends.append(second)
    here.router.ensure(here.plan(doors=(door,)))
    target = replace(first.target, ports={".admin": second.target.port})
    here.router.attach(ENV, [target])
    here.router.route(ENV, {target.name: 100})
    client = Client(address)
    assert [client.get()[0] for _ in range(3)] == [200, 200, 200]
    client.close()
    here.router.ensure(here.plan())
    until(lambda: here.router.counters(ENV) == Counters(requests=3, failed=0))


def _seconds_old(pid: int) -> float:
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
