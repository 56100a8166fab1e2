"""Who may talk to whom: instances that lie about who they are, and what they may and may not reach."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from tiny_world import TinyWorld, wait_until

from instar.errors import HostError
from instar.host.kernel import namespaces
from instar.host.network import firewall, guests, network
from instar.host.network.netlink import ALONE, Netlink
from instar.model.definition import Health, Stop
from instar.model.environment import Allow, Network
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import NetworkPlan

pytestmark = pytest.mark.root
SERVE = "mkdir /tmp/w; echo well >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
METADATA, QUICK = "169.254.169.254", Stop(grace_ms=100)
REFUSED = os.strerror(errno.ECONNREFUSED)  # said at once, not by silence
ANYWHERE, _IP, _ARP = b"\xff" * 6, 0x0800, 0x0806


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    for environment in ("web", "db", "dev", "other"):
        with contextlib.suppress(HostError):
            one_world.runtime.set_network(plan(environment))
    one_world.sweep()


def plan(name: str, *allow: Allow, listen: tuple[str, ...] = (), **network: Any) -> NetworkPlan:
    reach = Network(allow=allow, **network)
    return NetworkPlan(environment=EnvironmentId(service="tiny", name=name), network=reach, listen=listen)


def serve(
    world: TinyWorld, environment: str, serial: int, capabilities: tuple[str, ...] = ("CAP_NET_RAW",)
) -> Instance:
    release = web(world, environment, capabilities)
    instance = world.run(release, serial)
    wait_until(lambda: world.runtime.probe(instance, release).healthy)
    return instance


def web(world: TinyWorld, environment: str, capabilities: tuple[str, ...] = ("CAP_NET_RAW",)) -> Release:
    health = Health(kind="http", path="/index.html")
    made = world.release(["sh", "-c", SERVE], environment=environment, port=8080, health=health, stop=QUICK)
    service = dataclasses.replace(made.service, capabilities=capabilities)
    return dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, service=service))


def inside(world: TinyWorld, instance: Instance, action: Callable[[], Any]) -> Any:
    """Do it as root in the instance's network: no instance can do more."""
    process = world.process(instance)
    assert process is not None
    return namespaces.inside_of(process.pid, ["net"], action)


def answer(address: str, port: int) -> str:
    """Return what comes of connecting: "connected", or the error."""
    try:
        socket.create_connection((address, port), timeout=0.7).close()
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
    return "connected"


def reaches(world: TinyWorld, instance: Instance, address: str, port: int = 8080) -> str:
    return str(inside(world, instance, lambda: answer(address, port)))


