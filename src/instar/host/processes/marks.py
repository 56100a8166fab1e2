"""Limits of processes as the kernel has them, and a mark among them that only descendants have.

Whose child a process was can't be told any more once its parent has ended and the init took it in, but it has what it
inherited. One of the limits means nothing since Linux 2.4 (locks of files): the first process of an instance is given a
number of its own there before it begins, and whoever has another one was put in from outside.

What is asked here is read from /proc: a root without CAP_SYS_RESOURCE is not answered by prlimit(2) where a process has
a user namespace of its own, and may set nothing in it but from within. Source: prlimit(2), proc(5).
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from instar import process
from instar.errors import CommandFailed, HostError
from instar.host.processes import proc

NAMES: Final = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE",
    "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
)  # fmt: skip
_LOCKS: Final = NAMES.index("LOCKS")
_MARKED: Final = 1 << 61  # no machine has such a number there for any other reason
_MARK: Final = re.compile(rb"^Max file locks +\d+ +(\d+)", re.M)
_HARD_AT: Final = slice(47, 68)  # of a line
_TIMEOUT_S: Final = 10.0
_SYS_RESOURCE: Final = 1 << 24  # Source: linux/capability.h


def text_of(pid: int) -> bytes:
    """Return what the kernel says of a process's limits, which the functions below read. Raises OSError."""
    return proc.read(f"/proc/{pid}/limits")


def hard(text: bytes) -> Mapping[str, int]:
    """Return the hard limits by name; -1 stands for none. The mark is not among them. Raises ValueError."""
    lines = text.decode("ascii", "replace").splitlines()[1:]
    words = {name: line[_HARD_AT].strip() for name, line in zip(NAMES, lines, strict=True)}
    return {name: -1 if word == "unlimited" else int(word) for name, word in words.items() if name != "LOCKS"}


def carried(text: bytes) -> int | None:
    """Return the mark that a process carries; None where it has none."""
    found = _MARK.search(text)
    return int(found[1]) if found and int(found[1]) >= _MARKED else None


def is_looser(there: int, wanted: int) -> bool:
    return wanted != -1 and (there == -1 or there > wanted)


def mark_of(text: bytes) -> int:
    """Return the mark that stands for ``text``: whoever changes that has not changed the mark."""
    return _MARKED | int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def is_possible(users: Path | None) -> bool:
    """Tell whether this process may mark one whose own user namespace is at ``users``: in the machine's (None) it takes
    CAP_SYS_RESOURCE, which root lacks on some machines."""
    return users is not None or bool(proc.status(os.getpid()).capabilities["CapEff"] & _SYS_RESOURCE)


def mark(pid: int, number: int, users: Path | None) -> None:
    """Give a process its mark, which all its descendants have from then on; ``users`` is where its own user namespace
    is. Raises HostError, OSError."""
    if users is None:
        resource.prlimit(pid, _LOCKS, (number, number))
        return
    command = ["nsenter", f"--user={users}", "prlimit", f"--pid={pid}", f"--locks={number}:{number}"]
    try:
        process.run(command, timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"cannot mark process {pid}: {error.output.strip() or error.message}") from error
