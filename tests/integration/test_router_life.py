"""A router's life: started once, refused with a reason, found again, gone without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from router_world import ENV, World, free_port, until, world

from instar.errors import HostError, RouterError
from instar.model.release import EnvironmentId
from instar.providers.local.router import LocalRouter
from instar.providers.router_state import Counters, RouterState, Target
from instar.router import holder

pytestmark = pytest.mark.root
OTHER = EnvironmentId(service="guestbook", name="production")

ASKED_FROM = """
import json, socket, subprocess, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from router_world import world
for line in ("link set lo up", "address add 192.0.2.1/32 dev lo"):
    subprocess.run(["ip", *line.split()], check=True)
answers = []
with world(Path(sys.argv[2])) as here:
    here.start("a", listen=(f"0.0.0.0:{here.address[1]}",))
    for host in ("127.0.0.1", "192.0.2.1"):
        with socket.create_connection((host, here.address[1])) as connection:
            connection.sendall(
                b"GET /echo HTTP/1.1\\r\\nHost: example.org\\r\\nX-Forwarded-For: 6.6.6.6\\r\\n"
                b"X-Forwarded-Proto: https\\r\\nForwarded: for=6.6.6.6\\r\\nX-Real-IP: 6.6.6.6\\r\\n"
                b"Proxy: 6.6.6.6\\r\\n\\r\\n"
            )
            answers.append(connection.recv(65536).decode().lower())
