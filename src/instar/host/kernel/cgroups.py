"""Control groups, whatever the layout: v1, v2, or v1 with an empty v2 beside it (hybrid).

A group has one name, ``PARENT/CHILD``, in every hierarchy that is mounted. runc makes it and sets its limits; here it
is read, emptied and removed. A named hierarchy without controllers (systemd's own) and v2 say which processes belong
together: what must not be ended with the session that started it is moved there.

What works for a group outside of it, as conmon does, is in its group ``keeper`` where processor time is counted, so
that it shares the group's limit; it is none of the group's members, and nothing that is said of those is said of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.processes import proc
from instar.waiting import Deadline

_PATIENCE_S = 5.0
_POLL_S = 0.002
_LINKS_OF_A_LEAF = 2
_KEEPER = "keeper"
_BUFFERS = "memory.kmem.tcp.limit_in_bytes"  # which counts those of UDP too. Source: linux/net/core/sock.c
_CONTROLLERS = frozenset({"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Hierarchy:
    """``controllers`` is empty for v2, whose own files say more, and for a v1 hierarchy that only has a name."""

    mount: Path
    controllers: frozenset[str]
    unified: bool

    @property
    def names(self) -> frozenset[str]:
        """What it is looked for by: its own name and its controllers'."""
        return self.controllers | {self.mount.name}

    @property
    def counts_time(self) -> bool:
        if self.unified:  # beside v1, it has the controllers that nobody mounted there: none of these
            with contextlib.suppress(OSError):
                return "cpu" in (self.mount / "cgroup.controllers").read_text().split()
            return False
        return not self.controllers.isdisjoint({"cpu", "cpuacct"})

    @property
    def groups_only(self) -> bool:
        return not self.controllers


@functools.cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """Return what is mounted. Source: proc(5), mountinfo; cgroups(7)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").rstrip("\n").split("\n"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            controllers = frozenset(options.split(",")) & _CONTROLLERS
            found.append(Hierarchy(mount=Path(before.split()[4]), controllers=controllers, unified=kind == "cgroup2"))
    return tuple(found)


def layout() -> str:
    """Return v1, v2 or hybrid; "none" where no hierarchy is mounted."""
    found = hierarchies()
    unified = any(hierarchy.unified for hierarchy in found)
    if any(hierarchy.controllers for hierarchy in found):
        return "hybrid" if unified else "v1"
    return "v2" if unified else "none"


def limits_swap() -> bool:
    """Tell whether a group's swap can be limited: v1 must have been told to count it, v2 does when there can be any."""
    for hierarchy in hierarchies():
        if "memory" in hierarchy.controllers:
            return (hierarchy.mount / "memory.memsw.limit_in_bytes").exists()
    return Path("/proc/swaps").exists()


def members(name: str) -> frozenset[int]:
    """Return the processes of the group and of the groups below it, in any hierarchy."""
    return frozenset().union(*members_by_hierarchy(name))


def members_by_hierarchy(name: str) -> tuple[frozenset[int], ...]:
    """Return the processes of the group and of the groups below it, for each hierarchy that has the group."""
    _check_name(name)
    groups = (f"{hierarchy.mount}/{name}" for hierarchy in hierarchies())
    return tuple(frozenset(_members_below(group)) for group in groups if os.path.isdir(group))  # noqa: PTH112


def members_in(hierarchy: Hierarchy, name: str) -> frozenset[int]:
    """Return the processes of the group and of the groups below it, in one hierarchy."""
    _check_name(name)
    return frozenset(_members_below(f"{hierarchy.mount}/{name}"))


def below(name: str) -> tuple[str, ...]:
    """Return the groups below a group, but for the keeper's: each limits what is in it once more."""
    found = set()
    for hierarchy in hierarchies():
        folder = f"{hierarchy.mount}/{name}"
        with contextlib.suppress(FileNotFoundError):  # it has no group there
            if os.stat(folder).st_nlink != _LINKS_OF_A_LEAF:  # noqa: PTH116 - as below
                found |= {entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)}
    return tuple(sorted(found - {_KEEPER}))


def is_frozen(name: str) -> bool:
    """Tell whether the group's processes are held still. Raises OSError."""
    for hierarchy in hierarchies():
        file, frozen = ("cgroup.events", b"frozen 1") if hierarchy.unified else ("freezer.state", b"FR")
        if hierarchy.unified or "freezer" in hierarchy.controllers:
            with contextlib.suppress(FileNotFoundError):  # it has no group there
                if frozen in proc.read(f"{hierarchy.mount}/{name}/{file}"):  # v1 says FREEZING, then FROZEN
                    return True
    return False


def thaw(name: str) -> None:
    """Let the group's processes run on where somebody holds them still: what is frozen can't even be ended."""
    for group in _groups(name):
        for file, running in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                if (group / file).exists():
                    (group / file).write_text(running)


def limit_buffers(name: str, size_bytes: int) -> None:
    """Limit what the group's sockets of IP hold in the kernel, where that is counted apart from its memory: with v1.
    Raises HostError."""
    for hierarchy in hierarchies():
        if "memory" in hierarchy.controllers:
            try:
                (hierarchy.mount / name / _BUFFERS).write_text(str(size_bytes))
            except FileNotFoundError:  # a kernel without, which counts no buffers at all
                continue
            except OSError as error:
                raise HostError(f"cannot limit the buffers of '{name}': {error.strerror}") from error


