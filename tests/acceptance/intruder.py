"""What somebody with root on the machine does to a running instance behind Instar's back, each way a function.

Each takes the :class:`Victim`, and may yield what is to be undone by the test: processes that would stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from project import Project

_libc = ctypes.CDLL(None, use_errno=True)
_BIND, _REMOUNT, _SHARED, _NOSUID, _NODEV, _NOEXEC, _DETACH = 4096, 32, 1 << 20, 2, 4, 8, 2
_INTRUDER = Path(__file__).with_name("intruder.c")
_ENTER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
kinds, pid = sys.argv[1].split(","), sys.argv[2]
program = os.open(sys.argv[3], os.O_RDONLY) if sys.argv[3] != "memfd" else os.memfd_create("evil")
if sys.argv[3] == "memfd":
    os.write(program, open(sys.argv[4], "rb").read())
os.set_inheritable(program, True)
opened = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds]
for one in opened:
    if libc.setns(one, 0):
        sys.exit(f"cannot enter: {sys.argv[1]}")
if os.fork() == 0:
    os.execve(program, ["evil", *sys.argv[5:]], {"PATH": "/usr/bin"})
os.wait()
"""


@dataclass(kw_only=True)
class Victim:
    """An instance of ``project``'s dev environment, with whoever was let in."""

    project: Project
    name: str
    pid: int
    serial: int
    guests: list[subprocess.Popen[str]] = field(default_factory=list)
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return (self.project.home / "id").read_text().strip()

    @property
    def link(self) -> str:
        return f"iv{self.id}{self.serial:x}"

    @property
    def address(self) -> str:
        """Its own, as its hosts file says."""
        return (self.folder / "hosts").read_text().splitlines()[-1].split()[0]

    @property
    def served_by(self) -> int:
        """The process that the init started."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    @property
    def folder(self) -> Path:
        return self.project.home / "run/instances" / self.name

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    @property
    def group(self) -> str:
        return f"instar-{self.id}/{self.name}"

    def cgroup_file(self, *names: str) -> Path:
        """Return the first of ``names`` (v1's, v2's) that the instance's group has."""
        found = [path for name in names for path in Path("/sys/fs/cgroup").glob(f"*/{self.group}/{name}")]
        found += [path for name in names if (path := Path("/sys/fs/cgroup", self.group, name)).exists()]
        return found[0]

    def let_in(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start something that stays until the test ends it."""
        guest = subprocess.Popen(words, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
        self.guests.append(guest)
        return guest

    def enter(self, kinds: str, program: str | Path, *words: str, source: str = "") -> None:
        """Run ``program``, a file of this machine's ("memfd": one in memory, from ``source``), inside."""
        self.let_in(sys.executable, "-c", _ENTER, kinds, str(self.pid), program, source or "-", *words)
        time.sleep(0.3)

    def leave(self) -> None:
        for guest in self.guests:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
        for undo in self.undo:
            undo()


def within(pid: int, kinds: Sequence[str], action: Callable[[], None]) -> None:
    """Call ``action`` in namespaces of ``pid``, in a child."""
    child = os.fork()
    if child == 0:
        try:
            opened = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds]
            for one in opened:
                _check(_libc.setns(one, 0))
            action()
            os._exit(0)
        except BaseException as error:
            print(f"intruder: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def mount(pid: int, source: str, target: str, kind: str | None, flags: int) -> None:
    def act() -> None:
        _check(_libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, None))

    within(pid, ["mnt"], act)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# -- mounts ----------------------------------------------------------------------------------------------------------


def remount_the_root(victim: Victim) -> None:
    """The kernel refuses: what an instance's user namespace was given read-only stays so."""
    mount(victim.pid, "none", "/", None, _BIND | _REMOUNT | _NOSUID | _NODEV)


def remount_writable(victim: Victim) -> None:
    mount(victim.pid, "none", "/proc/sys", None, _BIND | _REMOUNT | _NOSUID | _NODEV | _NOEXEC)


def bind_a_file(victim: Victim) -> None:
    mount(victim.pid, "/etc/hosts", "/usr/bin/env", None, _BIND)


def bind_a_folder(victim: Victim) -> None:
    mount(victim.pid, "/tmp", "/usr/share", None, _BIND)


def tmpfs_over_the_service(victim: Victim) -> None:
    mount(victim.pid, "tmpfs", "/srv", "tmpfs", 0)


