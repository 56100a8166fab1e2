"""A node as a box: process, network, mount, host name and IPC namespaces under one init, whose end takes all with it.

The box sees this machine's programs and its own folders; what it writes below /run, /var/lib and /var/log, its links,
routes and firewall rules are its own; /tmp is that of all its cluster's nodes. On the machine it has a link and a
cgroup that carry its name, and every process of it is in that cgroup, from before it is anything of the node: by that
alone a box is found and ended, whoever was killed while making it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusters import parts
from clusters.layout import Node, Unusable

_CGROUPS = Path("/sys/fs/cgroup")
_KERNELS = ("/proc", "/sys", "/dev")
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BEGINS_S = 10.0
_ENDS_S = 20.0
_TRIES = 3
# what the kubelet insists on of the whole machine: it is shown the values, and the machine keeps its own
_SHOWN_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A node on this machine. All of it is idempotent."""

    node: Node

    def is_up(self) -> bool:
        """Say whether the box is whole: its init runs, and everything was laid out in it."""
        return self._init() is not None

    def up(self, nodes: int) -> bool:
        """Make the box, and say whether it was missing; what an interrupted start has left of it is ended first.

        ``nodes``: how many the cluster has.
        """
        if self.is_up():
            return False
        self.down()
        self.node.folder.mkdir(parents=True, exist_ok=True)
        init = self._start_init()
        _run("ip", "link", "add", self.node.name, "type", "veth", "peer", "name", "eth0", "netns", str(init))
        _run("ip", "link", "set", self.node.name, "master", self.node.layout.bridge, "up")
        self._lay_out(init, nodes)
        draft = self._marker.with_suffix(".new")
        draft.write_text(json.dumps({"pid": init, "start_time": _start_time(init), "boot": _boot()}))
        draft.replace(self._marker)
        return True

    def down(self) -> None:
        """End every process of the box and remove what it has on the machine, as if its plug were pulled."""
        self._marker.unlink(missing_ok=True)
        wait_until(self._kill_all, f"the end of node {self.node.number}'s processes", _ENDS_S)
        wait_until(self._delete_link, f"the removal of the link {self.node.name}", _ENDS_S)
        wait_until(self._remove_cgroups, f"the removal of the cgroups {self.node.name}", _ENDS_S)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run something inside to its end, and return what it printed."""
        return subprocess.run(self.entering(*argv), capture_output=True, text=True, check=False, cwd="/")

    def entering(self, *argv: str) -> list[str]:
        """Return how something is run inside. Raises Unusable when the box is not up."""
        init = self._init()
        if init is None:
            raise Unusable(f"node {self.node.number} is not up: scripts/cluster node start {self.node.number}")
        return _enter(init, *argv)

    def start(self, part: str) -> bool:
        """Start a part unless it runs; say whether it was started. Raises Unusable when it ends at once."""
        argv = self.entering("setsid", "--fork", *parts.argv(self.node, part))
        if self.find(part):
            return False
        log = self.node.log(part)
        log.parent.mkdir(parents=True, exist_ok=True)
        environ = {"PATH": f"{self.node.layout.programs}:{_PROGRAMS}", "HOME": "/root", "LANG": "C.UTF-8"}
        with log.open("ab") as output:
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, cwd="/", check=True,
                preexec_fn=self._join,
            )  # fmt: skip
        wait_until(lambda: bool(self.find(part)), f"{part} of node {self.node.number}", _BEGINS_S, log)
        return True

    def end(self, part: str, number: signal.Signals) -> None:
        """End a part by a signal and wait for it; one that takes SIGTERM and stays is killed.

        A process that ends loses its command line first and its sockets last: what is waited for is its very end, or
        the next one of its kind would find its address taken.
        """
        parts.program(self.node, part)
        for sent in (number, signal.SIGKILL):
            with contextlib.ExitStack() as held:
                ending = [pidfd for pid in self.find(part) if (pidfd := _open(pid, held)) is not None]
                for pidfd in ending:
                    _send(pidfd, sent)
                deadline = time.monotonic() + _ENDS_S / 2
                if all(_has_ended(pidfd, deadline) for pidfd in ending):
                    return
        raise Unusable(f"cannot end {part} of node {self.node.number}")

    def find(self, part: str) -> list[int]:
        """Return the processes of a part, as the machine numbers them."""
        program = parts.program(self.node, part)
        return [pid for pid in self._processes() if _program_of(pid) == program]

    @property
    def _marker(self) -> Path:
        return self.node.folder / "box.json"

    def _init(self) -> int | None:
        try:
            known = json.loads(self._marker.read_text())
        except (OSError, ValueError):
            return None
        pid = int(known["pid"])
        is_same = known["boot"] == _boot() and known["start_time"] == _start_time(pid)
        return pid if is_same else None

    def _start_init(self) -> int:
        for group in self._cgroups():
            for folder in (group, group / "parts"):
                folder.mkdir(parents=True, exist_ok=True)
                _take_processors(folder)
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child"]
        log = self.node.log("box")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            above = subprocess.Popen(
                ["unshare", *namespaces, "--propagation", "private", "catatonit", "-P"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                start_new_session=True, preexec_fn=self._join,  # noqa: PLW1509 (there is one thread)
            )  # fmt: skip
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid in _children(above.pid) if _program_of(pid) == "catatonit"]
            return bool(found)

        wait_until(is_there, f"the init of node {self.node.number}", _BEGINS_S, log)
        return found[0]

    def _lay_out(self, init: int, nodes: int) -> None:
        folder = self.node.folder
        for name in ("cgroups", "lib", "log", "settings"):
            (folder / name).mkdir(exist_ok=True)
        for name, value in _SHOWN_SETTINGS.items():
            (folder / "settings" / name.replace("/", "_")).write_text(f"{value}\n")
        kept = [str(path) for path in (self.node.layout.state, self.node.layout.programs, "/usr", "/etc")]
        _let_go(init, kept)
        for argv in (*_mounts(folder, self.node.layout.shared), *_network(self.node, nodes)):
            _run(*_enter(init, *argv))

    def _cgroups(self) -> list[Path]:
        """Return the box's cgroup in each hierarchy of this machine."""
        return [root / self.node.name for root in hierarchies()]

    def _join(self) -> None:
        """Put this process into the box's cgroups: runs in a child, before it becomes what it is to be."""
        for group in self._cgroups():
            (group / "parts/cgroup.procs").write_text("0")

    def _processes(self, *, below: str = "parts") -> Iterator[int]:
        for group in self._cgroups():
            for file in (group / below).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    yield from map(int, file.read_text().split())
            if below == "parts":
                return  # they are the same in every hierarchy

    def _kill_all(self) -> bool:
        found = set(self._processes(below="."))
        for pid in found:
            _kill(pid, signal.SIGKILL)
        return not found

    def _delete_link(self) -> bool:
        """Delete the link, unless it goes by itself meanwhile, as it does with the last process's namespace."""
        link = Path("/sys/class/net", self.node.name)
        if link.exists():
            subprocess.run(["ip", "link", "delete", self.node.name], capture_output=True, check=False)
        return not link.exists()

    def _remove_cgroups(self) -> bool:
        for group in self._cgroups():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(group.exists() for group in self._cgroups())


