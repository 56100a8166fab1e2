"""What somebody changes of the edge is found, and put right without losing a request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_world import BLOG, SHOP, EdgeWorld, certificate
from router_world import until

from instar.model.host_names import HostNames

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")

NAMES = HostNames(https=("a.test",), http=("b.test",))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path_factory.mktemp("edge"))
    made.edge.serve(certificate(made.state.root, "a.test"))
    made.open(SHOP, NAMES)
    made.open(BLOG, HostNames(http=("c.test",)))
    yield made
    made.end()


def say(world: EdgeWorld, command: str) -> str:
    """Tell HAProxy what Instar would not."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(world.edge.files.sockets / world.edge.files.socket))
        one.sendall(f"{command}\n".encode())
        parts = []
        while part := one.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def appended(world: EdgeWorld, path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def another_certificate(world: EdgeWorld) -> None:
    other = certificate(world.edge.files.directory / "certificates", "x.test")
    (world.edge.files.directory / "certificates/x.test.crt").unlink()
    (world.edge.files.directory / "certificates/x.test.key").unlink()
    world.edge.files.certificate("a.test").write_text(other.chain + other.key)


def led_elsewhere(world: EdgeWorld) -> None:
    link = world.edge.files.root / "e1"
    link.unlink()
    link.symlink_to("elsewhere")


CHANGES: dict[str, tuple[Callable[[EdgeWorld], object], str]] = {
    "file": (lambda w: appended(w, w.edge.files.config, "# more\n"), "edge: haproxy.cfg, line "),
    "file is gone": (lambda w: w.edge.files.config.unlink(), "edge: haproxy.cfg"),
    "map's file": (lambda w: appended(w, w.edge.files.names, "d.test/ http/to/e1/0\n"), "edge: names.map, line "),
    "map": (lambda w: say(w, "set map names.map c.test/ http/to/e1/0"), "edge: c.test in HAProxy's names.map"),
    "map has more": (lambda w: say(w, "add map names.map d.test/ http/to/e1/0"), "edge: d.test in HAProxy's names.map"),
    "answers": (lambda w: say(w, "add map answers.map thumbprint me"), "edge: thumbprint in HAProxy's answers.map"),
    "list": (lambda w: appended(w, w.edge.files.list, "certificates/b.pem b\n"), "edge: certificates.list, line 2"),
    "certificate": (another_certificate, "edge: the certificate of a.test"),
    "hidden": (
        lambda w: say(w, "del ssl crt-list certificates.list certificates/a.test.pem"),
        "edge: the certificate of a.test",
    ),
    "keys": (lambda w: w.edge.files.tickets.write_text("A" * 107 + "=\n"), "edge: the keys of TLS sessions"),
    "link": (led_elsewhere, "edge: the way to the router of 'shop/production'"),
    "limit": (lambda w: say(w, "set maxconn global 5"), "edge: maxconn"),
    "frontend": (lambda w: say(w, "set maxconn frontend https 5"), "edge: frontend https, its maxconn"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_and_put_right(world: EdgeWorld, change: str) -> None:
    assert world.edge.inspect() == ()
    act, path = CHANGES[change]
    act(world)
    found = world.edge.inspect()
    assert [one.path for one in found if one.path and one.path.startswith(path)], found
    assert all(one.kind == "router" and one.expected and one.observed for one in found)
    for environment, names in ((SHOP, NAMES), (BLOG, HostNames(http=("c.test",)))):
        assert world.edge.restore(world.named(environment, names))
    assert world.edge.inspect() == ()
    assert world.get("b.test").body == b"shop"
    assert world.get("c.test").body == b"blog"


def test_a_way_that_was_taken_away_is_found_and_brought_back(world: EdgeWorld) -> None:
    door = world.router._proxy(SHOP).door / "door.sock"
    door.unlink()
    [finding] = world.router.inspect(SHOP)
    assert finding.path == "the edge's way to the router"
    assert world.get("b.test").status == 503
    backend = next(one for one in world.backends if one.name == "shop")
    world.router.restore(world.named(SHOP, NAMES), [backend.target])
    assert world.router.inspect(SHOP) == ()
    assert world.get("b.test").body == b"shop"


def test_an_edge_of_an_older_instar_is_no_drift_and_is_brought_up(world: EdgeWorld) -> None:
    """Its file has no form, and says what it said then; nobody is told of a change, and no request is lost."""
    files = world.edge.files
    new, listed = files.read(), files.read(files.names)
    plan = json.loads(new.partition("\n")[0].partition("{")[1] + new.partition("\n")[0].partition("{")[2])
    assert plan.pop("form") == 2
    older = new.replace(new.partition("\n")[0], f"{new.partition('{')[0]}{json.dumps(plan)}", 1)
    files.write(older.replace("retries 3", "retries 2") + "# as it was then\n")
    assert world.edge.inspect() == ()
    assert world.edge.clear_orphans(lambda: (SHOP, BLOG)) == ()
    assert (files.read(), files.read(files.names)) == (new, listed)
    assert world.edge.inspect() == ()
    assert world.get("b.test").body == b"shop" and world.get("c.test").body == b"blog"


def test_everything_comes_back_after_a_reboot(world: EdgeWorld) -> None:
    for haproxy in (world.edge.haproxy, world.router._proxy(SHOP), world.router._proxy(BLOG)):
        for one in (*haproxy.holders(), *haproxy.haproxies()):
            os.kill(one.pid, signal.SIGKILL)
    shutil.rmtree(world.state.run)
    world.state.run.mkdir(mode=0o700)
    until(lambda: not world.edge.haproxy.exists())
    assert not world.edge.restore(world.named(SHOP, NAMES)), "what does not run is not started by that"
    for environment, names in ((SHOP, NAMES), (BLOG, HostNames(http=("c.test",)))):
        world.expose(environment, names)
        backend = next(one for one in world.backends if one.name == environment.service)
        world.router.attach(environment, [backend.target])
        world.router.route(environment, {backend.name: 100})
    assert world.get("b.test").body == b"shop"
    assert world.get("c.test").body == b"blog"
    assert world.get_secure("a.test")[0].body == b"shop"
    assert world.edge.inspect() == ()