def unmount_something(victim: Victim) -> None:
    within(victim.pid, ["mnt"], lambda: _check(_libc.umount2(b"/dev/mqueue", 0)))


def hide_a_mount_behind_an_error(victim: Victim) -> None:
    """The secrets can't be looked at any more: all else must be."""
    shutil.move(victim.project.home / "secrets/key", victim.project.home / "secrets/key.away")
    tmpfs_over_the_service(victim)


def share_a_mount(victim: Victim) -> None:
    mount(victim.pid, "none", "/tmp", None, _SHARED)


def let_tmp_run(victim: Victim) -> None:
    mount(victim.pid, "none", "/tmp", None, _BIND | _REMOUNT)


def swap_a_layer_s_mount(victim: Victim) -> None:
    base = json.loads((victim.folder / "made.json").read_text())["layers"][-2]  # the last is the plate
    layer = victim.project.home / "run/mounts" / base.removeprefix("sha256:")[:16]
    _check(_libc.umount2(os.fsencode(layer), _DETACH))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layer], check=True)


# -- processes -------------------------------------------------------------------------------------------------------


def _put(victim: Victim, source: str | Path, target: Path) -> Path:
    """Copy a file to where only the instance's own users may make one."""
    found = Path(f"/proc/{victim.pid}").stat()

    def act() -> None:
        data = Path(source).read_bytes()
        folder = os.open(target.parent, os.O_RDONLY)
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)
        file = os.open(target.name, os.O_WRONLY | os.O_CREAT, 0o755, dir_fd=folder)
        assert os.write(file, data) == len(data)

    within(victim.pid, [], act)
    return target


def run_from_tmp(victim: Victim) -> None:
    """Everything of the instance's is entered, and a program of its /tmp is run there."""
    let_tmp_run(victim)
    evil = _put(victim, "/bin/sleep", victim.root / "tmp/evil")
    victim.enter("user,mnt,pid,net,ipc,uts,cgroup", evil, "100")


def run_from_a_volume(victim: Victim) -> None:
    evil = victim.project.home / "volumes/hello/dev/data/evil"
    shutil.copy("/bin/sleep", evil)
    victim.enter("user,mnt,pid,net,ipc,uts,cgroup", evil, "100")


def run_from_memory(victim: Victim) -> None:
    victim.enter("user,mnt,pid,net,ipc,uts,cgroup", "memfd", "100", source="/bin/sleep")


def preload(victim: Victim) -> None:
    let_tmp_run(victim)
    library = next(Path("/lib").glob("*-linux-gnu/libm.so.6"))
    _put(victim, library, victim.root / "tmp/evil.so")
    words = ["nsenter", "-t", str(victim.pid), "-m", "-p", "env", "LD_PRELOAD=/tmp/evil.so", "sleep", "100"]
    victim.let_in(*words)
    time.sleep(0.3)


def inject_a_mapping(victim: Victim) -> None:
    program = victim.project.folder.parent / "intruder"
    subprocess.run(["gcc", "-O1", "-o", program, _INTRUDER], check=True)
    subprocess.run([program, str(victim.served_by)], check=True, stdout=subprocess.DEVNULL)


def join_the_network(victim: Victim) -> None:
    victim.enter("net", "/bin/sleep", "100")


def join_the_group(victim: Victim) -> None:
    guest = victim.let_in("sleep", "100")
    victim.cgroup_file("cgroup.procs").write_text(str(guest.pid))


def put_in_a_process(victim: Victim) -> None:
    """runc itself puts it in, with everything that runc gives the instance's own; the init takes it in."""
    runc = ["runc", "--root", str(victim.project.home / "run/runc"), "exec", "--detach", victim.name]
    subprocess.run([*runc, "sh", "-c", "sleep 100 & exit 0"], check=True, stdin=subprocess.DEVNULL)
    time.sleep(0.3)


_DEBUG = """
import ctypes, sys, time
call = ctypes.CDLL(None).ptrace
call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
assert call(0x4206, int(sys.argv[1]), None, None) == 0
time.sleep(100)
"""


def debug(victim: Victim, pid: int) -> None:
    """Attach to a process, which goes on."""
    victim.let_in(sys.executable, "-c", _DEBUG, str(pid))
    time.sleep(0.5)


def debug_the_service(victim: Victim) -> None:
    debug(victim, victim.served_by)


