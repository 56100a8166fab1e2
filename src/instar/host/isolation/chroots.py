"""Whether this process is below a root that chroot has given it.

Whoever joins an instance's mounts begins at the root of its mount namespace. Made by somebody in a chroot, that one
still is the machine's, outside of both: ``runc exec`` would run a command there.
"""

from __future__ import annotations

import functools
import os

from instar import syscalls
from instar.errors import HostError
from instar.host.processes.forks import forked

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def require_none(verb: str) -> None:
    """Raise HostError in a chroot."""
    if is_chrooted():
        raise HostError(
            f"cannot {verb}: Instar runs in a chroot, and the command would run outside of it and of the instance",
            hint="enter it by pivot_root (systemd-nspawn, or a container, do), or run Instar on the machine itself",
        )


@functools.cache
def is_chrooted() -> bool:
    """Tell whether another folder than this process's is the root of its mount namespace; False where that can't be
    told, for whoever is not root."""
    reading, writing = os.pipe()
    child = forked(lambda: _tell(writing))
    os.close(writing)
    try:
        return os.read(reading, 8) == b"yes"
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def _tell(writing: int) -> None:
    numbers = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
    own, namespace = os.open("/", os.O_PATH), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    syscalls.enter(namespace, _NEW_MOUNTS)  # which begins at the root of that
    is_own = _mount(numbers, own) == _mount(numbers, os.open("/", os.O_PATH))
    os.write(writing, b"no" if is_own else b"yes")


def _mount(numbers: int, folder: int) -> bytes:
    """Return which mount a folder is in, by its descriptor, of which the folder ``numbers`` of /proc tells."""
    info = os.open(str(folder), os.O_RDONLY, dir_fd=numbers)
    (found,) = (line for line in os.read(info, 4096).splitlines() if line.startswith(b"mnt_id:"))
    return found
