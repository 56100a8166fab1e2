"""Routers that an earlier Instar started go on as they are, until they are started anew for a reason of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_world import ENV, World, until, world

from instar.providers.local import router as local_router
from instar.router import config

pytestmark = pytest.mark.root


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def started_by_the_first_instar(here: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start a router with the file that the first form has (tests/unit holds it to the letter); return that."""
    with monkeypatch.context() as earlier:
        earlier.setattr(local_router.config, "FORM", 1)
        here.start("old", "hot")
    text = (here.directory / "haproxy.cfg").read_text()
    assert "httpchk" in text and "form" not in text.partition("\n")[0]
    return text


def test_it_is_as_it_was_made_and_is_not_started_anew(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = started_by_the_first_instar(here, monkeypatch)
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
    started_by_the_first_instar(here, monkeypatch)
    file = here.directory / "haproxy.cfg"
    text = file.read_text()
    for changed in (text.replace(" -m beg unless", " -m sub unless"), text.replace('"also"', '"form":2,"also"', 1)):
        file.write_text(changed)
        assert any(finding.path.startswith("haproxy.cfg, line ") for finding in here.router.inspect(ENV))


def test_the_next_deploy_brings_the_new_form_under_load(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_the_first_instar(here, monkeypatch)
    with here.load() as load:
        here.router.attach(ENV, [here.backend("new").target])
        load.wait(50)
        here.router.route(ENV, {"new": 100})
        load.wait(50)
    assert load.failures == []
    assert load.answers["new"] >= 40
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == config.FORM
    assert here.router.inspect(ENV) == ()
    until(lambda: len(here.haproxies()) == 1)


def test_a_plan_of_its_own_brings_it_too(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_the_first_instar(here, monkeypatch)
    with here.load() as load:
        here.router.ensure(here.plan(wait_ms=5_000))
        load.wait(50)
    assert load.failures == []
    assert config.read_plan((here.directory / "haproxy.cfg").read_text()).form == config.FORM
    assert here.router.observe(ENV).plan == here.plan(wait_ms=5_000)