def leaves(name: str) -> tuple[Path, ...]:
    """Return the directories of the group ``name`` where groups only say what belongs together, and limit nothing."""
    return tuple(hierarchy.mount / name for hierarchy in hierarchies() if hierarchy.groups_only)


def join_leaf(name: str, pid: int) -> None:
    """Move ``pid`` to the leaves of the group ``name``, and leave its limits as they are."""
    for group in leaves(name):
        with contextlib.suppress(ProcessLookupError):
            while not _joined(group, pid):
                pass


def join_keeper(name: str, pid: int) -> None:
    """Have the time that ``pid`` takes count to the group ``name``, which exists. Raises HostError."""
    try:
        for group in _keepers(name):
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        pass
    except OSError as error:
        raise HostError(f"cannot count the time of process {pid} to '{name}': {error.strerror}") from error


def is_keeper(name: str, pid: int) -> bool:
    """Tell whether the time that ``pid`` takes counts to the group ``name``."""
    return all(pid in _pids(group) for group in _keepers(name))


def remove_leaf(name: str) -> None:
    """Remove the leaves of the group ``name``, and the groups above it that are empty then.

    Raises HostError while it has processes.
    """
    remove(name)
    while "/" in name:
        name = name.rpartition("/")[0]
        for group in leaves(name):
            _removed(group)


def remove_if_empty(name: str) -> None:
    """Remove the group where there is none below it and no process in it."""
    for hierarchy in hierarchies():
        _removed(hierarchy.mount / name)


def kill(name: str) -> None:
    """End every process of the group at once. Raises HostError when some are still there after five seconds."""
    deadline = Deadline.after(_PATIENCE_S)
    while pids := members(name):
        for group in _groups(name):
            if group.name != _KEEPER and not (group / _KEEPER).exists():  # it would end the keeper too
                with contextlib.suppress(OSError):
                    (group / "cgroup.kill").write_text("1")
        for pid in pids:
            _kill_member(pid, name)
        if is_frozen(name):
            thaw(name)
        if deadline.is_over:
            raise HostError(
                f"cannot end '{name}': processes {_listed(pids)} do not die",
                hint="they wait for a device or a file system that does not answer; look at /proc/PID/stack",
            )
        time.sleep(_POLL_S)


def remove(name: str) -> None:
    """Remove the group everywhere. Raises HostError while it has processes."""
    deadline = Deadline.after(_PATIENCE_S)
    for group in _groups(name):
        while not _removed(group):
            if deadline.is_over:
                raise HostError(f"cannot remove the cgroup '{group}': it is in use by {_listed(_pids(group))}")
            time.sleep(_POLL_S)


def children(parent: str) -> frozenset[str]:
    """Return the names of the groups directly below ``parent``, in any hierarchy."""
    found: set[str] = set()
    for hierarchy in hierarchies():
        with contextlib.suppress(FileNotFoundError):
            found.update(entry.name for entry in (hierarchy.mount / parent).iterdir() if entry.is_dir())
    return frozenset(found)


def out_of_memory_kills(name: str) -> int:
    """Return how many processes of the group were killed because it was out of memory. 0 for one that is gone."""
    for hierarchy in hierarchies():
        for file in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                fields = dict(line.split() for line in (hierarchy.mount / name / file).read_text().splitlines())
                return int(fields.get("oom_kill", 0))
    return 0


def _check_name(name: str) -> None:
    """Refuse a name that leads to another's group."""
    if not name or {"", ".", ".."} & set(name.split("/")):
        raise HostError(f"cannot use the cgroup '{name}': it is not a name of one")


def _groups(name: str) -> list[Path]:
    """Return the group's directories, the deepest first."""
    _check_name(name)
    found = []
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy.mount / name, topdown=False):
            found.append(Path(folder))
    return found


def _members_below(group: str) -> Iterator[int]:
    """Yield the group's processes, as cheaply as can be: this is asked often.

    Whether a group has others below shows in its links: its name, its own ".", and the ".." of each below.
    """
    try:
        yield from map(int, proc.read(f"{group}/cgroup.procs").split())
        if os.stat(group).st_nlink != _LINKS_OF_A_LEAF:  # noqa: PTH116 - a Path takes three times as long
            for entry in os.scandir(group):
                if entry.is_dir(follow_symlinks=False) and entry.name != _KEEPER:
                    yield from _members_below(entry.path)
    except OSError:
        return


def _keepers(name: str) -> list[Path]:
    _check_name(name)
    return [hierarchy.mount / name / _KEEPER for hierarchy in hierarchies() if hierarchy.counts_time]


def _pids(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _kill_member(pid: int, name: str) -> None:
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _is_member(pid, name):  # still the one that the group listed
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _is_member(pid: int, name: str) -> bool:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return any(f"/{name}/" in line.split(":", 2)[2] + "/" for line in lines)


def _joined(group: Path, pid: int) -> bool:
    """Make the group and move ``pid`` there; False when the group, empty until then, was removed meanwhile."""
    try:
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(str(pid))
    except FileNotFoundError:
        return False
    return True


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _listed(pids: frozenset[int] | list[int]) -> str:
    return ", ".join(map(str, sorted(pids))) or "none"
