"""runc, as far as it is asked directly: start, delete, execute. It is made to create by ``conmon.py``.

Its state is a directory an instance below one root; ``exec.fifo`` in it is there from creation to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar import durable, process
from instar.errors import CommandFailed, HostError
from instar.frozen import dataclass
from instar.host.isolation import chroots
from instar.host.processes import output, processes, rlimits
from instar.process import Process
from instar.waiting import Deadline

PROGRAM = "runc"
CHECK_MARK = "INSTAR_CHECK"  # the variable by which a command that Instar runs inside is known for one
_TIMEOUT_S = 30.0
_NO_LIMITS: Mapping[str, int] = {}
_COLLECT_S = 0.2  # for runc to collect a command that was ended: one that nobody collects holds up the instance's end
_LOG_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*+)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Executed:
    """How a command inside has ended; ``output`` is the last of what it printed, on stderr if it did so there.

    runc hands on the two streams one by one, so nobody knows what came last of both.
    """

    returncode: int
    output: str


def options(root: Path) -> list[str]:
    """Return the words that come before runc's own command."""
    return ["--root", str(root)]


def start(root: Path, name: str) -> None:
    """Let a created instance begin. Raises HostError."""
    _run(root, "start", name)


def delete(root: Path, name: str) -> None:
    """Make runc forget an instance, ending what is left of it; one that it doesn't know is fine. Raises HostError."""
    folder = root / name
    if not folder.exists():
        return
    with contextlib.suppress(HostError):  # half-made: there is a directory, and no state in it
        _run(root, "delete", "--force", name)
    shutil.rmtree(folder, ignore_errors=True)


def waits(root: Path, name: str) -> bool:
    """Tell whether the instance was created and not started yet (its process must live besides)."""
    return (root / name / "exec.fifo").exists()


def names(root: Path) -> tuple[str, ...]:
    """Return all that runc keeps state of."""
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) if root.is_dir() else ()


def execute(
    root: Path,
    name: str,
    command: Sequence[str],
    *,
    scratch: Path,
    timeout_s: float,
    mark: str = "",
    limits: Mapping[str, int] = _NO_LIMITS,
) -> Executed | None:
    """Run ``command`` in a running instance as its user; return None when it has not ended within ``timeout_s``.

    It is ended then. ``scratch`` is a directory for a file meanwhile, ``mark`` what the command is known by,
    ``limits`` the hard ones that the instance was made with. Raises HostError when it cannot be started.
    """
    pid_file = scratch / f"exec-{os.getpid()}-{os.urandom(4).hex()}"
    env = [f"--env={CHECK_MARK}={mark}"] if mark else []
    argv = exec_argv(root, name, pid_file, env, command, limits)
    timer = threading.Timer(timeout_s, _end, [pid_file])
    timer.daemon = True
    deadline = Deadline.after(timeout_s)
    try:
        with output.captured() as (out, said), output.captured() as (err, complained):
            timer.start()
            patience_s = timeout_s + _COLLECT_S
            ended = process.run(argv, timeout_s=patience_s, check=False, alone=True, stdout=out, stderr=err)
        if deadline.is_over:
            return None
        return Executed(returncode=ended.returncode, output=complained.text().strip() or said.text())
    except CommandFailed:
        _end(pid_file)
        return None
    finally:
        timer.cancel()
        pid_file.unlink(missing_ok=True)


def exec_argv(
    root: Path,
    name: str,
    pid_file: Path,
    words: Sequence[str],
    command: Sequence[str],
    limits: Mapping[str, int] = _NO_LIMITS,
) -> list[str]:
    """Return the command that runs ``command`` in an instance, with its limits; ``words`` are more options, ``limits``
    the hard ones that the instance was made with. Raises HostError in a chroot."""
    chroots.require_none(f"run a command in '{name}'")
    argv = [PROGRAM, *options(root), "exec", "--pid-file", str(pid_file), *words, name, *command]
    return rlimits.limited(argv, limits, by_runc=_sets_limits(root, name))


def plain(message: str) -> str:
    """Return the cause in what runc printed, without its time stamps and its own words around it."""
    lines = []
    for line in message.strip().split("\n"):
        found = _LOG_MESSAGE.search(line)
        lines.append(_unquoted(found[1]) if found else line)
    cause = lines[-1] or "runc said nothing"
    for prefix in (
        "runc create failed: ",
        "exec failed: ",
        "unable to start container process: ",
        "error during container init: ",
    ):
        cause = cause.removeprefix(prefix)
    return cause


def _unquoted(text: str) -> str:
    """Undo Go's quoting, which is JSON's for nearly all text; leave what isn't as it is."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _sets_limits(root: Path, name: str) -> bool:
    """Tell whether runc was told the limits of the instance's processes, as an older Instar did."""
    try:
        return b'"rlimits":' in durable.read(root / name / "state.json")
    except OSError:
        return False


def _run(root: Path, *words: str) -> None:
    try:
        process.run([PROGRAM, *options(root), *words], timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"cannot {words[0]} '{words[-1]}': {plain(error.output)}") from error


def _end(pid_file: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        found = processes.identify(int(durable.read_text(pid_file)))
        if found is not None:
            members = _session(found)
            processes.send(found, signal.SIGKILL)
            for member in members:
                processes.send(member, signal.SIGKILL)


def _session(leader: Process) -> list[Process]:
    """Return what the command has started and not sent away: runc makes each command the leader of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == leader.pid:
                found.append(processes.identify(int(entry.name)))
    return [process for process in found if process is not None] if processes.lives(leader) else []
