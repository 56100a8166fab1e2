"""The sandbox with real runc: what a command in it can reach, and that nothing of it outlives it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.host.isolation import sandbox
from instar.host.isolation.sandbox import Outcome, Sandbox, SandboxLimits
from instar.host.kernel import cgroups, idmap, mounts

pytestmark = pytest.mark.root
LIMITS = SandboxLimits(timeout_s=20, memory_bytes=256 << 20, tmp_bytes=4 << 20, pids=64)
ENV = {"PATH": "/usr/bin:/bin:/usr/sbin", "LC_ALL": "C.UTF-8", "A": "b"}


def make_root(folder: Path) -> Path:
    """A root whose programs are this machine's own, not writable."""
    root = folder / "outer" / "inner" / "root"
    sandbox.make_plate(root)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "usr/sbin/policy-rc.d").unlink()
    idmap.clone(Path("/usr"), root / "usr", attributes=idmap.RDONLY)
    return root


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(name=f"test-{os.getpid()}-{time.monotonic_ns()}", root=make_root(tmp_path), folder=tmp_path / "box")
    yield made
    sandbox.clear(made.name, made.folder)
    mounts.unmount_all(tmp_path)
    assert not cgroups.children("").intersection({f"instar-sandbox-{made.name}"})


def run(box: Sandbox, script: str, limits: SandboxLimits = LIMITS) -> Outcome:
    return box.run(["/bin/sh", "-euc", script], env=ENV, limits=limits)


def printed(box: Sandbox, script: str) -> list[str]:
    outcome = run(box, script)
    assert outcome.failure == "", outcome.output
    return outcome.output.splitlines()


def test_nothing_of_the_kernels_own_shows(box: Sandbox) -> None:
    script = "for name in kcore timer_list interrupts kmsg keys; do head -c 1 /proc/$name 2>/dev/null | wc -c; done"
    assert printed(box, script) == ["0"] * 5


def test_a_command_sees_a_fixed_world(box: Sandbox) -> None:
    assert printed(box, "hostname; id -u; umask; env | sort; ls /sys 2>&1 | wc -l") == [
        *("instar-bake", "0", "0022"),
        *("A=b", "HOME=/root", "LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin:/usr/sbin", "PWD=/"),
        "1",
    ]


def test_it_sees_no_process_and_no_network_but_its_own(box: Sandbox) -> None:
    script = "ls /proc | grep -c '^[0-9]' ; cat /proc/net/dev | tail -n +3 | cut -d: -f1; ip -br addr show lo"
    count, name, loopback = printed(box, script)
    assert int(count) <= 4
    assert name.strip() == "lo"
    assert "127.0.0.1/8" in loopback


@pytest.mark.parametrize(
    "forbidden",
    [
        "mount -t tmpfs tmpfs /tmp",
        "unshare -Ur true",
        "unshare -n true",
        "mknod /etc/null c 1 3",
        "echo 1 > /proc/sys/vm/drop_caches",
        "touch /usr/x",
        "chroot /proc/1/root mount -o remount,rw /usr",
    ],
)
def test_it_cannot_get_out(box: Sandbox, forbidden: str) -> None:
    outcome = run(box, f"if {forbidden}; then echo escaped; exit 9; fi")
    assert (outcome.returncode, "escaped" in outcome.output) == (0, False)


def test_it_can_do_what_maintainer_scripts_do(box: Sandbox) -> None:
    script = """
        echo x > /etc/x; chown 12:34 /etc/x; chmod 6755 /etc/x; stat -c '%u %g %a' /etc/x
        setpriv --reuid 5 --regid 5 --clear-groups id -u
        ln -s x /etc/y; echo > /dev/null; test -d /dev/shm
    """
    assert printed(box, script) == ["12 34 6755", "5"]
    assert (box.root / "etc/x").stat().st_uid == 12


def test_each_line_is_handed_on_and_the_tail_kept(box: Sandbox) -> None:
    lines: list[str] = []
    outcome = box.run(
        ["/bin/sh", "-c", "exec 2>&1; seq 1 9000; echo e >&2; exit 3"], env=ENV, limits=LIMITS, on_line=lines.append
    )
    assert lines == [*map(str, range(1, 9001)), "e"]
    assert outcome.output.endswith("9000\ne\n")
    assert len(outcome.output) <= 16_384
    assert (outcome.returncode, outcome.failure) == (3, "exit status 3")


