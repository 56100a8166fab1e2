"""Network and user namespaces: making them, keeping them by a name, going into them.

A network namespace is kept by a bind mount in /run/netns, where ``ip netns`` finds it too. An instance's belongs to the
instance's user namespace, so that what the kernel asks of its owner (to bind low ports, to mount /sys) can be had
inside. Only a process of one thread may enter a new user namespace, hence a short-lived child.

What the kernel counts by user (inotify instances, namespaces, message queues, pending signals) counts for the user
inside and for whoever made the namespace: so it is made by the instance's own id, and one that uses up all of its own
takes nothing from another, or from root of this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from instar import process, syscalls
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.kernel import mounts
from instar.threads import apart
from instar.waiting import Deadline, until

NAMES = Path("/run/netns")
ID_COUNT = 65_536
# what systemd leaves unused between its containers' ids and the end of the signed numbers (its UIDS-GIDS.md)
_FIRST_ID, _RANGES = 0x7000_0000, 4_094

_CHILD_START_S = 5.0
T = TypeVar("T")


class Unsupported(Exception):
    """This machine makes no user namespaces, or cannot shift the owners of files into one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdRange:
    """The ids of this machine, ``first`` and the ``count`` from it, that stand for 0, 1, … in a user namespace."""

    first: int
    count: int = ID_COUNT

    @classmethod
    def number(cls, number: int) -> IdRange:
        """Return the range for ``number``; there are 4,094 of them, then they come round."""
        return cls(first=_FIRST_ID + (number % _RANGES) * ID_COUNT)


def name_path(name: str) -> Path:
    return NAMES / name


def make_network(name: str) -> None:
    """Make the network namespace ``name``, which belongs to this machine's own user namespace. Raises HostError."""

    def make() -> None:
        syscalls.unshare(syscalls.NEW_NETWORK)
        _keep(Path(f"/proc/self/task/{threading.get_native_id()}/ns/net"), name)

    _in_thread(make, f"make the network namespace '{name}'")


