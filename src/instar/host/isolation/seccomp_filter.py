"""The seccomp filters that a process runs under, as the kernel has them: their number alone says nothing of what they
let through.

The kernel tells only who debugs a process, which stops it for a fraction of a millisecond. A signal that comes in that
moment is handed on. Who debugs is a thread of its own: when it ends, the kernel lets go of what it could not stop.
Source: ptrace(2), PTRACE_SECCOMP_GET_FILTER.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from typing import Final

from instar import syscalls
from instar.threads import apart
from instar.waiting import Deadline, until

_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_INSTRUCTION_BYTES: Final = 8
_MOST: Final = 64
_STOPS_WITHIN_S: Final = 1.0
_EVENT_STOP: Final = 128  # PTRACE_EVENT_STOP: stopped as asked, and no signal waits
_WALL: Final = 0x40000000  # __WALL: threads are waited for too
_UNKNOWN: Final = (errno.EIO, errno.EINVAL, errno.EACCES)  # a kernel without checkpoint and restore doesn't tell


def digests(pid: int) -> tuple[str, ...] | None:
    """Return the SHA-256 of each filter, the newest first; None where this kernel does not tell. Raises OSError."""
    return apart(lambda: _digests(pid))


def _digests(pid: int) -> tuple[str, ...] | None:
    with _stopped(pid):
        found: list[str] = []
        while len(found) < _MOST:
            try:
                found.append(_digest(pid, len(found)))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    break
                if error.errno in _UNKNOWN:
                    return None
                raise
        return tuple(found)


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Hold the process still inside."""
    syscalls.trace(_SEIZE, pid, 0)
    waiting = 0
    try:
        syscalls.trace(_INTERRUPT, pid, 0)
        waiting = _signal_of(_wait(pid))
        yield
    finally:
        with contextlib.suppress(OSError):
            syscalls.trace(_DETACH, pid, 0, waiting)


def _wait(pid: int) -> int:
    """Return how the process stopped, as wait(2) says it. Raises OSError."""

    def stopped() -> tuple[int] | None:
        found, status = os.waitpid(pid, _WALL | os.WNOHANG)
        return (status,) if found else None

    status = until(stopped, Deadline.after(_STOPS_WITHIN_S), every_s=0.0001)
    if status is None:
        raise TimeoutError(errno.ETIMEDOUT, "the process does not stop to be looked at")
    return status[0]


def _signal_of(status: int) -> int:
    """Return the signal that the process was about to get as it stopped, 0 when there was none."""
    return os.WSTOPSIG(status) if os.WIFSTOPPED(status) and status >> 16 != _EVENT_STOP else 0


def _digest(pid: int, index: int) -> str:
    length = syscalls.trace(_GET_FILTER, pid, index)
    return hashlib.sha256(syscalls.trace_into(_GET_FILTER, pid, index, length * _INSTRUCTION_BYTES)).hexdigest()