print(json.dumps(answers))
"""


def test_ensure_twice_starts_once(here: World) -> None:
    here.router.ensure(here.plan())
    before = here.processes()
    here.router.ensure(here.plan())
    assert here.processes() == before
    here.router.ensure(here.plan(instances=2))  # there is room for them already
    assert here.processes() == before
    assert here.router.observe(ENV).plan == here.plan(instances=2)


def test_two_at_once_start_one(here: World) -> None:
    errors: list[BaseException] = []

    def ensure() -> None:
        try:
            LocalRouter(here.state, here.id).ensure(here.plan())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (len(here.holders()), len(here.haproxies())) == (1, 1)


def test_a_second_holder_gives_way_to_the_first(here: World) -> None:
    here.router.ensure(here.plan())
    argv = [sys.executable, "-I", "-S", "-B", holder.__file__, f"instar-{here.id}", here.directory, _order(here)]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, "another holder has the place\n")
    assert (len(here.holders()), len(here.haproxies())) == (1, 1)


def test_a_taken_port_names_who_has_it(here: World) -> None:
    with socket.create_server(here.address):
        for act in (here.router.check, here.router.ensure):
            with pytest.raises(RouterError, match=rf"process {os.getpid()} \(.+\) has the port") as caught:
                act(here.plan())
            assert caught.value.hint == "end it, or choose another address"
    assert here.processes() == []
    here.router.ensure(here.plan())


def test_a_port_that_another_router_has_names_its_place(here: World) -> None:
    here.router.ensure(here.plan())
    for listen in (here.plan().listen, (f"0.0.0.0:{here.address[1]}",)):
        plan = here.plan(environment=OTHER, listen=listen)
        with pytest.raises(RouterError, match="the router of 'guestbook/dev'"):
            here.router.check(plan)
        with pytest.raises(RouterError, match="the router of 'guestbook/dev'"):
            here.router.ensure(plan)
    here.router.check(here.plan())  # its own is no obstacle
    here.router.check(here.plan(listen=(f"0.0.0.0:{here.address[1]}",)))


def test_an_address_of_another_machine_is_refused(here: World) -> None:
    plan = here.plan(listen=(f"192.0.2.1:{here.address[1]}",))
    for act in (here.router.check, here.router.ensure):
        with pytest.raises(RouterError, match="this machine does not have that address"):
            act(plan)


def test_a_refused_change_leaves_what_runs(here: World) -> None:
    here.start("a")
    before = here.processes()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RouterError, match="has the port"):
        here.router.ensure(here.plan(listen=(*here.plan().listen, f"127.0.0.1:{taken.getsockname()[1]}")))
    assert here.processes() == before
    assert here.router.observe(ENV).plan == here.plan()
    assert here.client().get()[1] == b"a"


def test_a_low_port_and_ipv6_are_listened_on(here: World) -> None:
    port = free_port()
    here.address = ("::1", port)
    here.start("a", listen=(f"[::1]:{port}", "127.0.0.77:977"))
    assert here.client().get()[1] == b"a"
    here.address = ("127.0.0.77", 977)
    assert here.client().get()[1] == b"a"


def test_a_health_path_may_hold_all_that_is_allowed(here: World) -> None:
    path = "/A~z_0-9/.;x=1,2+3!*()@:?q=%20&b=c"
    (backend,) = here.start("a", health_path=path)
    assert backend.seen[path]


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    with world(tmp_path / ("long-" * 40) / ("longer-" * 30)) as here:
        here.start("a")
        assert here.client().get()[1] == b"a"
        assert here.router.observe(ENV).running
        since = here.router.counters(ENV).since
        here.router.ensure(here.plan(health_path=None))  # another HAProxy
        here.client().get()
        until(lambda: here.router.counters(ENV).requests == 2)
        assert here.router.counters(ENV).since == since, "what the one before had answered counts"


def test_nothing_is_left_after_remove(here: World) -> None:
    here.start("a", "b")
    here.router.ensure(here.plan(health_path=None))
    here.router.remove(ENV)
    assert here.processes() == []
    assert [path for path in here.state.root.rglob("*") if not path.is_dir() and path.parent.name != "lock"] == []
    assert list(here.state.routers.iterdir()) == []
    with socket.create_server(here.address):
        pass  # the port is free
    here.router.remove(ENV)
    assert here.router.observe(ENV) == RouterState(running=False)
    assert here.router.counters(ENV) == Counters(requests=0, failed=0)
    assert here.router.route(ENV, {}) == 0.0
    assert here.router.detach(ENV, ["a"]) == 0


def test_a_router_of_a_copy_is_named(here: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = World(tmp_path_factory.mktemp("copy"))
    copy.router = LocalRouter(copy.state, here.id)
    here.router.ensure(here.plan())
    copy.router.ensure(copy.plan())
    try:
        with pytest.raises(HostError, match=f"{copy.directory}', of another state directory") as caught:
            here.router.remove(ENV)
        assert caught.value.hint is not None
        assert f"kill {' '.join(map(str, sorted(copy.processes())))}," in caught.value.hint
    finally:
        for pid in sorted(copy.processes()):  # the holder first, which would start another HAProxy
            os.kill(pid, signal.SIGKILL)
    until(lambda: not copy.processes())
    here.router.remove(ENV)


def test_orphans_are_cleared_and_others_are_not(here: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    with world(tmp_path_factory.mktemp("another")) as another:
        another.router.ensure(another.plan())
        here.router.ensure(here.plan())
        here.router.ensure(here.plan(environment=OTHER, listen=(f"127.0.0.1:{free_port()}",)))
        assert here.router.clear_orphans(lambda: [ENV]) == (str(OTHER),)
        assert here.router.observe(ENV).running
        assert not here.router.observe(OTHER).running
        assert another.router.observe(ENV).running


def test_only_root_can_read_or_drive_it(here: World) -> None:
    here.start("a")
    (control,) = here.state.router_sockets.glob("*.sock")
    for path in (control, *here.directory.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    status = Path(f"/proc/{here.haproxies()[0]}/status").read_text()
    assert "\nUid:\t0\t" not in status


def test_attaching_waits_for_the_routers_own_check(here: World) -> None:
    here.start("a")
    sick = here.backend("sick")
    sick.healthy = False
    with pytest.raises(RouterError, match=r"cannot attach 'sick': .* does not pass: .*500"):
        here.router.attach(ENV, [sick.target])
    assert [item.target.name for item in here.router.observe(ENV).targets] == ["a"]
    assert sick.target.address not in (here.directory / "haproxy.cfg").read_text()
    sick.healthy = True
    here.router.attach(ENV, [sick.target])
    assert [(item.weight, item.up) for item in here.router.observe(ENV).targets] == [(100, True), (0, True)]
    here.router.attach(ENV, [sick.target])  # again: it does it once
    assert len(here.router.observe(ENV).targets) == 2


def test_traffic_is_not_moved_to_a_server_that_is_not_well(here: World) -> None:
    _, b = here.start("a", "b")
    b.healthy = False
    until(lambda: not here.router.observe(ENV).targets[1].up)
    with pytest.raises(RouterError, match="the traffic stays where it is"):
        here.router.route(ENV, {"b": 100})
    assert here.client().get()[1] == b"a"
    assert [item.weight for item in here.router.observe(ENV).targets] == [100, 0]


def test_more_targets_than_slots_are_made_room_for(here: World) -> None:
    names = [f"n{number}" for number in range(20)]
    here.start(*names)
    here.router.route(ENV, dict.fromkeys(names, 10))
    client = here.client()
    assert {client.get()[1].decode() for _ in range(20)} == set(names)
    client.close()


def test_what_cannot_be_routed_is_refused(here: World) -> None:
    here.start("a")
    for weights in ({"b": 100}, {"a": 0}, {"a": 257}):
        with pytest.raises(RouterError):
            here.router.route(ENV, weights)
    with pytest.raises(RouterError, match="it has no router"):
        here.router.attach(OTHER, [Target(name="x", address="127.0.0.1", port=1)])
    assert here.router.observe(ENV).targets[0].weight == 100


def test_tcp_is_passed_through(here: World) -> None:
    here.start("a", "b", protocol="tcp", health_path=None)
    assert here.client().get()[1] == b"a"
    here.router.route(ENV, {"b": 1})
    assert here.client().get()[1] == b"b"
    until(lambda: here.router.counters(ENV) == Counters(requests=2, failed=0))


def test_the_service_learns_who_asked_and_only_this_machine_is_believed(here: World, tmp_path: Path) -> None:
    """From a network of its own, in which 192.0.2.1 is this machine and yet not its loopback address."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", ASKED_FROM, str(Path(__file__).parent), str(tmp_path / "home")],
        check=True,
        capture_output=True,
        text=True,
    )
    near, far = (set(answer.split("\r\n")) for answer in json.loads(done.stdout))
    claimed = {"x-forwarded-for: 6.6.6.6", "x-forwarded-proto: https", "forwarded: for=6.6.6.6", "x-real-ip: 6.6.6.6"}
    seen = {"x-forwarded-for: 192.0.2.1", "x-forwarded-proto: http"}
    assert near >= {*claimed, "x-forwarded-host: example.org"}
    assert far >= {*seen, "x-forwarded-host: example.org"}
    assert not far & claimed
    assert "proxy: 6.6.6.6" not in near | far