@contextlib.contextmanager
def make_user_and_network(name: str, ids: IdRange, user_path: Path) -> Iterator[int]:
    """Make a user namespace of ``ids``, kept at ``user_path``, and its network namespace ``name``, both the first id's.

    Yields a descriptor of the user namespace. Raises Unsupported where this machine makes none, HostError.
    """
    with _child_inside(ids.first, "--user", "--net") as pid:
        try:
            for file in ("uid_map", "gid_map"):
                Path(f"/proc/{pid}/{file}").write_text(f"0 {ids.first} {ids.count}\n")
            _keep(Path(f"/proc/{pid}/ns/net"), name)
            user_path.touch(mode=0o600)
            mounts.bind(Path(f"/proc/{pid}/ns/user"), user_path)
        except OSError as error:
            raise Unsupported(f"this machine makes no user namespace: {error.strerror}") from error
    descriptor = os.open(user_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exchanged(ids: IdRange, users: tuple[int, int], groups: tuple[int, int]) -> Iterator[int]:
    """Yield a descriptor of a user namespace as that of ``ids``, but for two users and two groups who change places.

    A mount that is shifted into it shows what belongs to the first of each pair as the second's, and the other way
    round. Raises Unsupported.
    """
    with _child_inside(ids.first, "--user") as pid:
        try:
            Path(f"/proc/{pid}/uid_map").write_text(exchange_map(ids, *users))
            Path(f"/proc/{pid}/gid_map").write_text(exchange_map(ids, *groups))
            descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Unsupported(f"this machine makes no user namespace: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def exchange_map(ids: IdRange, one: int, other: int) -> str:
    """Return the map of ``ids`` in which two have changed places. Source: user_namespaces(7), uid_map."""
    lines = [(one, ids.first + other, 1)]
    if one != other and one < ids.count:
        lines.append((other, ids.first + one, 1))
    begin = 0
    for each in (*sorted({one, other} & set(range(ids.count))), ids.count):
        if each > begin:
            lines.append((begin, ids.first + begin, each - begin))
        begin = each + 1
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in sorted(lines))


@contextlib.contextmanager
def _child_inside(owner: int, *kinds: str) -> Iterator[int]:
    """Yield the pid of a child in new namespaces of ``owner``. It reads until this process closes the pipe, or dies.

    It may make them whatever the machine says of users who may not: it keeps the one capability that this takes.
    """
    read_end, write_end = os.pipe()
    try:
        command = ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"]
        command += ["--inh-caps=+sys_admin", "--ambient-caps=+sys_admin", "unshare", *kinds, "cat"]
        child = process.spawn(command, log=Path(os.devnull), stdin=read_end)
        try:
            _wait_until_inside(child.pid, lambda: child.poll() is None)
            yield child.pid
        finally:
            child.kill()
            child.wait()
    finally:
        os.close(read_end)
        os.close(write_end)


def drop_network(name: str) -> bool:
    """Take the name of a network namespace away: it ends with its last process. Returns False where there is none."""
    path = name_path(name)
    if not path.exists():
        return False
    mounts.unmount_all(path)
    path.unlink(missing_ok=True)
    return True


def names(prefix: str) -> tuple[str, ...]:
    """Return the names of network namespaces that begin with ``prefix``."""
    return tuple(sorted(path.name for path in NAMES.glob(f"{prefix}*")))


def inside(namespace: Path, action: Callable[[], T]) -> T:
    """Call ``action`` in the network namespace at ``namespace``, in a thread of its own; return what it returns.

    Raises HostError where an OSError comes out of it.
    """

    def enter() -> T:
        _enter(namespace, syscalls.NEW_NETWORK)
        return action()

    return _in_thread(enter, f"set up the network namespace '{namespace.name}'")


def inside_of(pid: int, kinds: Sequence[str], action: Callable[[], T]) -> T:
    """Call ``action`` in namespaces (net, ipc, uts, cgroup) of the process ``pid``, in a thread of its own; return what
    it returns. Raises HostError where an OSError comes out of it, as when the process is gone."""

    def enter() -> T:
        for kind in kinds:
            _enter(f"/proc/{pid}/ns/{kind}", 0)
        return action()

    return _in_thread(enter, f"look into the namespaces of process {pid}")


def in_new_network(action: Callable[[], T]) -> T:
    """Call ``action`` in a network namespace that ends with the call. Raises HostError where an OSError comes out."""

    def enter() -> T:
        syscalls.unshare(syscalls.NEW_NETWORK)
        return action()

    return _in_thread(enter, "try a network namespace")


def _enter(namespace: str | Path, kind: int) -> None:
    """Take this thread into a namespace; ``kind`` 0: of whatever kind it is."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.enter(descriptor, kind)
    finally:
        os.close(descriptor)


def _keep(source: Path, name: str) -> None:
    NAMES.mkdir(mode=0o755, exist_ok=True)
    _prepare_names()
    name_path(name).touch(mode=0o444)
    mounts.bind(source, name_path(name))


def _prepare_names() -> None:
    """Mount the folder of the names on itself, as ``ip netns`` does at its first use: then it would hide what we keep
    there. Where something is in it already, it is left alone."""
    folder = os.open(NAMES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not mounts.share(NAMES) and not mounts.mounts_below(NAMES):
            mounts.bind(NAMES, NAMES)
            mounts.share(NAMES)
    finally:
        os.close(folder)


def _wait_until_inside(pid: int, lives: Callable[[], bool]) -> None:
    outside = os.stat("/proc/self/ns/user").st_ino  # noqa: PTH116 - a link of /proc, followed

    def inside() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{pid}/ns/user").stat().st_ino != outside
        return False

    until(lambda: inside() or not lives(), Deadline.after(_CHILD_START_S), every_s=0.0002)
    if not inside():
        raise Unsupported("this machine makes no user namespaces: is the sysctl user.max_user_namespaces 0?")


def _in_thread(action: Callable[[], T], what: str) -> T:
    """Namespaces are a thread's own: one that ends takes what it entered with it."""
    try:
        return apart(action)
    except OSError as error:
        raise HostError(f"cannot {what}: {error.strerror or error}") from error