def hierarchies() -> list[Path]:
    """Return the roots of this machine's cgroups: one, or with version 1 one for each controller."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(point) for _, point, kind, *_ in lines if kind in ("cgroup", "cgroup2")]


def _take_processors(group: Path) -> None:
    """Give a cgroup of version 1 its processors and memory, without which no process may join it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not (group / name).read_text().strip():
            (group / name).write_text((group.parent / name).read_text())


def _foreign(mountinfo: str, kept: Sequence[str]) -> list[str]:
    """Return the machine's other mounts, the last first: copies of them would keep disks and namespaces busy."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return [
        point
        for point in reversed(points)
        if point != "/"
        and not any(Path(point).is_relative_to(kernels) for kernels in _KERNELS)
        and not any(Path(path).is_relative_to(point) for path in kept)
    ]


def _let_go(init: int, kept: Sequence[str]) -> None:
    """Have a process's mount namespace be without the machine's other mounts.

    One whose folder the machine removes goes by itself, also just before it is let go of here: what counts is what is
    left. Raises Unusable when something stays.
    """
    said = ""
    for _ in range(_TRIES):
        foreign = _foreign(Path(f"/proc/{init}/mountinfo").read_text(), kept)
        if not foreign:
            return
        argv = _enter(init, "umount", "--lazy", *foreign)
        said = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/").stderr.strip()
    raise Unusable(f"cannot let go of the machine's mounts in a node: {said[-500:]}")


def _mounts(folder: Path, shared: Path) -> list[list[str]]:
    """Return how the box gets a /sys of its own network and what it may write, once it has let go of the rest."""
    cgroups = str(folder / "cgroups")
    return [
        ["mount", "--rbind", str(_CGROUPS), cgroups],
        ["umount", "--recursive", "--lazy", "/sys"],
        ["mount", "-t", "sysfs", "sysfs", "/sys"],
        ["mount", "--rbind", cgroups, str(_CGROUPS)],
        ["umount", "--recursive", "--lazy", cgroups],
        *(["mount", "--bind", str(folder / name), f"/var/{name}"] for name in ("lib", "log")),
        ["mount", "--bind", str(shared), "/tmp"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        ["mkdir", "/run/netns", "/run/lock", "/run/proc"],
        # pods with a user namespace may mount /proc only where an unmasked one is seen
        ["mount", "-t", "proc", "proc", "/run/proc"],
        *(
            ["mount", "--bind", str(folder / "settings" / name.replace("/", "_")), f"/proc/sys/{name}"]
            for name in _SHOWN_SETTINGS
            if Path("/proc/sys", name).exists()
        ),
        ["mount", "--make-rshared", "/"],  # within the box: what the kubelet mounts, containers see
    ]


def _network(node: Node, nodes: int) -> list[list[str]]:
    others = [node.layout.node(number) for number in range(nodes) if number != node.number]
    bridged = [f"net.bridge.bridge-nf-call-{tables}=1" for tables in ("iptables", "ip6tables")]
    bridged = [line for line in bridged if Path("/proc/sys", line.partition("=")[0].replace(".", "/")).exists()]
    return [
        ["hostname", node.name],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{node.address}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", "default", "via", node.layout.host_address],
        *(["ip", "route", "add", other.pods, "via", other.address] for other in others),
        ["sysctl", "-qw", "net.ipv4.ip_forward=1", *bridged],
    ]


def _enter(init: int, *argv: str) -> list[str]:
    return ["nsenter", "-t", str(init), "--mount", "--net", "--pid", "--uts", "--ipc", "--", *argv]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Unusable(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float, log: Path | None = None) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unusable(f"waited {timeout_s:.0f} s in vain for {what}{last_lines(log) if log else ''}")
        time.sleep(0.02)


def last_lines(log: Path) -> str:
    """Return the last lines of a log, to be put behind an error."""
    lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    return "".join(f"\n   {line[:300]}" for line in (f"last lines of {log}:", *lines))


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _open(pid: int, held: contextlib.ExitStack) -> int | None:
    """Return a descriptor of a process, to be closed with others; None when it is gone already."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    held.callback(os.close, pidfd)
    return pidfd


def _send(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _has_ended(pidfd: int, deadline: float) -> bool:
    """Wait for the end of a process and of all its threads; say whether it came in time."""
    ended, _, _ = select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
    return bool(ended)


def _program_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
