"""The edge on addresses of IPv6: names, who asked, certificates, challenges, and ports that others have."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from edge_world import SHOP, EdgeWorld, certificate

from instar.certificates.reachability import require_here
from instar.errors import NameElsewhere, RouterError
from instar.model.host_names import HostNames
from instar.operations.certificates import EdgeDoor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="routers are root's")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EdgeWorld]:
    made = EdgeWorld(tmp_path, "::1")
    yield made
    made.end()


def test_names_are_reached_and_the_service_learns_who_asked(world: EdgeWorld, tmp_path: Path) -> None:
    world.edge.serve(certificate(tmp_path, "b.test"))
    world.open(SHOP, HostNames(http=("a.test",), https=("b.test",)))
    assert world.get("a.test").body == b"shop" and world.edge.inspect() == ()
    told = world.get("a.test", "/echo", headers={"X-Forwarded-For": "6.6.6.6"}).body.decode().lower()
    assert "x-forwarded-for: ::1\r\n" in told and "6.6.6.6" not in told
    assert f"x-forwarded-port: {world.http}\r\n" in told and "x-forwarded-host: a.test\r\n" in told
    answer, shown = world.get_secure("b.test", "/echo")
    told = answer.body.decode().lower()
    assert "x-forwarded-for: ::1\r\n" in told and "x-forwarded-proto: https\r\n" in told and shown
    assert world.get("b.test", "/x?y").headers["location"] == f"https://b.test:{world.https}/x?y"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", world.http), timeout=5)


def test_a_host_that_is_an_address_is_no_name_s(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    assert world.get(f"[::1]:{world.http}").status == 404
    assert world.get(f"a.test:{world.http}").status == 200


def test_that_a_name_leads_here_is_seen_by_every_address(world: EdgeWorld) -> None:
    world.open(SHOP, HostNames(http=("a.test",)))
    door = EdgeDoor(world.edge)
    require_here("a.test", door, port=world.http, resolve=lambda name: ["::1"])
    with pytest.raises(NameElsewhere, match=r"127\.0\.0\.1 does not answer there: Connection refused"):
        require_here("a.test", door, port=world.http, resolve=lambda name: ["::1", "127.0.0.1"])


LISTENS = """
import socket, sys
one = socket.socket(socket.AF_INET6)
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(sys.argv[3]))
one.bind((sys.argv[1], int(sys.argv[2])))
one.listen()
print("listens", flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody(host: str, port: int, *, only_6: bool) -> Iterator[int]:
    argv = [sys.executable, "-c", LISTENS, host, str(port), str(int(only_6))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"listens\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize(("host", "only_6"), [("::1", True), ("::", True), ("::", False)])
def test_who_has_the_port_is_named(world: EdgeWorld, host: str, only_6: bool) -> None:
    world.edge.check()
    with somebody(host, world.https, only_6=only_6) as pid:
        named = rf"cannot listen on '\[::1\]:{world.https}': process {pid} \(python"
        with pytest.raises(RouterError, match=named):
            world.edge.check()
        with pytest.raises(RouterError, match=named):
            world.open(SHOP, HostNames(http=("a.test",)))
    world.edge.check()


def test_one_of_ipv4_has_nothing_to_do_with_it(tmp_path: Path) -> None:
    for host, other in (("::1", "127.0.0.1"), ("127.0.0.1", "::1")):
        world = EdgeWorld(tmp_path / host.replace(":", "-"), host)
        with socket.create_server((other, world.http), family=socket.AF_INET6 if ":" in other else socket.AF_INET):
            world.edge.check()
            world.open(SHOP, HostNames(http=("a.test",)))
            assert world.get("a.test").body == b"shop"
        world.end()


def test_a_program_for_both_families_has_the_port_of_ipv4_too(tmp_path: Path) -> None:
    world = EdgeWorld(tmp_path)
    with (
        somebody("::", world.http, only_6=False) as pid,
        pytest.raises(RouterError, match=rf"cannot listen on '127.0.0.1:{world.http}': process {pid} \(python"),
    ):
        world.edge.check()
    world.end()


def test_an_address_that_is_not_here_is_said_to_be_so(tmp_path: Path) -> None:
    world = EdgeWorld(tmp_path, "2001:db8::1")
    with pytest.raises(RouterError, match="this machine does not have that address") as raised:
        world.edge.check()
    assert raised.value.hint is not None and "[::] stands for all of them" in raised.value.hint
    world.end()


def test_a_kernel_without_ipv6_is_said_to_be_so(world: EdgeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's has it."""

    def refused(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    with monkeypatch.context() as patch:
        patch.setattr("instar.router.listener.socket.socket", refused)
        with pytest.raises(RouterError, match=r"cannot listen on .*: Address family not supported"):
            world.edge.check()