def send(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        for _ in range(3):
            raw.send(frame)


def arp(operation: int, mac: bytes, address: str, target: str) -> bytes:
    """Return what says that ``address`` is at ``mac``, or asks for ``target``."""
    said = struct.pack("!HHBBH", 1, _IP, 6, 4, operation) + mac + IPv4Address(address).packed
    return ANYWHERE + mac + struct.pack("!H", _ARP) + said + bytes(6) + IPv4Address(target).packed


def datagram(to: bytes, mac: bytes, source: str, target: str, port: int, *, number: int = 0, part: int = 0) -> bytes:
    """Return a packet of UDP from ``source`` to ``target``; with ``part`` 0x2000 the first fragment of one."""
    data = b"forged"
    udp = struct.pack("!HHHH", 4000, port, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number, part, 64, 17, 0)
    head += IPv4Address(source).packed + IPv4Address(target).packed
    total = sum(struct.unpack("!10H", head))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return to + mac + struct.pack("!H", _IP) + head[:10] + struct.pack("!H", checksum) + head[12:] + udp


def mac(world: TinyWorld, instance: Instance) -> bytes:
    return network.mac(IPv4Address(world.address(instance)))


def known(world: TinyWorld) -> Mapping[str, tuple[bytes, bool]]:
    bridge = socket.if_nametoindex(f"in{world.id}")
    with Netlink() as netlink:
        found = [one for one in netlink.neighbours() if one.link == bridge]
    return {str(one.address): (one.mac, one.fixed) for one in found}


def behind(world: TinyWorld, hardware: bytes) -> list[str]:
    """Return the ports of the bridge that a hardware address is taken to be behind."""
    with Netlink() as netlink:
        return [
            socket.if_indextoname(one.link)
            for one in netlink.neighbours(socket.AF_BRIDGE)
            if one.mac == hardware and socket.if_indextoname(one.link).startswith(f"iv{world.id}")
        ]


@contextlib.contextmanager
def heard(address: str, port: int) -> Iterator[Callable[[], bool]]:
    """Listen for datagrams; give what tells whether one came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((address, port))
        one.settimeout(0.4)

        def came() -> bool:
            with contextlib.suppress(TimeoutError):
                return bool(one.recv(100))
            return False

        yield came


@contextlib.contextmanager
def listening(address: str = "0.0.0.0") -> Iterator[int]:
    with socket.create_server((address, 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def metadata() -> Iterator[None]:
    """Have somebody outside of this machine answer at the address of a cloud's metadata."""
    name = f"instar-test-{os.getpid()}-cloud"
    script = f"""
        ip netns add {name} && ip link add clouda type veth peer name cloudb netns {name}
        ip addr add 169.254.169.1/24 dev clouda && ip link set clouda up
        ip -n {name} addr add {METADATA}/24 dev cloudb && ip -n {name} link set cloudb up
    """
    subprocess.run(["sh", "-ec", script], check=True)
    try:
        server = namespaces.inside(namespaces.name_path(name), lambda: socket.create_server((METADATA, 80)))
        with server:
            yield
    finally:
        subprocess.run(["sh", "-c", f"ip link del clouda; ip netns del {name}"], check=True)


def test_nobody_passes_for_another(world: TinyWorld) -> None:
    """ARP, packets and hardware addresses that are another's go nowhere, and nobody believes them."""
    victim, liar = serve(world, "web", 1), serve(world, "other", 2)
    gateway = str(network.gateway(world.runtime.network()).ip)
    before = known(world)
    assert all(before[world.address(one)] == (mac(world, one), True) for one in (victim, liar))
    router = network.mac(IPv4Address(gateway))
    for forged in (
        arp(2, mac(world, liar), world.address(victim), gateway),
        arp(2, mac(world, victim), world.address(victim), gateway),
        arp(1, mac(world, liar), gateway, world.address(victim)),
        arp(2, mac(world, liar), "203.0.113.7", gateway),
    ):
        inside(world, liar, lambda forged=forged: send(forged))
    with heard(gateway, 4001) as came:
        world.runtime.set_network(plan("other", Allow(to="machine")))
        world.runtime.set_network(plan("web", Allow(to="machine")))
        inside(world, liar, lambda: send(datagram(router, mac(world, liar), world.address(victim), gateway, 4001)))
        assert not came(), "another's address"
        inside(world, liar, lambda: send(datagram(router, mac(world, victim), world.address(liar), gateway, 4001)))
        assert not came(), "another's hardware address"
        inside(world, liar, lambda: send(datagram(router, mac(world, victim), world.address(victim), gateway, 4001)))
        assert not came(), "both"
        inside(world, liar, lambda: send(datagram(router, mac(world, liar), world.address(liar), gateway, 4001)))
        assert came(), "its own are let through"
    assert known(world) == before
    assert behind(world, mac(world, victim)) == [f"iv{world.id}1"]
    assert world.runtime.probe(victim, web(world, "web")).healthy


def test_no_frame_goes_from_one_link_to_another(world: TinyWorld) -> None:
    """Neither to its hardware address nor to everybody's, whatever it carries."""
    victim, liar = serve(world, "web", 1), serve(world, "other", 2)

    def hear() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind(("eth0", 3))
        raw.settimeout(0.4)
        return raw

    with inside(world, victim, hear) as ear:
        for frame in (
            datagram(mac(world, victim), mac(world, liar), world.address(liar), world.address(victim), 9),
            datagram(ANYWHERE, mac(world, liar), world.address(liar), "255.255.255.255", 9),
            arp(1, mac(world, liar), world.address(liar), world.address(victim)),
            mac(world, victim) + mac(world, liar) + b"\x86\xdd" + bytes(60),
            mac(world, victim) + mac(world, liar) + b"\x81\x00\x00\x05\x08\x00" + bytes(60),
            mac(world, victim) + mac(world, liar) + b"\x88\xb5" + b"anything" * 8,
        ):
            inside(world, liar, lambda frame=frame: send(frame))
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                assert ear.recv(2000)[6:12] != mac(world, liar)


def test_the_ports_are_tied_and_everything_goes_with_the_instance(world: TinyWorld) -> None:
    one = serve(world, "web", 1)
    with Netlink() as netlink:
        (link,) = (each for each in netlink.links() if each.name == f"iv{world.id}1")
        assert link.port == dict.fromkeys(link.port, False) | ALONE and link.forwards
        assert link.mtu == network.mtu()
    release = web(world, "web")
    world.destroy(one, release)
    assert world.address(one) not in known(world)
    assert world.entries.of(f"iv{world.id}1", world.address(one)) == ()


def test_nothing_is_reached_that_is_not_allowed(world: TinyWorld) -> None:
    one, two = serve(world, "web", 1), serve(world, "db", 2)
    gateway = str(network.gateway(world.runtime.network()).ip)
    assert (reaches(world, one, world.address(two)), reaches(world, two, world.address(one))) == (REFUSED, REFUSED)
    with listening() as port, metadata():
        assert reaches(world, one, gateway, port) == REFUSED
        assert reaches(world, one, METADATA, 80) == REFUSED
        assert answer(gateway, port) == answer(METADATA, 80) == "connected", "this machine itself reaches them"
    assert answer(world.address(one), 8080) == "connected"


def test_an_entry_opens_one_way_and_follows_whoever_it_names(world: TinyWorld) -> None:
    web_, database = serve(world, "web", 1), serve(world, "db", 2)
    world.runtime.set_network(plan("web", Allow(to="tiny/db", ports=("8080/tcp",)), Allow(to="tiny/later")))
    assert reaches(world, web_, world.address(database)) == "connected"
    assert reaches(world, web_, world.address(database), 8081) == REFUSED, "another port"
    assert reaches(world, database, world.address(web_)) == REFUSED, "the other way"
    world.destroy(database, web(world, "db"))
    again, later = serve(world, "db", 3), serve(world, "later", 4)
    assert reaches(world, web_, world.address(again)) == reaches(world, web_, world.address(later)) == "connected"
    stranger = serve(world, "other", 2)
    assert world.address(stranger) == world.address(database)
    assert reaches(world, web_, world.address(stranger)) == REFUSED, "the address is another's now"
    held = inside(world, web_, lambda: socket.create_connection((world.address(again), 8080), timeout=1))
    world.runtime.set_network(plan("web"))
    assert reaches(world, web_, world.address(again)) == REFUSED
    with held, pytest.raises(ConnectionResetError):  # what was open is cut, too
        held.settimeout(5)
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        held.recv(1)


def test_the_machine_a_router_and_a_network_can_be_allowed(world: TinyWorld) -> None:
    one, _ = serve(world, "web", 1), serve(world, "db", 2)
    gateway = str(network.gateway(world.runtime.network()).ip)
    with listening() as port, listening() as other, metadata():
        world.runtime.set_network(plan("web", Allow(to="machine", ports=(f"{port}/tcp",))))
        assert (reaches(world, one, gateway, port), reaches(world, one, gateway, other)) == ("connected", REFUSED)
        world.runtime.set_network(plan("db", listen=(f"0.0.0.0:{other}",)))
        world.runtime.set_network(plan("web", Allow(to="tiny/db"), Allow(to=f"{METADATA}/32", ports=("80/tcp",))))
        assert (reaches(world, one, gateway, port), reaches(world, one, gateway, other)) == (REFUSED, "connected")
        assert reaches(world, one, METADATA, 80) == "connected"
        world.runtime.set_network(plan("db"))
        assert reaches(world, one, gateway, other) == REFUSED, "its router listens there no more"


def test_one_instance_fills_nobodys_table(world: TinyWorld) -> None:
    """It gets what is its own, and the others go on."""
    world.runtime.set_network(plan("web", connections=64))
    one, two = serve(world, "web", 1), serve(world, "db", 2)

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as many:
            for number in range(3_000):
                with contextlib.suppress(OSError):
                    many.sendto(b"x", ("198.51.100.7", 1024 + number))

    inside(world, one, flood)
    held = Path("/proc/net/nf_conntrack").read_text().count(f"src={world.address(one)} ")
    assert 0 < held <= 64 + 5, held
    assert answer(world.address(two), 8080) == answer(world.address(one), 8080) == "connected"


def test_what_somebody_took_away_is_made_again(world: TinyWorld) -> None:
    """For those that run, too."""
    one, two = serve(world, "web", 1), serve(world, "db", 2)
    wanted = plan("web", Allow(to="tiny/db"))
    world.runtime.set_network(wanted)
    environment = EnvironmentId(service="tiny", name="web")
    assert world.another_runtime().network_plan(environment) == wanted
    table = f"instar_{world.id}"
    for family in ("ip", "bridge"):
        subprocess.run(["nft", "delete", "table", family, table], check=True)
    assert world.runtime.network_plan(environment) is None
    world.runtime.set_network(wanted)
    entries = world.entries
    for instance in (one, two):
        assert len(entries.of(f"iv{world.id}{instance.serial}", world.address(instance))) >= 7
    assert reaches(world, one, world.address(two)) == "connected"
    assert reaches(world, two, world.address(one)) == REFUSED


@pytest.mark.parametrize("how", ["down", "deleted", "without its address"])
def test_a_bridge_is_put_right_and_what_runs_is_reached_again(world: TinyWorld, how: str) -> None:
    one = serve(world, "web", 1)
    bridge = f"in{world.id}"
    assert not world.runtime.restore_network(), "nothing is amiss"
    if how == "down":
        subprocess.run(["ip", "link", "set", bridge, "down"], check=True)
    elif how == "deleted":
        subprocess.run(["ip", "link", "delete", bridge], check=True)
    else:
        subprocess.run(["ip", "address", "flush", "dev", bridge], check=True)
    assert world.runtime.restore_network()
    assert not world.runtime.restore_network(), "once is enough"
    with Netlink() as netlink:
        assert netlink.link(bridge).up
    if how != "deleted":  # what was a port of it is none of the new one: that is found, and it is replaced
        assert answer(world.address(one), 8080) == "connected"


def test_what_an_older_instar_left_goes_on_and_passes_for_nobody(world: TinyWorld) -> None:
    """Its link is tied to nothing; it reaches what it reached, but no instance of this Instar's."""
    old, new = serve(world, "web", 1), serve(world, "db", 2)
    names = (f"instar_{world.id}", f"in{world.id}")
    link = f"iv{world.id}1"
    address = guests.dismiss(names[0], link, world.address(old))
    assert address == world.address(old)
    with Netlink() as netlink:
        netlink.set_port(link, {name: not on for name, on in ALONE.items()})
    gateway = str(network.gateway(world.runtime.network()).ip)
    router = network.mac(IPv4Address(gateway))
    with listening() as port:
        assert reaches(world, old, gateway, port) == "connected"
    assert answer(world.address(old), 8080) == "connected"
    assert reaches(world, old, world.address(new)) != "connected"
    world.runtime.set_network(plan("db", Allow(to="machine")))
    before = known(world)
    inside(world, old, lambda: send(arp(2, mac(world, old), world.address(new), gateway)))
    inside(world, old, lambda: send(arp(2, mac(world, old), gateway, world.address(new))))
    with heard(gateway, 4001) as came:
        inside(world, old, lambda: send(datagram(router, mac(world, old), world.address(new), gateway, 4001)))
        inside(world, old, lambda: send(datagram(router, mac(world, new), world.address(new), gateway, 4001)))
        assert not came()
    assert known(world)[world.address(new)] == before[world.address(new)]
    assert behind(world, mac(world, new)) == [f"iv{world.id}2"]


def test_what_would_be_cut_is_known_before(world: TinyWorld) -> None:
    one, two = serve(world, "web", 1), serve(world, "db", 2)
    gateway = str(network.gateway(world.runtime.network()).ip)
    environment = EnvironmentId(service="tiny", name="web")
    with listening() as port:
        open_to = (Allow(to="machine", ports=(f"{port}/tcp",)), Allow(to="tiny/db"))
        world.runtime.set_network(plan("web", *open_to))
        held = [
            inside(world, one, lambda: socket.create_connection((gateway, port), timeout=1)),
            inside(world, one, lambda: socket.create_connection((world.address(two), 8080), timeout=1)),
        ]
        answered = socket.create_connection((world.address(one), 8080), timeout=1)
        assert world.runtime.cut(plan("web", *open_to), [one]) == {}
        machine = f"tcp {gateway}:{port} (this machine)"
        instance = f"tcp {world.address(two)}:8080 (an instance of tiny/db)"
        assert world.runtime.cut(plan("web"), [one]) == {one.id: tuple(sorted((machine, instance)))}
        assert world.runtime.cut(plan("web", open_to[1]), [one]) == {one.id: (machine,)}
        world.runtime.set_network(plan("db", listen=(f"{gateway}:{port}",)))
        assert world.runtime.cut(plan("web", open_to[1]), [one]) == {}, "it is the router's door"
        assert world.runtime.network_plan(environment) == plan("web", *open_to), "nothing of it was applied"
        for each in (*held, answered):
            each.close()


@pytest.mark.parametrize("text", [None, b"", b"[1]", b"\xff", b'{"boot_id": 5}', b"[" * 100_000, b"1" * 5_000])
def test_a_record_that_is_lost_or_damaged_is_made_again(world: TinyWorld, text: bytes | None) -> None:
    """As after a kill between the tables and what is written down of them: nobody is let go meanwhile."""
    wanted, environment = plan("web", Allow(to="tiny/db")), EnvironmentId(service="tiny", name="web")
    world.runtime.set_network(wanted)
    record = world.state.run / "network.json"
    table = f"instar_{world.id}"
    before = firewall.chains(table)
    record.unlink() if text is None else record.write_bytes(text)
    assert world.runtime.network_plan(environment) is None and world.runtime.inspect_network() == ()
    assert firewall.chains(table).keys() == before.keys()
    world.runtime.set_network(wanted)
    assert world.another_runtime().network_plan(environment) == wanted and world.runtime.inspect_network() == ()


def test_several_at_once_get_all_that_is_theirs(world: TinyWorld) -> None:
    table = f"instar_{world.id}"
    for family in ("ip", "bridge"):
        subprocess.run(["nft", "delete", "table", family, table], check=False)
    plans = [
        plan(environment, Allow(to=f"tiny/{other}"))
        for environment, other in (("web", "db"), ("db", "other"), ("other", "web"))
    ]

    def begin(number: int) -> Instance:
        runtime, release = world.another_runtime(), web(world, plans[number].environment.name)
        instance = world.instance(release, number + 1)
        runtime.set_network(plans[number])
        runtime.create(instance, release, world.image)
        runtime.start(instance)
        return instance

    with ThreadPoolExecutor(max_workers=3) as threads:
        made = list(threads.map(begin, range(3)))
    assert [world.runtime.network_plan(one.environment) for one in plans] == plans
    entries = world.entries
    assert all(len(entries.of(f"iv{world.id}{one.serial}", world.address(one))) >= 7 for one in made)
    assert world.runtime.inspect_network() == ()
    for index, one in enumerate(made):
        wait_until(lambda one=one: world.runtime.probe(one, web(world, one.environment.name)).healthy)
        assert reaches(world, made[index - 1], world.address(one)) == "connected"
        assert reaches(world, one, world.address(made[index - 1])) == REFUSED