def test_what_is_shown_can_be_read_and_not_written(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").write_text("seen")
    outcome = box.run(
        ["/bin/sh", "-c", "exec 2>&1; cat /tmp/in/file; touch /tmp/in/new"],
        env=ENV, limits=LIMITS, shown={"/tmp/in": tmp_path / "shown"},
    )  # fmt: skip
    assert outcome.output.startswith("seen")
    assert outcome.returncode == 1
    assert not (box.root / "tmp" / "in").exists()


def test_a_missing_program_is_named(box: Sandbox) -> None:
    outcome = box.run(["/bin/nothing"], env=ENV, limits=LIMITS)
    assert outcome.failure
    assert "/bin/nothing" in outcome.output


def test_what_hangs_is_ended_with_all_its_children(box: Sandbox) -> None:
    started = time.monotonic()
    outcome = run(
        box,
        "(trap '' TERM; setsid sleep 600) & echo started; sleep 600",
        SandboxLimits(timeout_s=0.7, memory_bytes=64 << 20, tmp_bytes=1 << 20),
    )
    assert (outcome.returncode, outcome.failure, outcome.output) == (None, "no end after 0.7 s", "started\n")
    assert time.monotonic() - started < 5


def test_a_child_that_was_left_behind_does_not_outlive_the_command(box: Sandbox) -> None:
    started = time.monotonic()
    assert run(box, "setsid sleep 600 & echo done").returncode == 0
    assert time.monotonic() - started < 5


def test_a_fork_bomb_ends(box: Sandbox) -> None:
    outcome = run(
        box,
        "f() { f | f & }; f; sleep 600",
        SandboxLimits(timeout_s=2, memory_bytes=64 << 20, tmp_bytes=1 << 20, pids=32),
    )
    assert outcome.failure


def test_want_of_memory_is_told(box: Sandbox) -> None:
    limits = SandboxLimits(timeout_s=20, memory_bytes=32 << 20, tmp_bytes=1 << 20)
    outcome = run(box, "exec python3 -S -c 'x = b\"y\" * (1 << 30)'", limits)
    assert outcome.failure == "out of memory: it may use 32 MiB"


def test_a_full_tmp_is_told(box: Sandbox) -> None:
    assert run(box, "head -c 8M /dev/zero > /tmp/x").failure == (
        "no space left on the disk or in /tmp, which holds 4 MiB"
    )


def test_a_full_disk_is_told(box: Sandbox, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", box.root / "etc"], check=True)
    full = Sandbox(name=box.name, root=box.root, folder=box.folder)
    assert "no space left" in run(full, "head -c 8M /dev/zero > /etc/x").failure


def test_what_a_killed_bake_leaves_is_ended_by_the_next(box: Sandbox, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from instar.host.isolation.sandbox import *
Sandbox(name={box.name!r}, root=Path({str(box.root)!r}), folder=Path({str(box.folder)!r})).run(
    ["/bin/sh", "-c", "echo up > /etc/up; sleep 600"], env={ENV!r},
    limits=SandboxLimits(timeout_s=600, memory_bytes=1 << 26, tmp_bytes=1 << 20))
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 10
    while not (box.root / "etc/up").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    cgroup = f"instar-sandbox-{box.name}"
    assert cgroups.members(cgroup)
    sandbox.clear(box.name, box.folder)
    assert not cgroups.members(cgroup)
    assert not (box.folder / "runc").exists()


@pytest.fixture(params=[False, True], ids=["in its own user namespace", "on the machine"])
def either(box: Sandbox, request: pytest.FixtureRequest) -> Sandbox:
    return dataclasses.replace(box, on_the_machine=request.param)


SOCKETS = """
import socket
for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_ALG", "AF_PACKET", "AF_CAN", "AF_TIPC"):
    try:
        kind = socket.SOCK_SEQPACKET if name in ("AF_ALG", "AF_TIPC") else socket.SOCK_STREAM
        socket.socket(getattr(socket, name), socket.SOCK_RAW if name in ("AF_NETLINK", "AF_CAN", "AF_PACKET") else kind)
        print(name, "made")
    except OSError as error:
        print(name, error.errno)
"""


def test_no_socket_leads_out(either: Sandbox) -> None:
    assert printed(either, f"python3 -c '{SOCKETS}'") == [
        *(f"{name} made" for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK")),
        *(f"{name} 97" for name in ("AF_VSOCK", "AF_ALG", "AF_PACKET", "AF_CAN", "AF_TIPC")),
    ]


def test_what_maintainer_scripts_do_works_and_files_belong_to_whom_they_belong(either: Sandbox) -> None:
    script = """
    mkdir /etc/made; touch /etc/made/file /etc/made/program; mkfifo /etc/made/pipe
    chown 103:4000000000 /etc/made/file; chmod 4755 /etc/made/program; chgrp 42 /etc/made
    chown -h 7 /etc/made; setpriv --reuid 33 --regid 33 --clear-groups id -u
    cp /usr/bin/true /etc/made/true; setcap cap_net_raw+ep /etc/made/true
    """
    assert printed(either, script) == ["33"]
    made = either.root / "etc/made"
    status = (made / "file").stat()
    assert (status.st_uid, status.st_gid) == (103, 4_000_000_000)
    assert (made / "program").stat().st_mode & 0o7777 == 0o4755
    assert (made.stat().st_uid, made.stat().st_gid) == (7, 42)
    assert os.getxattr(made / "true", "security.capability")[:4] == b"\x01\x00\x00\x02"  # version 2: of any namespace


def test_root_of_a_sandbox_is_nobody_on_the_machine(box: Sandbox) -> None:
    assert printed(box, "cat /proc/self/uid_map | tr -s ' '") == [" 0 0 4294967295"]
    inside = printed(box, "readlink /proc/self/ns/user")[0]
    assert inside != str(Path("/proc/self/ns/user").readlink())
    assert run(box, "echo 1 > /proc/sys/kernel/panic").returncode != 0
    assert run(box, "nice -n -5 true 2>&1 | grep -q denied").returncode == 0


def test_where_no_user_namespace_can_be_made_root_has_the_same_few_rights(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "makes_user_namespaces", lambda: False)
    assert printed(box, "readlink /proc/self/ns/user") == [str(Path("/proc/self/ns/user").readlink())]
    for command in ("mknod /tmp/device c 1 3", "mount -t tmpfs none /tmp", "echo 1 > /proc/sys/kernel/panic"):
        assert run(box, command).returncode != 0, command
