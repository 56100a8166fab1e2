"""flock files: one per environment, so that one loop acts at a time, and one for the whole machine.

A lock is held by its open file description, which children started through ``process.run`` inherit: it is free
only when the last process that acts for its holder has ended. The file's text is the holder's pid, for messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

from instar import durable, process
from instar.errors import EnvironmentBusy
from instar.waiting import Deadline, until

_POLL_S = 0.01
_ASKING_S = 0.02  # who asks who has a lock (find_holder) has it for a moment
_SAYING_S = 0.1
_WAIT = "wait until it has finished, then ask again"


@contextlib.contextmanager
def hold(
    path: Path,
    what: str,
    *,
    wait_s: float = 0.0,
    hint: str = _WAIT,
    shared: bool = False,
    inherited: bool = True,
) -> Iterator[None]:
    """Hold the lock at ``path`` inside. ``what`` names it in the error ("guestbook/dev"), ``hint`` says what to do.

    ``shared``: beside others who hold it so, and nobody who holds it alone. ``inherited``: by the children that are
    started for what is done inside; else it is this process's alone.

    Raises EnvironmentBusy, naming the holder's pid, when it isn't free within ``wait_s`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, what, wait_s, hint)
        _say_who(descriptor)
        with process.share(descriptor) if inherited else contextlib.nullcontext():
            yield
    finally:
        os.close(descriptor)


def _say_who(descriptor: int) -> None:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe that somebody has put there locks as well
        text = str(os.getpid()).encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


def end_holder(path: Path, *, wait_s: float = 10.0) -> int | None:
    """End the very process that holds the lock at ``path`` (``--take-over``); return its pid, None if it is free.

    The holder is found through its open file, not only through the pid in it, and ended through a pidfd, so that
    no other process can be hit. Its children keep the lock until they have finished what they were doing.
    """
    pid = find_holder(path)
    if pid is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if has_open(pid, path):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
    until(lambda: not has_open(pid, path), Deadline.after(wait_s), every_s=_POLL_S)
    return pid


@contextlib.contextmanager
def opened(path: Path) -> Iterator[None]:
    """Have the file of a lock open inside, held or not: others can see it (:func:`has_open`)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield
    finally:
        os.close(descriptor)


def has_ended(holder: int) -> bool:
    """Tell whether the process is dead that got a lock, which its children hold still."""
    try:
        handle = os.pidfd_open(holder)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 0)[0])  # one not yet collected too
    finally:
        os.close(handle)


def _acquire(descriptor: int, how: int, what: str, wait_s: float, hint: str) -> None:
    if not until(lambda: _got(descriptor, how), Deadline.after(max(wait_s, _ASKING_S)), every_s=_POLL_S):
        pid = _holder_of(descriptor)
        who = f"process {pid or '(unknown)'} is working on it"
        raise EnvironmentBusy(f"cannot work on '{what}': {who}", pid=pid, hint=hint)


def _got(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_holder(path: Path) -> int | None:
    """Return the pid that holds the lock at ``path``, None if it is free (or nobody wrote who has it)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder_of(descriptor)
    finally:
        os.close(descriptor)
    return None


def find_unsaid_holder(path: Path) -> int | None:
    """Return the pid that holds the lock at ``path`` and has not written so into it, as :func:`hold` does at once: it
    is no command of Instar's. Who has it only for a moment, to ask or to write, is none."""
    first = _unsaid(path)
    if first is None or until(lambda: _unsaid(path) != first, Deadline.after(_SAYING_S), every_s=_ASKING_S):
        return None
    return first


def _unsaid(path: Path) -> int | None:
    pid = find_holder(path)
    try:
        return None if pid is None or _written_pid(durable.read(path)) == pid else pid
    except OSError:
        return pid


def _holder_of(descriptor: int) -> int | None:
    """Return who holds the lock of an open file: as the kernel knows it, or else as it wrote down itself.

    A holder that was stopped as it had just got the lock has written nothing yet. Source: proc(5), /proc/locks.
    """
    found = os.fstat(descriptor)
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5] == name and words[4].isdigit() and int(words[4]) > 0:
            return int(words[4])
    try:
        return _written_pid(os.pread(descriptor, 32, 0))
    except OSError:
        return None


def _written_pid(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has the file of a lock open; False too where that is not to be seen."""
    try:
        identity = path.stat()
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found = entry.stat()
                if (found.st_dev, found.st_ino) == (identity.st_dev, identity.st_ino):
                    return True
    except OSError:
        return False
    return False
