"""What requests see while the router is changed, replaced and killed: nothing."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from router_world import ENV, World, free_port, until

pytestmark = pytest.mark.root


def test_fifty_switches_fail_no_request_and_take_milliseconds(here: World) -> None:
    here.start("old", "new")
    seconds = []
    with here.load() as load:
        for _ in range(25):
            for name in ("new", "old"):
                seconds.append(here.router.route(ENV, {name: 100}))
                load.wait(10)
    assert load.failures == []
    assert load.answers["old"] > 100
    assert load.answers["new"] > 100
    assert statistics.median(seconds) < 0.010
    assert here.router.counters(ENV).failed == 0
    assert here.router.counters(ENV).requests == load.served


def test_after_a_switch_new_requests_go_to_the_new_one_only(here: World) -> None:
    here.start("old", "new")
    client = here.client()
    assert client.get()[1] == b"old"
    here.router.route(ENV, {"new": 100})
    assert {client.get()[1] for _ in range(10)} == {b"new"}  # the connection that it had is kept
    client.close()


def test_weights_share_requests(here: World) -> None:
    here.start("a", "b", "c")
    here.router.route(ENV, {"a": 30, "b": 10})
    client = here.client()
    answers = [client.get()[1] for _ in range(40)]
    client.close()
    assert (answers.count(b"a"), answers.count(b"b")) == (30, 10)


def test_another_plan_is_put_in_force_under_load(here: World) -> None:
    here.start("old", "new")
    second = free_port()
    plans = [
        here.plan(request_timeout_ms=30_000),
        here.plan(health_path=None),
        here.plan(instances=5),
        here.plan(listen=(f"127.0.0.1:{here.address[1]}", f"[::1]:{second}")),
        here.plan(listen=(f"0.0.0.0:{here.address[1]}",)),
        here.plan(),
    ]
    with here.load() as load:
        for plan in plans:
            before = here.haproxies()
            here.router.ensure(plan)
            assert here.router.observe(ENV).plan == plan
            assert set(here.haproxies()) - set(before), "the same HAProxy still runs"
            load.wait(30)
    assert load.failures == []
    assert [item.weight for item in here.router.observe(ENV).targets] == [100, 0]


def test_requests_in_flight_survive_a_reload_and_are_counted(here: World) -> None:
    old, _ = here.start("old", "new")
    with here.load(1) as load:
        slow = subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{here.address[1]}/slow"], stdout=subprocess.PIPE)
        until(lambda: old.seen["/slow"])
        here.router.ensure(here.plan(request_timeout_ms=30_000))
        here.router.route(ENV, {"new": 100})
        load.wait(5)
        assert {item.target.name: item.sessions for item in here.router.observe(ENV).targets}["old"] == 1
        old.release.set()
        assert slow.communicate()[0] == b"old"
    until(lambda: all(item.sessions == 0 for item in here.router.observe(ENV).targets))
    assert load.failures == []


def test_detaching_cuts_what_is_in_flight_in_a_retired_haproxy_too(here: World) -> None:
    old, _ = here.start("old", "new")
    address = f"http://127.0.0.1:{here.address[1]}/slow"
    first = subprocess.Popen(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", address], stdout=subprocess.PIPE)
    until(lambda: old.seen["/slow"] == 1)
    here.router.ensure(here.plan(request_timeout_ms=30_000))
    second = subprocess.Popen(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", address], stdout=subprocess.PIPE)
    until(lambda: old.seen["/slow"] == 2)
    here.router.route(ENV, {"new": 100})
    assert here.router.detach(ENV, ["old"]) == 2
    assert {first.communicate()[0], second.communicate()[0]} <= {b"000", b"502", b"503"}
    assert old.target.address not in (here.directory / "haproxy.cfg").read_text()
    assert old.seen["/slow"] == 2, "a request was sent again"


def test_a_killed_haproxy_costs_only_what_was_in_flight(here: World) -> None:
    here.start("old", "new")
    here.router.route(ENV, {"new": 70})
    clients = 6
    with here.load(clients) as load:
        for _ in range(3):
            (before,) = here.haproxies()
            os.kill(before, signal.SIGKILL)
            until(lambda gone=before: here.haproxies() not in ([], [gone]))
            load.wait(50)
    assert len(load.failures) <= 3 * clients
    assert not any("refused" in failure.lower() for failure in load.failures)
    assert {item.target.name: item.weight for item in here.router.observe(ENV).targets} == {"old": 0, "new": 70}
    assert load.answers["old"] == 0


def test_a_killed_holder_costs_nothing_and_is_replaced(here: World) -> None:
    here.start("old", "new")
    with here.load() as load:
        for _ in range(3):
            (before,) = here.holders()
            os.kill(before, signal.SIGKILL)
            until(lambda: not here.holders())
            load.wait(30)
            seen = here.router.observe(ENV)
            assert (seen.running, seen.plan) == (True, None)
            here.router.route(ENV, {"new": 100})  # HAProxy still does as it is told
            here.router.ensure(here.plan())
            assert len(here.holders()) == 1
            load.wait(30)
    assert load.failures == []
    assert here.router.observe(ENV).plan == here.plan()


def test_holder_and_haproxy_both_killed_are_brought_back_by_ensure(here: World) -> None:
    here.start("old", "new")
    here.router.route(ENV, {"new": 100})
    for pid in (*here.holders(), *here.haproxies()):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not here.processes())
    assert not here.router.observe(ENV).running
    here.router.ensure(here.plan())
    assert here.client().get()[1] == b"new"


KILLED = """
import dataclasses, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from router_world import ENV, LocalRouter, World
here = World(Path(sys.argv[2]))
here.address = ("127.0.0.1", int(sys.argv[3]))
here.id, here.router = sys.argv[4], LocalRouter(here.state, sys.argv[4])  # another process of the same state directory
plan = here.plan()
print("ready", flush=True)
while True:
    for timeout_ms in (21_000, 22_000):
        here.router.ensure(dataclasses.replace(plan, request_timeout_ms=timeout_ms))
        here.router.route(ENV, {"new": 100})
        here.router.route(ENV, {"old": 100})