def test_without_anybody_to_answer_it_says_503(here: World) -> None:
    here.start("a")
    here.router.route(ENV, {})
    assert here.client().get()[0] == 503
    assert here.router.counters(ENV).failed == 1


def test_a_running_holder_needs_nothing_more(here: World, tmp_path: Path) -> None:
    """Once it runs it imports nothing, whatever happens: what it was started from may be gone."""
    here.directory.mkdir(parents=True)
    here.state.router_sockets.mkdir(parents=True)
    (here.directory / "haproxy.cfg").write_text("this is no configuration\n")
    imported, copy = tmp_path / "imported", tmp_path / "holder.py"
    imported.touch()
    watched = "import sys\n" + Path(holder.__file__).read_text().replace(
        "    hurried = 0\n",
        "    hurried = 0\n"
        f"    sys.addaudithook(lambda event, _: event == 'import' and open({str(imported)!r}, 'a').write('one'))\n",
        1,
    ).replace("from __future__ import annotations\n", "", 1)
    assert "addaudithook" in watched
    copy.write_text(watched)
    subprocess.run(
        [sys.executable, "-I", "-S", "-B", copy, f"instar-{here.id}", here.directory, _order(here)], check=True
    )
    copy.unlink()
    until(lambda: (here.directory / "holder.log").read_text().count(" ended: exit status 1") >= 3)
    assert imported.read_text() == ""
    os.kill(json.loads((here.directory / "holder.json").read_text())["process"]["pid"], 15)


def test_a_router_is_in_no_group_of_who_started_it(here: World) -> None:
    """systemd ends a unit by its group: an agent that is stopped there must leave every router alone."""
    here.start("a")
    here.router.ensure(here.plan(request_timeout_ms=10_000))  # another holder, which takes over
    processes = here.processes()
    os.kill(here.haproxies()[0], signal.SIGKILL)
    until(lambda: here.haproxies() and here.processes() != processes)
    assert len(here.processes()) == 2
    for pid in here.processes():
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        groups = [line.split(":")[2] for line in lines if line.split(":")[1] in ("", "name=systemd")]
        assert groups
        assert set(groups) == {f"/instar-{here.id}/routers/guestbook.dev"}


def test_the_group_of_a_router_that_is_gone_is_found(here: World) -> None:
    here.start("a")
    for pid in (*here.holders(), *here.haproxies()):  # a holder starts its HAProxy again
        os.kill(pid, signal.SIGKILL)
    until(lambda: here.processes() == [])
    shutil.rmtree(here.directory)
    assert list(here.groups())
    assert here.router.clear_orphans(lambda: []) == (str(ENV),)
    assert list(here.groups()) == []


def test_the_log_is_kept_short(tmp_path: Path) -> None:
    log = tmp_path / "holder.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    holder._trim(tmp_path)
    assert log.stat().st_size < 512 * 1024
    lines = log.read_text().splitlines()
    assert lines[-1] == "line 99999"
    assert lines[0].startswith("line ")
    before = log.read_text()
    holder._trim(tmp_path)
    assert log.read_text() == before


def test_a_router_whose_socket_was_removed_is_reached_again(here: World) -> None:
    here.start("a")
    with here.load() as load:
        for path in here.state.router_sockets.iterdir():
            path.unlink()
        here.router.ensure(here.plan())
        load.wait(20)
    assert load.failures == []
    assert here.router.observe(ENV).targets[0].weight == 100


def test_a_router_whose_files_were_removed_is_taken_over(here: World) -> None:
    """Its holder lives on, and must not bring its HAProxy back beside the new one."""
    here.start("a")
    shutil.rmtree(here.state.root)
    here.router.check(here.plan())
    here.router.ensure(here.plan())
    assert len(here.holders()) == 1
    until(lambda: len(here.haproxies()) == 1)
    here.router.attach(ENV, [here.backends[0].target])
    here.router.route(ENV, {"a": 1})
    assert here.client().get()[1] == b"a"


def test_sigterm_ends_the_holder_and_its_haproxy(here: World) -> None:
    here.router.ensure(here.plan())
    os.kill(here.holders()[0], 15)
    until(lambda: here.processes() == [])


def _order(here: World) -> str:
    return json.dumps(
        {
            "sockets": str(here.state.router_sockets),
            "groups": [],
            "haproxy": "/usr/sbin/haproxy",
            "environment": {},
            "socket": str(here.state.router_sockets / "none.sock"),
            "listening": [],
            "access": None,
            "answered": None,
            "follows": None,
        }
    )
