"""The address by which instances find an environment: who gets through, and to whom; where it goes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tiny_world import TinyWorld, wait_until

from instar.host.kernel import namespaces
from instar.host.network.netlink import Netlink
from instar.model.definition import Stop
from instar.model.environment import Allow, Network
from instar.model.release import EnvironmentId
from instar.providers.base import NetworkPlan

pytestmark = pytest.mark.root
DB, WEB = EnvironmentId(service="tiny", name="db"), EnvironmentId(service="tiny", name="web")


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorld]:
    made = TinyWorld(tmp_path_factory.mktemp("home"))
    yield made
    made.sweep()
    made.close()


def answer(host: str, port: int) -> str:
    """Return what comes of connecting: "connected", or the error."""
    try:
        socket.create_connection((host, port), timeout=0.7).close()
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
    return "connected"


@contextlib.contextmanager
def outside(network: str) -> Iterator[Callable[[Callable[[], str]], str]]:
    """Have another machine, which sends what is for ``network`` to this one; give what does something there."""
    name = f"instar-test-{os.getpid()}-outside"
    script = f"""
        ip netns add {name} && ip link add instaroa type veth peer name instarob netns {name}
        ip addr add 198.18.77.1/24 dev instaroa && ip link set instaroa up
        ip -n {name} addr add 198.18.77.2/24 dev instarob && ip -n {name} link set instarob up
        ip -n {name} route add {network} via 198.18.77.1
    """
    subprocess.run(["sh", "-ec", script], check=True)
    try:
        yield lambda action: namespaces.inside(namespaces.name_path(name), action)
    finally:
        subprocess.run(["sh", "-c", f"ip link del instaroa; ip netns del {name}"], check=True)


def addresses(world: TinyWorld) -> set[str]:
    with Netlink() as netlink:
        number = netlink.link(f"in{world.id}").number
        return {str(one.ip) for index, one in netlink.addresses() if index == number}


def test_who_may_gets_to_the_router_whoever_else_has_the_port_and_nobody_from_outside(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], environment="web", stop=Stop(grace_ms=100))
    instance = world.run(release)
    process = world.process(instance)
    assert process is not None
    pid = process.pid
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        host, _, at = world.runtime.name(DB, port).rpartition(":")
        with socket.create_server((host, int(at))) as router:

            def reached() -> str:
                return namespaces.inside_of(pid, ["net"], lambda: answer(host, port))

            assert reached() == os.strerror(111), "nobody allowed it"
            network = Network(allow=(Allow(to=str(DB), ports=(f"{port}/tcp",)),))
            world.runtime.set_network(NetworkPlan(environment=WEB, network=network, listen=()))
            assert reached() == "connected"
            router.settimeout(5)
            router.accept()[0].close()
            with outside(str(world.runtime.network())) as there:
                wait_until(lambda: there(lambda: answer("198.18.77.1", port)) == "connected", 10)
                assert there(lambda: answer(host, port)) == "no answer"
                assert there(lambda: answer(host, int(at))) == "no answer"
            assert answer(host, int(at)) == "connected", "this machine itself does"
        world.runtime.name(DB, port + 1)
        assert world.runtime.name(DB, port) == f"{host}:{at}", "it stays"


def test_it_is_there_again_after_the_bridge_was_away_and_goes_with_the_last_who_knows_it(world: TinyWorld) -> None:
    host = world.runtime.name(DB, 5432).rpartition(":")[0]
    assert host in addresses(world)
    subprocess.run(["ip", "link", "delete", f"in{world.id}"], check=True)
    assert world.runtime.restore_network()
    assert host in addresses(world)
    assert world.another_runtime().find_name(DB) == f"{host}:1"
    worker = world.state.instances / "worker-dev-1-1"
    worker.mkdir(parents=True)
    (worker / "hosts").write_text(f"{host} tiny.internal\n")
    world.runtime.let_go_of_names([])
    assert host in addresses(world), "an instance knows it"
    (worker / "hosts").unlink()
    worker.rmdir()
    world.runtime.let_go_of_names([DB])
    assert host in addresses(world), "the environment is there"
    world.runtime.let_go_of_names([])
    assert host not in addresses(world) and world.runtime.find_name(DB) is None
