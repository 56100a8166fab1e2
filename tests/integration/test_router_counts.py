"""What the router counts for each of its targets: every answer, each failure once, and the time that answers took."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest
from router_world import ENV, World, until

from instar.model.release import Served

pytestmark = pytest.mark.root


def served(here: World, name: str) -> Served:
    return next(one.served for one in here.router.observe(ENV).targets if one.target.name == name)


def ask(here: World, path: str = "/") -> int | None:
    """Return the status of the answer, None when there is no whole one."""
    with contextlib.closing(here.client()) as client, contextlib.suppress(OSError):
        return client.get(path, keep=False)[0]
    return None


def test_each_way_to_fail_is_counted_once(here: World) -> None:
    (a,) = here.start("a", request_timeout_ms=200)
    assert [ask(here, path) for path in ("/", "/none", "/cut", "/slow")] == [200, 502, None, 504]
    a.failing = True
    assert ask(here) == 500
    until(lambda: served(here, "a").requests == 5)
    assert served(here, "a").failed == 4


def test_a_refused_connection_is_its_targets_failure_also_when_another_answers(here: World) -> None:
    here.start("a", "b", health_path=None)
    here.router.route(ENV, {"a": 1, "b": 1})
    here.backends[0].close()
    assert [ask(here), ask(here)] == [200, 200]
    refused = served(here, "a")
    assert 1 <= refused.requests == refused.failed <= 2  # it is the next in turn after each
    assert (served(here, "b").requests, served(here, "b").failed) == (2, 0)


def test_connections_are_counted_where_it_knows_no_requests(here: World) -> None:
    here.start("a", "b", protocol="tcp", health_path=None)
    here.router.route(ENV, {"a": 1, "b": 1})
    assert [ask(here) for _ in range(4)] == [200] * 4
    here.backends[0].close()
    assert [ask(here), ask(here)] == [200, 200]
    refused = served(here, "a")
    assert 1 <= refused.failed == refused.requests - 2 <= 2
    assert served(here, "b") == Served(requests=4)


def test_a_target_in_a_used_slot_of_a_connection_router_is_counted_from_nought(here: World) -> None:
    here.start("a", "b", protocol="tcp", health_path=None)
    assert ask(here) == 200
    here.router.route(ENV, {"b": 1})
    here.router.detach(ENV, ["a"])
    here.router.attach(ENV, [here.backend("c").target])
    here.router.route(ENV, {"c": 1})
    assert ask(here) == 200
    assert served(here, "c") == Served(requests=1)


def test_times_are_summed_as_clients_see_them(here: World) -> None:
    here.start("a", "b")
    here.router.route(ENV, {"a": 1, "b": 1})
    here.backends[0].delay_s, here.backends[1].delay_s = 0.010, 0.030
    waited_s: list[float] = []

    def ask_often() -> None:
        for _ in range(40):
            began = time.monotonic()
            ask(here)
            waited_s.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: served(here, "a").requests + served(here, "b").requests == 160)
    for name, delay_ms in (("a", 10), ("b", 30)):
        found = served(here, name)
        assert found.requests == 80
        assert delay_ms <= found.response_ms / found.requests
    answered_ms = served(here, "a").response_ms + served(here, "b").response_ms
    assert answered_ms <= 1_000 * sum(waited_s) + 160, "each is rounded by HAProxy"


def test_a_new_haproxy_counts_anew(here: World) -> None:
    here.start("a")
    assert ask(here) == 200
    (before,) = here.haproxies()
    os.kill(before, signal.SIGKILL)
    until(lambda: here.haproxies() not in ([], [before]))
    assert served(here, "a") == Served()
    assert ask(here) == 200
    here.router.ensure(here.plan())
    until(lambda: served(here, "a").requests == 1)
    here.router.ensure(here.plan(request_timeout_ms=9_000))
    assert served(here, "a") == Served()
