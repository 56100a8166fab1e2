"""Maintenance: a page instead of answers, at once, until it is turned off; what is in flight finishes."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest
from router_world import ENV, World, until

from instar.errors import RouterError
from instar.model.definition import Headers
from instar.providers.local import router as local_router
from instar.providers.router_state import Counters
from instar.router import config, plan

pytestmark = pytest.mark.root

PAGE = '<h1>Back at three: 100 %, "sure" — ünd ${HOME}</h1>\n'


def answer(here: World, path: str = "/") -> tuple[str, str]:
    """Return the head and the body of the answer to a request of its own connection."""
    with socket.create_connection(here.address, timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = b""
        while part := client.recv(65_536):
            text += part
    head, _, body = text.decode().partition("\r\n\r\n")
    return head, body


def switch(here: World, on: bool, page: str | None = None) -> None:
    here.router.set_maintenance(ENV, on=on, page=page)
    assert (here.router.maintenance(ENV), here.router.maintenance_page(ENV)) == (on, page)
    assert here.router.inspect(ENV) == ()


def test_it_is_turned_on_and_off_as_haproxy_runs(here: World) -> None:
    (one,) = here.start("one")
    kept, processes, before = here.client(), here.processes(), here.router.counters(ENV)
    assert kept.get() == (200, b"one")
    slow: list[tuple[int, bytes]] = []
    waiting = threading.Thread(target=lambda: slow.append(here.client().get("/slow")))
    waiting.start()
    until(lambda: one.seen["/slow"])
    switch(here, on=True)
    head, body = answer(here)
    assert head.startswith("HTTP/1.1 503 ") and "Down for maintenance" in body
    lines = head.lower().split("\r\n")
    assert {"retry-after: 60", "cache-control: no-store", "content-type: text/html; charset=utf-8"} <= set(lines)
    assert kept.get()[0] == 503, "also who was connected before"
    one.release.set()
    waiting.join()
    assert slow == [(200, b"one")], "what is in flight finishes"
    switch(here, on=False)
    assert kept.get() == (200, b"one")
    assert here.processes() == processes, "nothing was started anew"
    assert here.router.counters(ENV) == Counters(requests=before.requests + 3, failed=before.failed), "no failures"
    kept.close()


def test_checks_and_previews_are_answered_as_ever(here: World) -> None:
    here.start("one", "two", preview="header")
    here.router.preview(ENV, {2: "two"})
    switch(here, on=True)
    assert here.client().get("/healthz") == (200, b"one")
    assert here.client().get("/healthz?a")[0] == here.client().get("/healthz/")[0] == here.client().get()[0] == 503
    assert here.client().get(headers={"X-Instar-Release": "2"}) == (200, b"two")
    assert here.client().get(headers={"X-Instar-Release": "3"})[0] == 404
    assert all(target.up for target in here.router.observe(ENV).targets)
    here.router.ensure(here.plan(health_path="/"))
    assert here.client().get()[0] == 503, "the first page is no check, though it is asked for one"


def test_nobody_waits_for_an_instance_in_maintenance(here: World) -> None:
    here.router.ensure(here.plan(wait_ms=60_000))
    switch(here, on=True)
    assert answer(here)[0].startswith("HTTP/1.1 503 ")


def test_it_stays_on_whatever_is_started_anew(here: World) -> None:
    here.start("one", "two")
    switch(here, on=True, page=PAGE)
    assert answer(here)[1] == PAGE
    before = here.haproxies()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(here.haproxies()) == 1 and here.haproxies() != before)
    assert answer(here)[1] == PAGE
    here.router.route(ENV, {"two": 100})
    here.router.ensure(here.plan(request_timeout_ms=9_000))
    here.router.detach(ENV, ["one"])
    assert (answer(here)[1], here.router.maintenance(ENV)) == (PAGE, True)
    for pid in (*here.holders(), *here.haproxies()):
        os.kill(pid, signal.SIGKILL)  # as the machine's end
    until(lambda: not here.processes())
    here.router.ensure(here.plan(request_timeout_ms=9_000))
    assert answer(here)[1] == PAGE
    switch(here, on=False, page=PAGE)
    assert here.client().get() == (200, b"two")
    switch(here, on=True)
    assert "Down for maintenance" in answer(here)[1], "the usual page"


def test_another_page_lets_nobody_through_and_loses_no_request(here: World) -> None:
    here.start("one")
    with here.load() as load:
        for page in ("<p>first", "<p>second"):
            switch(here, on=False, page=page)
            load.wait(30)
    assert load.failures == []
    switch(here, on=True)
    with here.load(clients=4) as refused:
        switch(here, on=True, page=PAGE)
        refused.wait(30)
    assert not refused.answers and set(refused.failures) == {"status 503"}
    assert answer(here)[1] == PAGE


def test_a_router_of_an_earlier_instar_gets_it_when_it_is_asked_for(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(local_router, "FORM", 3)
        here.start("one")
    switch(here, on=False)
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == 3
    with here.load() as load:
        switch(here, on=True)
    assert set(load.failures) == {"status 503"}
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == plan.FORM


def test_what_somebody_changes_is_found_and_put_right(here: World) -> None:
    (one,) = here.start("one")
    switch(here, on=True)
    file, page = here.directory / "maintenance.map", here.directory / "maintenance.html"
    file.write_text("")
    (found,) = here.router.inspect(ENV)
    assert (found.path, found.expected, found.observed) == ("maintenance.map", "empty", "on 1")
    here.router.restore(here.plan(), [one.target])
    assert here.router.inspect(ENV) == () and here.client().get() == (200, b"one")
    switch(here, on=True)
    page.write_text("<p>ha")
    assert here.router.maintenance_page(ENV) == "<p>ha"
    switch(here, on=True)
    for path in (file, page):
        path.unlink()
    assert {finding.path for finding in here.router.inspect(ENV)} == {"maintenance.map", "maintenance.html"}
    here.router.restore(here.plan(), [one.target])
    assert here.router.inspect(ENV) == () and answer(here)[0].startswith("HTTP/1.1 503 ")


@pytest.mark.parametrize("page", ["", "x" * (16 * 1024 + 1)])
def test_a_page_of_a_wrong_size_changes_nothing(here: World, page: str) -> None:
    here.start("one")
    with pytest.raises(RouterError, match="cannot show the page"):
        here.router.set_maintenance(ENV, on=True, page=page)
    assert here.client().get() == (200, b"one")
    switch(here, on=True, page="x" * 16 * 1024)
    assert answer(here)[1] == "x" * 16 * 1024


def test_a_router_of_small_heads_has_a_small_page(here: World) -> None:
    here.start("one", headers=Headers(size_bytes=1_024, count=10))
    with pytest.raises(RouterError, match="can have 1 to 1,616"):
        here.router.set_maintenance(ENV, on=True, page="x" * 1_617)
    switch(here, on=True, page="x" * 1_616)
    assert answer(here)[1] == "x" * 1_616


def test_a_service_of_tcp_has_none(here: World) -> None:
    here.start("one", protocol="tcp", health_path=None)
    with pytest.raises(RouterError, match="speaks tcp"):
        here.router.set_maintenance(ENV, on=True, page=None)
    assert not here.router.maintenance(ENV)
