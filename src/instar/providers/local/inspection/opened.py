"""Where a process works and what files it has open: all of it in the instance's own mounts, or of no file system.

A descriptor leads to where it was opened, whatever root its process has: one of a folder of this machine's, handed in
by a socket, is the whole machine. What has no name in any file system (sockets, pipes, what the kernel makes for a
call) says nothing of places, and null, terminals and their like are nobody's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from typing import Final

from instar.host.processes import proc

_DEVICES: Final = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)})  # null, zero, …, tty, ptmx
_TERMINALS: Final = range(136, 144)
_MEMORY: Final = "/memfd:"


def elsewhere(pid: int, mounts: Collection[int], devices: Collection[str], machine: Collection[str]) -> Iterator[str]:
    """Say for people what the process has elsewhere than in ``mounts``, by number, or on ``devices``.

    ``machine``: the devices of all that is mounted on this machine. Raises OSError for a process that is gone.
    """
    folder, number = proc.working_folder(pid)
    if number not in mounts:
        yield f"works in {folder}"
    for descriptor, name in proc.descriptors(pid):
        if not name.startswith("/"):
            continue
        try:
            if proc.mount_of(pid, descriptor) not in mounts and not _is_nobodys(
                pid, descriptor, name, devices, machine
            ):
                yield f"has {name} open"
        except FileNotFoundError:  # closed meanwhile
            continue


def _is_nobodys(pid: int, descriptor: int, name: str, devices: Collection[str], machine: Collection[str]) -> bool:
    """Tell whether a file with a name is in no file system that is mounted: memory, or a queue of messages."""
    found = os.stat(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH116 - a Path takes three times as long
    if stat.S_ISCHR(found.st_mode):
        major = os.major(found.st_rdev)
        return major in _TERMINALS or (major, os.minor(found.st_rdev)) in _DEVICES
    device = proc.device_text(found.st_dev)
    return device in devices or (name.startswith(_MEMORY) and device not in machine)
