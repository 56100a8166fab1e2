"""A shell for an instance whose image has none: the host's static BusyBox, shown inside for as long as it is needed.

A folder that holds nothing but ``busybox`` is cloned, read-only, to a new folder in the instance's /tmp, which belongs
to the root inside; what is mounted there keeps it in its place. A process of ours stays by: when this one has closed
its end of a pipe, or was killed, it takes the mount and the folder away again. What it does in the instance's mount
namespace follows no link and starts no program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from instar import process, syscalls
from instar.errors import ComponentMissing, HostError
from instar.frozen import dataclass
from instar.host.isolation import programs
from instar.host.kernel import idmap
from instar.host.processes.forks import forked

PROGRAM = "busybox"
GET = "apt-get install busybox-static"
INSIDE = "/tmp"  # noqa: S108 - in an instance: a tmpfs of its own
_PREFIX = ".instar-toolbox-"
_DETACH, _NOFOLLOW = 2, 8
_NO_SETUID_FIXUP = 1 << 2  # Source: capabilities(7)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_ONLY = idmap.RDONLY | idmap.NOSUID | idmap.NODEV


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolbox:
    """Where it is: ``mounts`` is a descriptor of the instance's mount namespace; ``owner`` is who is root inside."""

    mounts: int
    owner: int
    name: str

    @property
    def program(self) -> str:
        """BusyBox as the instance sees it."""
        return f"{INSIDE}/{self.name}/{PROGRAM}"


def find() -> Path | None:
    """Return the static BusyBox of this machine, None where there is none."""
    found = process.find_program(PROGRAM)
    return found if found is not None and programs.is_static(found) else None


def get() -> Path:
    """Return the static BusyBox of this machine. Raises ComponentMissing."""
    found = find()
    if found is None:
        what = "is not static: it needs libraries" if process.find_program(PROGRAM) else "is not installed"
        raise ComponentMissing(f"cannot open the toolbox: busybox {what}", hint=GET)
    return found


def provide(folder: Path) -> Path:
    """Return a folder below ``folder`` that holds the machine's BusyBox and nothing else. Raises HostError."""
    source = get()
    try:
        content = source.read_bytes()
        made = folder / hashlib.sha256(content).hexdigest()[:16]
        if not (made / PROGRAM).is_file():
            draft = folder / f".{os.getpid()}-{secrets.token_hex(4)}"
            try:
                draft.mkdir(parents=True)
                draft.chmod(0o755)
                (draft / PROGRAM).write_bytes(content)
                (draft / PROGRAM).chmod(0o755)
                with contextlib.suppress(FileExistsError, OSError):
                    draft.rename(made)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        if not (made / PROGRAM).is_file():
            raise HostError(f"cannot make the toolbox '{made}'", hint="df -h shows whether the disk is full")
    except OSError as error:
        raise HostError(f"cannot make the toolbox below '{folder}': {error.strerror}") from error
    return made


@contextlib.contextmanager
def shown(source: Path, pid: int, owner: int) -> Iterator[Toolbox]:
    """Show the folder ``source`` in the instance of process ``pid`` inside; take it away afterwards. Raises HostError.

    ``owner`` is this machine's user that is root there.
    """
    try:
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot open the toolbox: the instance has ended ({error.strerror})") from error
    try:
        toolbox = Toolbox(mounts=mounts, owner=owner, name=f"{_PREFIX}{secrets.token_hex(8)}")
        with _kept(source, toolbox):
            yield toolbox
    finally:
        os.close(mounts)


@contextlib.contextmanager
def _kept(source: Path, toolbox: Toolbox) -> Iterator[None]:
    """The keeper's two pipes: it tells how the mounting went, and hears when this process is done or gone."""
    told, telling = os.pipe2(os.O_CLOEXEC)
    hearing, held = os.pipe2(os.O_CLOEXEC)
    try:
        with idmap.detached(source, attributes=_READ_ONLY, without=idmap.NOEXEC) as tree:
            keeper = forked(lambda: _keep(tree, toolbox, telling, hearing))
    except OSError as error:
        for descriptor in (told, telling, hearing, held):
            os.close(descriptor)
        raise HostError(f"cannot open the toolbox: {error.strerror}") from error
    os.close(telling)
    os.close(hearing)
    try:
        with open(told, "rb") as answer:  # noqa: PTH123 - a descriptor
            said = answer.read()
        if said != b"shown":
            raise HostError(f"cannot open the toolbox: {said.decode(errors='replace') or 'its keeper ended'}")
        yield
    finally:
        os.close(held)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(keeper, 0)


def _keep(tree: int, toolbox: Toolbox, telling: int, hearing: int) -> None:
    """The keeper's life. It holds nothing of its parent's, and no signal of a terminal ends it before its work is."""
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _close_all_but(tree, toolbox.mounts, telling, hearing)
    mounter = forked(lambda: _mount(tree, toolbox, telling))
    os.waitpid(mounter, 0)
    for descriptor in (tree, telling):
        os.close(descriptor)
    os.read(hearing, 1)
    _take_away(toolbox)


def _mount(tree: int, toolbox: Toolbox, telling: int) -> None:
    try:
        _enter(toolbox)
        folder = os.open(INSIDE, _FOLDER)
        with _as(toolbox.owner):
            os.mkdir(toolbox.name, 0o755, dir_fd=folder)
        idmap.attach(tree, os.open(toolbox.name, _FOLDER, dir_fd=folder))
        os.write(telling, b"shown")
    except OSError as error:
        os.write(telling, (error.strerror or str(error)).encode())


def _take_away(toolbox: Toolbox) -> None:
    with contextlib.suppress(OSError):
        _enter(toolbox)
        os.chdir(INSIDE)
        syscalls.unmount(toolbox.name, _DETACH | _NOFOLLOW)
        with _as(toolbox.owner):
            Path(toolbox.name).rmdir()


def _enter(toolbox: Toolbox) -> None:
    """Go into the instance's mount namespace: a process of one thread can, and none comes back."""
    syscalls.enter(toolbox.mounts, syscalls.NEW_MOUNTS)


@contextlib.contextmanager
def _as(owner: int) -> Iterator[None]:
    """Make and remove files as the root inside: a tmpfs of the instance's takes nobody whom it has no number for. All
    that this process is capable of stays with it: the folder may be one that only the instance's user writes to."""
    with contextlib.suppress(OSError):
        syscalls.set_securebits(_NO_SETUID_FIXUP)
    syscalls.set_file_owner(owner, owner)
    try:
        yield
    finally:
        syscalls.set_file_owner(0, 0)


def _close_all_but(*kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # that by which the folder was read
                os.close(descriptor)
