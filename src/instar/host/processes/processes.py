"""Processes of this machine, known by boot, pid and start time, and reached through pidfds.

A pid alone names nobody: the kernel gives it to the next. Everything here checks the start time too, and signals only
through a descriptor that was opened before that check.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from instar.host.processes import proc
from instar.process import Process
from instar.syscalls import boot_id
from instar.waiting import Deadline

_EXEC_PATIENCE_S = 0.25
_EXEC_POLL_S = 0.001
_START_TIME = 22 - 3  # of what follows the name in /proc/PID/stat. Source: proc(5)


def identify(pid: int) -> Process | None:
    """Return the process that has ``pid`` now; None when there is none, or a dead one not yet collected."""
    start_time = _start_time(pid)
    return None if start_time is None else Process(boot_id=boot_id(), pid=pid, start_time=start_time)


def lives(process: Process) -> bool:
    """Tell whether this very process still runs. A zombie, or one of an earlier boot, doesn't."""
    return process.boot_id == boot_id() and _start_time(process.pid) == process.start_time


def send(process: Process, number: int) -> bool:
    """Send the signal ``number`` to this very process; return False when it is gone already."""
    with _opened(process) as handle:
        if handle is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
            return True
    return False


def wait(process: Process, timeout_s: float) -> bool:
    """Return True as soon as this very process has ended, False when it hasn't within ``timeout_s``."""
    with _opened(process) as handle:
        if handle is None:
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(max(0, round(timeout_s * 1000))))


def hears(process: Process, number: int) -> bool:
    """Tell whether the process blocks or catches the signal ``number``.

    The first process of a namespace never gets one that it does neither with: sent too early, it is lost.
    """
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigCgt:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def kill(process: Process, timeout_s: float = 5.0) -> bool:
    """End this very process at once; return whether it was gone within ``timeout_s``."""
    send(process, signal.SIGKILL)
    return wait(process, timeout_s)


def find(
    wanted: Callable[[Sequence[str]], bool], *, users: Collection[int] = ()
) -> tuple[tuple[Process, tuple[str, ...]], ...]:
    """Return the processes, but this one, whose command lines are ``wanted``, each with its words.

    Anybody may write anything into a command line: only root's, this user's and those of ``users`` (numbers) count,
    and none inside an instance.
    """
    trusted = {0, os.geteuid(), *users}
    found = []
    for pid in proc.pids():
        words = _settled_command_line(pid)
        if pid != os.getpid() and wanted(words):
            process = identify(pid)
            if process is not None and _users(pid) <= trusted and _is_outside(pid) and lives(process):
                found.append((process, words))
    return tuple(found)


def command_line(pid: int) -> tuple[str, ...]:
    """Return the words that ``pid`` was started with; none for one that is gone or belongs to the kernel."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(word) for word in text.rstrip(b"\0").split(b"\0"))


def open_process(process: Process) -> int | None:
    """Return a pidfd of this very process, the caller's to close; None when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if lives(process):
        return handle
    os.close(handle)
    return None


def _settled_command_line(pid: int) -> tuple[str, ...]:
    """Return the words of ``pid``, of one that becomes another program right now as soon as it has them.

    Between two programs there are none, as of a process of the kernel's, but for which there is a program.
    Source: linux/fs/exec.c, begin_new_exec; linux/fs/binfmt_elf.c, create_elf_tables
    """
    deadline = Deadline.after(_EXEC_PATIENCE_S)
    while not any(words := command_line(pid)) and not deadline.is_over:  # some have taken their words away
        try:
            os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - nobody needs the path
        except OSError:
            break
        time.sleep(_EXEC_POLL_S)
    return words


@contextlib.contextmanager
def _opened(process: Process) -> Iterator[int | None]:
    handle = open_process(process)
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _start_time(pid: int) -> int | None:
    try:
        text = proc.read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    dead = fields[0] in (b"Z", b"X")
    return None if dead else int(fields[_START_TIME])


def parent(pid: int) -> int | None:
    """Return the parent of ``pid``, None for one that is gone."""
    try:
        text = proc.read(f"/proc/{pid}/stat")
    except OSError:
        return None
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _users(pid: int) -> frozenset[int]:
    """Return the process's user ids, real, effective, saved and for files; -1 for one that is gone.

    Who owns /proc/PID says less: root does as soon as the process cannot be dumped.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").split("\n"):
            if line.startswith("Uid:"):
                return frozenset(map(int, line.split()[1:]))
    return frozenset({-1})


def _is_outside(pid: int) -> bool:
    """Tell whether the process is in the pid namespace of this one, which an instance's never is."""
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False
