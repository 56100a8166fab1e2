"""What an instance cannot do, tried from within."""

from __future__ import annotations

import errno
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import USER, TinyWorld, wait_until

from instar.host.kernel import cgroups, idmap
from instar.host.kernel.namespaces import Unsupported
from instar.model.definition import Health, Limits, Stop, Tmp, Volume
from instar.model.release import Instance

pytestmark = pytest.mark.root
QUICK = Stop(grace_ms=2_000)


@pytest.fixture
def world(one_world: TinyWorld) -> Iterator[TinyWorld]:
    yield one_world
    one_world.sweep()


@pytest.fixture(scope="module")
def syscalls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that makes one system call by number and prints its errno."""
    folder = tmp_path_factory.mktemp("syscalls")
    source = folder / "try.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "int main(int n, char **a) {\n"
        "  long r = syscall(atol(a[1]), n > 2 ? strtol(a[2], 0, 0) : 0, 0, 0, 0, 0);\n"
        '  printf("%s %d\\n", a[1], r < 0 ? errno : 0); return 0; }\n'
    )
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", folder / "tree/srv/try", source], check=True)
    return folder / "tree"


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that makes sockets of FAMILY:TYPE:PROTOCOL, whatever their upper halves, and prints errnos."""
    folder = tmp_path_factory.mktemp("sockets")
    source = folder / "try.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "#include <sys/syscall.h>\n"
        "int main(int n, char **a) {\n"
        "  for (int i = 1; i < n; i++) { char *p = a[i];\n"
        "    long f = strtol(p, &p, 0), t = strtol(p + 1, &p, 0), o = strtol(p + 1, &p, 0);\n"
        '    printf("%s %d\\n", a[i], syscall(SYS_socket, f, t, o) < 0 ? errno : 0); } return 0; }\n'
    )
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", folder / "tree/srv/sockets", source], check=True)
    return folder / "tree"


GREEDY = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static char data[60000];

static long udp(int count) {  /* fill so many sockets, three packets each; return how much can be read then */
  static int there[4096];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof to;
  int from = socket(AF_INET, SOCK_DGRAM, 0);
  long got, sum = 0;
  for (int i = 0; i < count; i++) {
    there[i] = socket(AF_INET, SOCK_DGRAM, 0);
    to.sin_port = 0;
    bind(there[i], (void *)&to, sizeof to);
    getsockname(there[i], (void *)&to, &size);
    for (int each = 0; each < 3; each++) sendto(from, data, sizeof data, 0, (void *)&to, sizeof to);
  }
  for (int i = 0; i < count; i++)
    while ((got = recv(there[i], data, sizeof data, MSG_DONTWAIT)) > 0) sum += got;
  return sum;
}