"""


def test_instar_may_be_killed_at_any_moment(here: World) -> None:
    here.start("old", "new")
    argv = [
        sys.executable,
        "-c",
        KILLED,
        str(Path(__file__).parent),
        str(here.state.root),
        str(here.address[1]),
        here.id,
    ]
    with here.load(4) as load:
        for number in range(8):
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                time.sleep(0.013 * (1 + 3 * number))  # where it stops is the point: anywhere
                child.kill()
            load.wait(10)
            here.router.ensure(here.plan())
            here.router.route(ENV, {"new": 100})
            load.wait(10)
            assert len(here.holders()) == 1
            assert {item.target.name: item.weight for item in here.router.observe(ENV).targets} == {
                "old": 0,
                "new": 100,
            }
    assert load.failures == []


def test_a_server_that_dies_is_left_out_and_its_requests_go_to_another(here: World) -> None:
    here.start("a", "b")
    here.router.route(ENV, {"a": 100, "b": 100})
    clients = 6
    with here.load(clients) as load:
        here.backends[0].close()
        load.wait(100)
    assert len(load.failures) <= clients, "more than what it had in flight"
    assert here.client().get() == (200, b"b")
    until(lambda: [item.up for item in here.router.observe(ENV).targets] == [False, True])


def test_a_request_that_was_sent_is_not_sent_again(here: World) -> None:
    a, b = here.start("a", "b")
    here.router.route(ENV, {"a": 100, "b": 100})
    status, _ = 0, b""
    try:
        status, _ = here.client().get("/cut")
    except ConnectionError:
        status = 0
    assert status in (0, 502)
    assert a.seen["/cut"] + b.seen["/cut"] == 1
    until(lambda: here.router.counters(ENV).failed == 1)
