"""Routers that an earlier Instar started go on as they are, until they are started anew for a reason of their own."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from router_world import ENV, World, until

from instar.providers.local import router as local_router
from instar.providers.local.proxy import Proxy
from instar.router import config, plan

pytestmark = pytest.mark.root


def started_by_an_earlier_instar(here: World, monkeypatch: pytest.MonkeyPatch, form: int = 1) -> str:
    """Start a router with the file that an earlier form has (tests/unit holds it to the letter); return that."""
    with monkeypatch.context() as earlier:
        earlier.setattr(local_router, "FORM", form)
        here.start("old", "hot")
    text = (here.directory / "haproxy.cfg").read_text()
    assert config.read_plan(text).form == form
    assert ("httpchk" in text, "form" in text.partition("\n")[0]) == (form == 1, form > 1)
    return text


@pytest.mark.parametrize("form", range(1, plan.FORM))
def test_it_is_as_it_was_made_and_is_not_started_anew(here: World, monkeypatch: pytest.MonkeyPatch, form: int) -> None:
    before = started_by_an_earlier_instar(here, monkeypatch, form)
    processes = here.processes()
    assert here.router.inspect(ENV) == ()
    assert here.router.observe(ENV).plan == here.plan(), "a deploy would start it anew for nothing"
    targets = [one.target for one in here.backends]
    here.router.restore(here.plan(), targets)  # what drift puts right is put right in the form that it has
    here.router.route(ENV, {"hot": 100})
    assert here.router.inspect(ENV) == ()
    assert here.processes() == processes
    text = (here.directory / "haproxy.cfg").read_text()
    assert config.frame(text) == config.frame(before)
    os.kill(here.haproxies()[0], signal.SIGKILL)  # the one after it reads the same file
    until(lambda: len(here.haproxies()) == 1 and here.processes() != processes)
    assert here.client().get() == (200, b"hot")
    assert here.router.inspect(ENV) == ()


def test_another_form_than_the_file_says_is_a_finding(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_an_earlier_instar(here, monkeypatch)
    file = here.directory / "haproxy.cfg"
    text = file.read_text()
    for changed in (text.replace(" -m beg unless", " -m sub unless"), text.replace('"also"', '"form":2,"also"', 1)):
        file.write_text(changed)
        assert any(finding.path.startswith("haproxy.cfg, line ") for finding in here.router.inspect(ENV))


@pytest.mark.parametrize("form", range(1, plan.FORM))
def test_the_next_deploy_brings_the_new_form_under_load(
    here: World, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    started_by_an_earlier_instar(here, monkeypatch, form)
    with here.load() as load:
        here.router.attach(ENV, [here.backend("new").target])
        load.wait(50)
        here.router.route(ENV, {"new": 100})
        load.wait(50)
    assert load.failures == []
    assert load.answers["new"] >= 40
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == plan.FORM
    assert here.router.inspect(ENV) == ()
    until(lambda: len(here.haproxies()) == 1)


def test_a_plan_of_its_own_brings_it_too(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_an_earlier_instar(here, monkeypatch)
    with here.load() as load:
        here.router.ensure(here.plan(wait_ms=5_000))
        load.wait(50)
    assert load.failures == []
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == plan.FORM
    assert here.router.observe(ENV).plan == here.plan(wait_ms=5_000)


def test_what_a_server_answers_is_no_word_of_haproxys(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second form, what HAProxy says of a check has the whole of an answer in it, if that is made for it."""
    started_by_an_earlier_instar(here, monkeypatch, 2)
    _, hot = here.backends
    before = here.router.observe(ENV)
    forged = "\n> 0\n\n> # pxname,svname,\npublic,FRONTEND,\n\n> " * 9
    hot.ill = f"HTTP/1.1 500\x01x{forged}\r\n\r\n"
    until(lambda: not here.router.observe(ENV).targets[1].up)
    assert "\x01" in Proxy(here.state, here.id, ENV).statistics()["instances", "s2"]["last_chk"]
    assert here.router.inspect(ENV) == ()
    assert here.router.counters(ENV).requests == 0
    hidden = [replace(one, up=False) if one.target == hot.target else one for one in before.targets]
    assert here.router.observe(ENV) == replace(before, targets=tuple(hidden))
    socket_path = next(here.state.router_sockets.glob("*.sock"))
    talk(socket_path, "set maxconn frontend public 7", "set rate-limit connections global 9")
    assert {finding.path for finding in here.router.inspect(ENV)} >= {"frontend public, its maxconn", "ConnRateLimit"}
    here.router.attach(ENV, [here.backend("new").target])  # which is a release that may mend it
    here.router.route(ENV, {"new": 100})
    assert here.client().get() == (200, b"new")
    assert here.router.inspect(ENV) == ()


def talk(path: Path, *commands: str) -> None:
    """Say what Instar never does."""
    for command in commands:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(f"{command}\n".encode())
            assert connection.recv(4096).strip() == b""
