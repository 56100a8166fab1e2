"""conmon: the small parent of an instance that keeps its output and its exit status, and needs nobody.

It makes runc create the instance, then lives as long as that does, in a session and a group of its own: ending whoever
started it ends neither. The time that it takes counts to the instance, whose output is all that it works on: who
prints without end slows down nobody else. It holds none of Instar's locks.
Source: conmon(8); the pipes are those that podman uses.

Its log file begins anew, under the same name, when it is full: who wants the lines before keeps a second link to it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from instar import durable, process
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.isolation import runc
from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.process import Process

PROGRAM = "conmon"
_CREATE_TIMEOUT_S = 60.0
_ANSWER_LIMIT = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """What conmon is told about one instance. ``folder`` is its bundle, and where everything of conmon's goes."""

    name: str
    folder: Path
    runc_root: Path
    log: Path
    log_limit_bytes: int
    group: str  # the cgroup that conmon itself goes to
    instance_group: str  # the instance's, to which conmon's time counts

    @property
    def exit_file(self) -> Path:
        return self.folder / "exit" / self.name

    @property
    def pid_file(self) -> Path:
        return self.folder / "conmon.pid"


def create(keeping: Keeping) -> Process:
    """Create the instance of the bundle in ``keeping.folder``; return its first process, which waits to begin.

    Raises HostError with runc's own cause.
    """
    if ":" in str(keeping.log):
        raise HostError(f"cannot keep what is printed in '{keeping.log}': conmon takes no ':' in a path")
    (keeping.folder / "exit").mkdir(exist_ok=True)
    answer, answer_end = socket.socketpair()
    go, go_end = socket.socketpair()
    with answer, go:
        with answer_end, go_end:
            child = process.spawn(
                _command(keeping),
                log=keeping.folder / "conmon.log",
                env={"_OCI_SYNCPIPE": str(answer_end.fileno()), "_OCI_STARTPIPE": str(go_end.fileno())},
                cwd=keeping.folder,
                pass_fds=(answer_end.fileno(), go_end.fileno()),
            )
        cgroups.join_leaf(keeping.group, child.pid)  # before it has children
        with contextlib.suppress(BrokenPipeError):
            go.send(b"\0")
        pid = _wait_for_pid(answer, keeping)
    child.wait()  # it went on as another process
    if keeper := find_keeper(keeping):
        cgroups.join_keeper(keeping.instance_group, keeper.pid)
    found = processes.identify(pid)
    if found is None:
        raise HostError("cannot create the first process: it ended at once")
    return found


def find(keeping: Keeping) -> tuple[Process, ...]:
    """Return the processes, conmon's and runc's, that work for this very instance."""
    asked = {str(keeping.runc_root), keeping.name}

    def works_for_it(words: Sequence[str]) -> bool:
        return str(keeping.folder) in words or asked <= set(words)

    return tuple(found for found, _ in processes.find(works_for_it))


def find_keeper(keeping: Keeping) -> Process | None:
    """Return the instance's conmon as long as it lives; it will write down how the instance ends."""
    try:
        found = processes.identify(int(durable.read_text(keeping.pid_file)))
    except (OSError, ValueError):
        return None
    return found if found and str(keeping.folder) in processes.command_line(found.pid) else None


def exit_status(keeping: Keeping) -> int | None:
    """Return the exit status that conmon wrote down, None as long as it hasn't."""
    try:
        return int(durable.read_text(keeping.exit_file))
    except (OSError, ValueError):
        return None


def _command(keeping: Keeping) -> list[str | Path]:
    program = process.find_program(runc.PROGRAM) or runc.PROGRAM
    words: list[str | Path] = [PROGRAM, "--api-version", "1", "-c", keeping.name, "-u", keeping.name]
    words += ["-r", program, *(f"--runtime-arg={word}" for word in runc.options(keeping.runc_root))]
    words += ["-b", keeping.folder, "-p", keeping.folder / "pid", "-P", keeping.pid_file]
    words += ["-l", f"k8s-file:{keeping.log}", "--log-size-max", str(keeping.log_limit_bytes), "--no-sync-log"]
    words += ["--exit-dir", keeping.exit_file.parent, "--socket-dir-path", keeping.folder]
    return words


def _wait_for_pid(answer: socket.socket, keeping: Keeping) -> int:
    text = _read_line(answer)
    try:
        data = json.loads(text)
        pid = int(data["data"])
    except (ValueError, KeyError, TypeError):
        cause = durable.read_text(keeping.folder / "conmon.log", "replace").strip() or "it said nothing"
        raise HostError(f"cannot create the first process: conmon: {cause.splitlines()[-1]}") from None
    if pid <= 0:
        raise HostError(f"cannot create the first process: {runc.plain(data.get('message', ''))}")
    return pid


def _read_line(answer: socket.socket) -> bytes:
    deadline = time.monotonic() + _CREATE_TIMEOUT_S
    text = b""
    while not text.endswith(b"\n") and len(text) < _ANSWER_LIMIT:
        answer.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = answer.recv(4096)
        except TimeoutError:
            raise HostError(f"cannot create the first process: no end after {_CREATE_TIMEOUT_S:g} s") from None
        if not chunk:
            break
        text += chunk
    return text
