"""A candidate is reached by who asks for it, and by nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_world import ENV, Backend, World, free_port, until
from router_world import world as a_world

from instar.errors import RouterError
from instar.model.release import Served
from instar.providers.router_plan import RouterPlan

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
    world.router.attach(ENV, [world.backend("stable").target, world.backend("candidate").target])
    world.router.route(ENV, {"stable": 100})
    world.router.preview(ENV, {2: "candidate"})


def test_by_header(world: World) -> None:
    made = world.plan(preview="header")
    stand(world, made)
    (where,) = made.listen
    assert ask(where, 2) == (200, "candidate")
    assert ask(where) == (200, "stable")
    for unknown in (3, "02", "newest", "candidate", "2 ", ""):
        assert ask(where, unknown)[0] in ((404,) if str(unknown).strip() != "2" else (200,)), unknown
    served = {each.target.name: each.served for each in world.router.observe(ENV).targets}
    assert served["candidate"].requests == 0 and served["stable"].requests == 1, "a preview is nobody's traffic"
    assert world.router.counters(ENV).requests == 1
    world.router.preview(ENV, {})
    assert ask(where, 2) == (404, "no such release to preview\n")


def test_on_a_kept_connection_each_request_goes_where_it_says(world: World) -> None:
    made = world.plan(preview="header")
    stand(world, made)
    with contextlib.closing(http.client.HTTPConnection(world.address[0], world.address[1], timeout=5)) as connection:
        for headers, expected in 2 * [({}, "stable"), ({"X-Instar-Release": "2"}, "candidate")]:
            connection.request("GET", "/", headers=headers)
            assert connection.getresponse().read().decode() == expected


def test_a_candidate_in_drain_and_on_ipv6_is_reached_below_a_long_path(tmp_path: Path) -> None:
    with a_world(tmp_path / ("long-" * 40) / ("longer-" * 30)) as world:
        made = world.plan(preview="header")
        stand(world, made)
        six = Backend("six", "::1")
        world.backends.append(six)
        world.router.attach(ENV, [six.target])
        world.router.preview(ENV, {2: "candidate", 3: "six"})
        assert [ask(made.listen[0], number)[1] for number in (2, 3)] == ["candidate", "six"]
        assert world.router.observe(ENV).previewed == {2: "candidate", 3: "six"}


def test_one_that_leaves_takes_its_previews_along_and_those_under_way_are_cut(world: World) -> None:
    made = world.plan(preview="header")
    stand(world, made)
    candidate = world.backends[1]
    command = ["curl", "-s", "-H", "X-Instar-Release: 2", f"http://{made.listen[0]}/slow"]
    slow = subprocess.Popen(command, stdout=subprocess.PIPE)
    until(lambda: candidate.seen["/slow"])
    assert world.router.detach(ENV, ["candidate"]) == 0, "it was nobody's traffic"
    said, _ = slow.communicate(timeout=10)
    assert b"candidate" not in said
    assert ask(made.listen[0], 2)[0] == 404
    for path in (world.directory / "haproxy.cfg", world.directory / "preview.map"):
        assert candidate.target.address not in path.read_text()
    assert ask(made.listen[0]) == (200, "stable")


def test_what_was_killed_between_file_and_socket_is_put_right(world: World) -> None:
    made = world.plan(preview="header")
    stand(world, made)
    (world.directory / "preview.map").write_text("")  # as if killed: HAProxy has another map than the file says
    assert ask(made.listen[0], 2)[0] == 200
    world.router.ensure(made)
    assert ask(made.listen[0], 2)[0] == 404
    world.router.preview(ENV, {2: "candidate"})
    assert ask(made.listen[0], 2) == (200, "candidate")


def test_previews_come_and_go_under_load(world: World) -> None:
    address = f"127.0.0.1:{free_port()}"
    stand(world, world.plan())
    with world.load(4) as load:
        for kind in ("header", address, "header", None, address, None):
            world.router.ensure(world.plan(preview=kind))
            assert world.router.observe(ENV).plan == world.plan(preview=kind)
            world.router.preview(ENV, {2: "candidate"})
            assert world.router.observe(ENV).previewed == ({2: "candidate"} if kind else {})
            assert (world.directory / "preview.map").exists() == (kind is not None)
            load.wait(20)
    assert load.failures == []
    assert load.answers["candidate"] == 0


def test_an_address_that_somebody_has_is_refused(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = world.plan(preview=f"127.0.0.1:{taken.getsockname()[1]}")
        for act in (world.router.check, world.router.ensure):
            with pytest.raises(RouterError, match="has the port"):
                act(made)
    world.router.ensure(made)
    world.router.check(made)  # its own is no obstacle
    with pytest.raises(RouterError, match="the router of 'guestbook/dev'"):
        world.router.check(world.plan(environment=dataclasses.replace(ENV, name="production")))


def test_a_router_of_an_older_instar_is_read_and_brought_up_to_date(world: World) -> None:
    made = world.plan()
    stand(world, made)
    path = world.directory / "haproxy.cfg"
    older = [line for line in path.read_text().splitlines() if not line.startswith(("  stick-table", "  http-re"))]
    path.write_text("\n".join(older).replace(',"preview":null', "") + "\n")
    os.kill(world.haproxies()[0], signal.SIGKILL)
    until(lambda: len(world.haproxies()) == 1 and world.router.observe(ENV).targets[0].up)
    assert world.router.observe(ENV).targets[0].served == Served()
    assert world.router.observe(ENV).plan == made
    world.router.route(ENV, {"candidate": 1})
    world.router.route(ENV, {"stable": 1})
    assert world.router.observe(ENV).targets[0].served == Served()
    world.router.attach(ENV, [world.backend("another").target])
    assert ask(made.listen[0]) == (200, "stable")
    until(lambda: world.router.observe(ENV).targets[0].served.requests == 1)


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
    world.router.detach(ENV, ["candidate"])
    assert ask(made.preview) == (503, "no release to preview\n")
    with pytest.raises(RouterError, match="each one once"):
        world.router.ensure(dataclasses.replace(made, preview=made.listen[0]))