def debug_conmon(victim: Victim) -> None:
    debug(victim, _keeper(victim))


def put_in_one_with_another_filter(victim: Victim) -> None:
    """Everything is as runc does it, but the system calls that are let through."""
    config = json.loads((victim.folder / "config.json").read_text())
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    state = victim.project.home / "run/runc" / victim.name / "state.json"
    kept = state.read_text()
    made = json.loads(kept)
    made["config"]["seccomp"]["default_action"] = 4  # allow
    state.write_text(json.dumps(made))
    put_in_a_process(victim)
    state.write_text(kept)


def take_it_out_of_its_limits(victim: Victim) -> None:
    roots = (Path(hierarchy, "cgroup.procs") for hierarchy in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"))
    next(root for root in roots if root.exists()).write_text(str(victim.pid))


def another_in_its_place(victim: Victim) -> None:
    guest = victim.let_in("nsenter", "-t", str(victim.pid), "-n", "sleep", "100")
    time.sleep(0.2)
    victim.cgroup_file("cgroup.procs").write_text(str(guest.pid))
    os.kill(victim.pid, signal.SIGKILL)
    time.sleep(0.2)


# -- limits, settings, network ---------------------------------------------------------------------------------------


def raise_the_memory_limit(victim: Victim) -> None:
    with contextlib.suppress(OSError):  # where swap is limited too, that comes first
        victim.cgroup_file("memory.memsw.limit_in_bytes", "memory.swap.max").write_text(str(512 << 20))
    victim.cgroup_file("memory.limit_in_bytes", "memory.max").write_text(str(512 << 20))


def raise_the_process_limit(victim: Victim) -> None:
    victim.cgroup_file("pids.max").write_text("max")


def _ip(victim: Victim, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(victim.pid), "-n", "ip", *words], check=True)


def freeze_it(victim: Victim) -> None:
    file = victim.cgroup_file("freezer.state", "cgroup.freeze")
    frozen, thawed = ("FROZEN", "THAWED") if file.name == "freezer.state" else ("1", "0")
    file.write_text(frozen)

    def thaw() -> None:
        with contextlib.suppress(OSError):
            file.write_text(thawed)

    victim.undo.append(thaw)


def change_a_limit_of_its_init(victim: Victim) -> None:
    subprocess.run(["prlimit", "--pid", str(victim.pid), "--nofile=100:100"], check=True)


def put_in_one_that_is_spared(victim: Victim) -> None:
    """When memory is short others are ended, and it may leave a core."""
    victim.let_in("nsenter", "-t", str(victim.pid), "-a", "sleep", "100")
    time.sleep(0.3)


def add_an_address(victim: Victim) -> None:
    _ip(victim, "address", "add", "203.0.113.7/32", "dev", "eth0")


def add_a_route(victim: Victim) -> None:
    _ip(victim, "route", "add", "203.0.113.0/24", "dev", "eth0", "table", "77")


def add_a_rule(victim: Victim) -> None:
    _ip(victim, "rule", "add", "from", "203.0.113.0/24", "table", "77")


def add_a_link(victim: Victim) -> None:
    _ip(victim, "link", "add", "evil", "type", "veth", "peer", "name", "evil2")


def add_a_table(victim: Victim) -> None:
    subprocess.run(["nsenter", "-t", str(victim.pid), "-n", "nft", "add", "table", "ip", "evil"], check=True)


def listen(victim: Victim) -> None:
    code = "import socket, time; s = socket.create_server(('0.0.0.0', 9999)); time.sleep(100)"
    victim.let_in("nsenter", "-t", str(victim.pid), "-n", sys.executable, "-c", code)
    time.sleep(0.5)


def change_a_setting(victim: Victim) -> None:
    within(victim.pid, ["net"], lambda: _write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"))


def change_the_host_name(victim: Victim) -> None:
    within(victim.pid, ["uts"], lambda: socket.sethostname("evil"))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


# -- who keeps it, and who sends it traffic ----------------------------------------------------------------------------


def _keeper(victim: Victim) -> int:
    return int((victim.folder / "conmon.pid").read_text())


def kill_conmon(victim: Victim) -> None:
    os.kill(_keeper(victim), signal.SIGKILL)


def stop_conmon(victim: Victim) -> None:
    os.kill(_keeper(victim), signal.SIGSTOP)
