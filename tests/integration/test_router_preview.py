"""A candidate is reached by who asks for it, and by nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.errors import RouterError
from instar.providers.base import RouterPlan
from integration.router_world import PLACE, World, free_port, until
from integration.router_world import world as a_world

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as made:
        yield made


def ask(where: str, release: object = None) -> tuple[int, str]:
    headers = {} if release is None else {"X-Instar-Release": str(release)}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{where}/", headers=headers), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def stand(world: World, made: RouterPlan) -> None:
    """Two targets, the first with all traffic, the second previewed as release 2."""
    world.router.ensure(made)
    world.router.attach(PLACE, [world.backend("stable").target, world.backend("candidate").target])
    world.router.route(PLACE, {"stable": 100})
    world.router.preview(PLACE, {2: "candidate"})


def test_by_header(world: World) -> None:
    made = world.plan(preview="header")
    stand(world, made)
    (where,) = made.listen
    assert ask(where, 2) == (200, "candidate")
    assert ask(where) == (200, "stable")
    for unknown in (3, "02", "newest", "candidate", "2 ", ""):
        assert ask(where, unknown)[0] in ((404,) if str(unknown).strip() != "2" else (200,)), unknown
    served = {each.target.name: each.served for each in world.router.observe(PLACE).targets}
    assert served["candidate"].requests == 0 and served["stable"].requests == 1, "a preview is nobody's traffic"
    assert world.router.counters(PLACE).requests == 1
    world.router.preview(PLACE, {})
    assert ask(where, 2) == (404, "no such release to preview\n")


def test_without_it_the_header_means_nothing(world: World) -> None:
    made = world.plan()
    stand(world, made)
    assert ask(made.listen[0], 2) == (200, "stable")


def test_at_an_address_of_its_own_also_after_haproxy_died(world: World) -> None:
    made = world.plan(preview=f"127.0.0.1:{free_port()}")
    assert made.preview is not None
    stand(world, made)
    assert ask(made.preview) == (200, "candidate")
    assert ask(made.listen[0]) == (200, "stable") == ask(made.listen[0], 2)
    before = set(world.haproxies())
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def another() -> bool:
        with contextlib.suppress(OSError):
            return ask(made.preview or "") == (200, "candidate")
        return False

    until(another)
    world.router.detach(PLACE, ["candidate"])
    assert ask(made.preview) == (503, "no release to preview\n")
    with pytest.raises(RouterError, match="each one once"):
        world.router.ensure(dataclasses.replace(made, preview=made.listen[0]))