int main(int n, char **a) {
  int count = 0, one = 1, packets;
  struct tpacket_req ring = {1 << 20, 4, 1 << 11, 2048};
  while (count < 4000 && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0) count++;
  printf("terminals %d %d\n", count, errno);
  printf("udp %ld\n", udp(400));
  packets = socket(AF_PACKET, SOCK_RAW, 0);
  for (int option = PACKET_RX_RING; option <= PACKET_TX_RING; option += PACKET_TX_RING - PACKET_RX_RING)
    printf("ring %d\n", setsockopt(packets, SOL_PACKET, option, &ring, sizeof ring) ? errno : 0);
  printf("option %d\n", setsockopt(packets, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) ? errno : 0);
  printf("reuse %d\n", setsockopt(packets, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ? errno : 0);
}
"""


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that takes all it can get of what this machine's kernel has for everybody."""
    folder = tmp_path_factory.mktemp("greedy")
    (folder / "greedy.c").write_text(GREEDY)
    (folder / "tree/srv").mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", folder / "tree/srv/greedy", folder / "greedy.c"], check=True)
    return folder / "tree"


def test_nobody_takes_what_the_kernel_has_for_all(world: TinyWorld, greedy: Path) -> None:
    image = world.image_of(world.home / "tree", greedy)
    release = world.release(["/srv/greedy"], capabilities=("CAP_NET_RAW",), limits=Limits(memory_bytes=16 << 20))
    instance = world.run(release, image=image)
    world.ended(instance)
    lines = [line.split(" ", 2)[2].split() for line in world.runtime.log_lines(instance.id)]
    said = {name: numbers for name, *numbers in reversed(lines)}
    assert said["terminals"] == ["128", str(errno.ENOSPC)]
    assert 0 < int(said["udp"][0]) <= 16 << 20, "what waits in sockets is limited as memory is"
    assert [numbers for name, *numbers in lines if name == "ring"] == [[str(errno.ENOPROTOOPT)]] * 2
    assert (said["option"], said["reuse"]) == (["0"], ["0"])
    world.destroy(instance, release)


def test_processes_have_no_power_and_can_get_none(world: TinyWorld) -> None:
    status = dict(
        line.split(":\t", 1) for line in world.output("grep -E '^(Cap|NoNew|Seccomp:|Uid)' /proc/self/status")
    )
    capabilities = {name: value for name, value in status.items() if name.startswith("Cap")}
    assert len(capabilities) == 5
    assert set(capabilities.values()) == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert set(status["Uid"].split()) == {str(USER)}


def test_no_user_of_an_instance_is_a_user_of_this_machine(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    first, second = world.run(release, 1), world.run(release, 2)
    owners = {_host_uid(world, instance) for instance in (first, second)}
    assert world.runtime.owners_stay is None
    assert len(owners) == 2, "each instance has users of its own"
    assert min(owners) > 1_000_000
    maps = {Path(f"/proc/{_pid(world, one)}/uid_map").read_text().split()[0] for one in (first, second)}
    assert maps == {"0"}
    world.destroy(first, release)
    world.destroy(second, release)


def test_mounts_namespaces_and_kin_are_refused(world: TinyWorld, syscalls: Path) -> None:
    numbers = {
        "mount": 165, "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "ptrace": 101, "keyctl": 250,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428,
        "move_mount": 429, "fsopen": 430, "mount_setattr": 442, "open_by_handle_at": 304, "process_vm_readv": 310,
    }  # fmt: skip
    image = world.image_of(world.home / "tree", syscalls)
    script = "; ".join(f"/srv/try {number}" for number in numbers.values())
    script += "; /srv/try 435; /srv/try 56 0x10000011; /srv/try 56 0x40000011"
    release = world.release(["sh", "-c", script])
    instance = world.run(release, image=image)
    world.ended(instance)
    lines = [line.split(" ", 2)[2].split() for line in world.runtime.log_lines(instance.id)]
    results = [(int(number), int(error)) for number, error in lines]
    assert results[: len(numbers)] == [(number, 1) for number in numbers.values()]
    assert results[len(numbers) :] == [(435, 38), (56, 38), (56, 38)], "clone3, clone with CLONE_NEWUSER, CLONE_NEWNET"
    world.destroy(instance, release)


def test_sockets_are_of_the_families_that_stay_inside(world: TinyWorld, sockets: Path) -> None:
    """AF_VSOCK leaves every namespace; a register may have something above the number that the kernel reads."""
    fine = ["1:1:0", "2:1:0", "2:2:0", "10:1:0", "16:3:0", "16:3:4", "16:3:15"]
    no_family = ["40:1:0", "0x100000028:1:0", "38:5:0", "15:3:2", "17:3:0", "44:3:0", "30:5:0", "21:5:0", "29:3:1"]
    no_protocol = ["16:3:9", "16:3:16", "16:3:11", "16:3:12", "16:3:21"]
    image = world.image_of(world.home / "tree", sockets)
    asked = [*fine, *no_family, *no_protocol]
    release = world.release(["/srv/sockets", *asked])
    instance = world.run(release, image=image)
    world.ended(instance)
    errors = dict(line.split(" ")[-2:] for line in world.runtime.log_lines(instance.id))
    assert {one: errors[one] for one in fine} == dict.fromkeys(fine, "0")
    assert {one: errors[one] for one in no_family} == dict.fromkeys(no_family, "97")
    assert {one: errors[one] for one in no_protocol} == dict.fromkeys(no_protocol, "93")
    world.destroy(instance, release)


def test_the_root_is_written_by_nobody(world: TinyWorld) -> None:
    lines = world.output("touch /x; touch /srv/x; touch /bin/x; echo x >>/bin/busybox; touch /etc/hosts; touch /sys/x")
    assert len(lines) == 6
    assert all("Read-only file system" in line or "Permission denied" in line for line in lines)
    assert all("Read-only file system" in line for line in lines[:3])


def test_not_even_by_root_of_this_machine_through_any_mount(world: TinyWorld) -> None:
    release = world.release(["sleep", "1000"], stop=QUICK)
    instance = world.run(release)
    root = f"/proc/{_pid(world, instance)}/root"
    enter = ["nsenter", "-t", str(_pid(world, instance)), "-m", "mount", "-o", "remount,rw", "/"]
    subprocess.run(enter, check=False, capture_output=True)
    for path in (f"{root}/x", f"{root}/srv/x", f"/run/instar-{world.id}/{instance.serial}/root/x"):
        with pytest.raises(OSError, match="Read-only file system"):
            Path(path).touch()
    world.destroy(instance, release)


def test_what_is_writable_is_not_executable(world: TinyWorld) -> None:
    volumes = (Volume(name="data", path="/var/lib/data"), Volume(name="tools", path="/var/lib/tools", exec=True))
    script = "for d in /tmp /run /dev/shm /var/lib/data /var/lib/tools; do "
    script += "cp /bin/busybox $d; $d/busybox true && echo $d; done"
    lines = world.output(script, volumes=volumes)
    assert [line for line in lines if "Permission denied" not in line] == ["/var/lib/tools"]
    assert len(lines) == 5
    assert world.output("cp /bin/busybox /tmp; /tmp/busybox echo ran", tmp=Tmp(exec=True)) == ["ran"]
    world.runtime.forget(world.release(["true"]).environment, [], volumes=True)


def test_what_the_kernel_shows_is_masked(world: TinyWorld) -> None:
    assert world.output("cat /proc/keys /proc/timer_list /proc/interrupts; ls -A /sys/firmware") == []
    script = "echo 1 >/proc/sys/kernel/core_pattern; echo h >/proc/sysrq-trigger; echo x >/sys/class/net/lo/mtu"
    lines = world.output(script)
    assert len(lines) == 3
    refused = ("Read-only file system", "Permission denied", "nonexistent directory")
    assert [line for line in lines if not line.endswith(refused)] == []


def test_limits_hold(world: TinyWorld) -> None:
    script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
    lines = world.output(script, limits=Limits(pids=20))
    assert any("can't fork" in line for line in lines)
    assert "all" not in lines
    hungry = "dd if=/dev/zero of=/tmp/x bs=1M count=100; exit 0"
    assert any("No space left" in line for line in world.output(hungry, tmp=Tmp(size_bytes=8 << 20)))
    release = world.release(["sh", "-c", "while :; do :; done"], limits=Limits(cpus_milli=100), stop=QUICK)
    instance = world.run(release)
    wait_until(lambda: _throttled(world, instance))
    world.destroy(instance, release)


def test_a_service_with_few_processes_starts(world: TinyWorld) -> None:
    assert world.output("echo well", limits=Limits(pids=1, memory_bytes=16 << 20)) == ["well"]


def test_capabilities_that_are_asked_for_are_given_inside_only(world: TinyWorld) -> None:
    lines = world.output(
        "grep CapEff /proc/self/status; ip link set eth0 mtu 1400 && echo done", capabilities=("NET_ADMIN",)
    )
    assert lines == [f"CapEff:\t{1 << 12:016x}", "done"]


def test_every_port_may_be_bound(world: TinyWorld) -> None:
    release = world.release(["httpd", "-f", "-p", "80", "-h", "/srv"], port=80, health=Health(kind="tcp"), stop=QUICK)
    instance = world.run(release)
    wait_until(lambda: world.runtime.probe(instance, release).healthy)
    world.destroy(instance, release)


def test_names_and_name_servers_make_sense_inside(world: TinyWorld) -> None:
    script = "cat /etc/hostname; ip -4 addr show eth0 | grep -o '[0-9.]*/32'; cat /etc/hosts /etc/resolv.conf; "
    script += "busybox hostname"
    name, address, *rest = world.output(script)
    assert name == "tiny-dev-1-1"
    assert rest[:3] == ["127.0.0.1 localhost", "::1 localhost", f"{address.split('/')[0]} {name}"]
    assert rest[-1] == name
    servers = [line.split()[1] for line in rest if line.startswith("nameserver")]
    assert not any(server.startswith("127.") for server in servers)


def test_instances_are_reached_but_not_by_one_another(world: TinyWorld) -> None:
    serve = world.release(["sh", "-c", "mkdir /tmp/w; echo hello >/tmp/w/f; httpd -f -p 8080 -h /tmp/w"], port=8080,
                          health=Health(kind="http", path="/f"), stop=QUICK)  # fmt: skip
    instance = world.run(serve, 7)
    wait_until(lambda: world.runtime.probe(instance, serve).healthy)
    (refused,) = world.output(f"wget -q -O - http://{world.address(instance)}:8080/f")
    assert "Connection refused" in refused
    with urllib.request.urlopen(f"http://{world.address(instance)}:8080/f", timeout=5) as answer:
        assert answer.read() == b"hello\n"
    world.destroy(instance, serve)


def test_without_user_namespaces_an_instance_runs_all_the_same(
    world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Unsupported("this kernel cannot")

    monkeypatch.setattr(idmap, "_shift", refuse)
    runtime = world.another_runtime()
    volumes = (Volume(name="data", path="/var/lib/data"),)
    release = world.release(["sh", "-c", "touch /var/lib/data/x /tmp/x /run/x && echo well; sleep 1000"],
                            volumes=volumes, stop=QUICK)  # fmt: skip
    instance = world.instance(release)
    runtime.create(instance, release, world.image)
    runtime.start(instance)
    world.printed(instance, "well")
    assert runtime.owners_stay == "this kernel cannot"
    assert any("no user namespace: this kernel cannot" in warning for warning in runtime.warnings())
    assert _host_uid(world, instance) == USER
    runtime.destroy(instance, release)
    assert world.traces() == []
    runtime.forget(release.environment, [instance.id], volumes=True)


def _pid(world: TinyWorld, instance: Instance) -> int:
    process = world.process(instance)
    assert process is not None
    return process.pid


def _host_uid(world: TinyWorld, instance: Instance) -> int:
    return Path(f"/proc/{_pid(world, instance)}").stat().st_uid


def _throttled(world: TinyWorld, instance: Instance) -> bool:
    for hierarchy in cgroups.hierarchies():
        path = hierarchy.mount / f"instar-{world.id}" / instance.id / "cpu.stat"
        if path.exists():
            fields = dict(line.split() for line in path.read_text().splitlines())
            if int(fields.get("nr_throttled", 0)) > 0:
                return True
    return False
