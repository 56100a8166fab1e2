"""The only door to subprocesses.

Every child is started from an argv list, in a session of its own (a ``^C`` reaches Instar alone, which then ends
its children), with a clean environment. Children inherit the descriptors that are shared (:func:`share`) where they are
started, in that thread's context: an environment's lock is held as long as any child that acts for it lives, and by
no child that acts for another.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from instar import child_output
from instar.errors import CommandFailed, ComponentMissing

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANYWHERE = Path("/")  # where a program of somebody else's runs: never where a command happens to be called
MASK = 0o022  # and what it makes is for nobody else to write to
_REST_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process, known for ever: pid numbers come back, these three together don't.

    ``start_time`` is field 22 of /proc/PID/stat, in clock ticks since boot.
    """

    boot_id: str
    pid: int
    start_time: int


@dataclass(eq=False, slots=True)
class _Shared:
    """``descriptor`` is None once it may be closed, for threads that still have the context in which it was not."""

    descriptor: int | None


_shared: contextvars.ContextVar[tuple[_Shared, ...]] = contextvars.ContextVar("shared", default=())


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a finished child left: its exit status (negative: the signal) and all that it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment that children get: fixed PATH, locale and home, and what ``extra`` adds."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **(extra or {})}


@contextlib.contextmanager
def share(descriptor: int) -> Iterator[None]:
    """Let every child that is started inside inherit ``descriptor`` (unless it is started with ``alone=True``).

    Inside is what this thread does in the block, and the threads that carry its context along (``threads.py``).
    """
    shared = _Shared(descriptor)
    _shared.set((*_shared.get(), shared))
    try:
        yield
    finally:
        shared.descriptor = None
        _shared.set(tuple(one for one in _shared.get() if one is not shared))


def find_program(name: str) -> Path | None:
    """Return where ``name`` is on the fixed PATH, or None."""
    found = shutil.which(name, path=PATH)
    return Path(found) if found else None


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float = 120,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    alone: bool = False,
    pass_fds: Sequence[int] = (),
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    most_bytes: int | None = None,
    umask: int = -1,
) -> Completed:
    """Run ``argv`` to its end and return what it printed.

    ``env`` is added to the clean environment; ``umask`` is the caller's where none is said. ``stdout`` and ``stderr``
    may name a file; what goes there is not in the result. ``alone`` keeps shared descriptors from the child. On a
    time-out, when it prints more than ``most_bytes`` (of one without ``input``), or when this thread is interrupted,
    its whole session group is killed.

    Raises:
        ComponentMissing: the program is not on this machine.
        CommandFailed: it may not be run; with ``check``, a status other than 0; always, a time-out, or too much.
    """
    words = [os.fspath(word) for word in argv]
    child = _start(
        words,
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE if stderr is None else stderr,
        env=clean_environment(env),
        cwd=cwd,
        pass_fds=tuple(pass_fds) if alone else (*pass_fds, *_shared_descriptors()),
        start_new_session=True,
        umask=umask,
    )
    with child:
        try:
            out, err = child_output.of_all(child, words, timeout_s, input=input, most_bytes=most_bytes)
        except subprocess.TimeoutExpired as error:
            _kill_group(child)
            printed = child_output.tail(error.output, error.stderr, *child_output.rest(child))
            cause = f"cannot run {words[0]!r}: no end after {timeout_s:g} s"
            raise CommandFailed(cause, argv=words, returncode=None, output=printed) from error
        except BaseException:
            _kill_group(child)
            raise
    if check:
        _require_success(words, child.returncode, out, err)
    return Completed(returncode=child.returncode, stdout=out or b"", stderr=err or b"")


def run_bounded(
    argv: Sequence[str | Path], *, timeout_s: float, cancelled: Callable[[], bool] = lambda: False
) -> Completed:
    """Run ``argv``, a program of somebody else's, to its end; of what it prints only the last is kept.

    It runs in ``/``, whatever the caller's folder and umask. Both its streams are one. It inherits nothing that is
    shared, and whatever of its session is left when it ends, or when its time is over, is killed.

    Raises:
        ComponentMissing: the program is not on this machine.
        CommandFailed: a status other than 0, a time-out, or it was ``cancelled``.
    """
    words = [os.fspath(word) for word in argv]
    child = _start(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
        cwd=ANYWHERE,
        pass_fds=(),
        start_new_session=True,
        umask=MASK,
    )
    with child:
        try:
            printed, cause = child_output.last_of_all(child, time.monotonic() + timeout_s, cancelled)
        finally:
            _kill_group(child)
        child.wait()
    if cause is not None:
        why = f"no end after {timeout_s:g} s" if cause == "late" else "it was interrupted"
        raise CommandFailed(
            f"cannot run {words[0]!r}: {why}", argv=words, returncode=None, output=child_output.tail(printed)
        )
    _require_success(words, child.returncode, printed, None)
    return Completed(returncode=0, stdout=printed, stderr=b"")


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child that outlives Instar: session of its own, output appended to ``log``, no locks.

    It has no ``stdin``, or is given one (a fd).
    """
    with log.open("ab") as output:
        return _start(
            [os.fspath(word) for word in argv],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=clean_environment(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )


def on_terminal(argv: Sequence[str | Path], *, environ: Mapping[str, str]) -> int:
    """Run a program that a person works with, on the caller's terminal and with the caller's environment; return its
    exit status. ``^C`` is its own meanwhile. When this thread is interrupted, it is ended. From the main thread alone.

    Raises ComponentMissing, CommandFailed where it cannot be started.
    """
    words = [os.fspath(word) for word in argv]
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not ignored: the program would inherit that
    try:
        env = {"PATH": PATH, **environ}
        child = _start(words, stdin=0, stdout=1, stderr=2, env=env, cwd=None, pass_fds=(), start_new_session=False)
        try:
            return child.wait()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_REST_S)
            raise
    finally:
        signal.signal(signal.SIGINT, before)


def attach(
    argv: Sequence[str | Path],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that reads and writes descriptors of the caller's, holds no locks, and does not outlive Instar.

    ``env`` is added to the clean environment. It is sent SIGTERM when the thread that started it ends. The caller waits
    for it.
    """
    return _start(
        ["setpriv", "--pdeathsig", "TERM", *(os.fspath(word) for word in argv)],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=clean_environment(env),
        cwd=cwd,
        pass_fds=(),
        start_new_session=True,
    )


def _start(
    words: list[str],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    env: dict[str, str],
    cwd: Path | None,
    pass_fds: tuple[int, ...],
    start_new_session: bool,
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    program = words[0] if "/" in words[0] else shutil.which(words[0], path=env["PATH"])
    if program is None:
        raise ComponentMissing(
            f"cannot run {words[0]!r}: it is not installed",
            hint="instar doctor lists what is missing and how to get it",
        )
    try:
        return subprocess.Popen(
            words,
            executable=program,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=start_new_session,
            umask=umask,
        )
    except FileNotFoundError as error:
        raise ComponentMissing(f"cannot run {words[0]!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.ENOEXEC):
            raise
        cause = f"cannot run {words[0]!r}: {error.strerror}"
        raise CommandFailed(cause, argv=words, returncode=None, output="") from error


def _shared_descriptors() -> tuple[int, ...]:
    return tuple(one.descriptor for one in _shared.get() if one.descriptor is not None)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _require_success(words: list[str], returncode: int, out: bytes | None, err: bytes | None) -> None:
    """Raise CommandFailed for a status other than 0, with the last line that was printed."""
    if returncode == 0:
        return
    lines = child_output.tail(err).strip().splitlines() or child_output.tail(out).strip().splitlines()
    status = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"
    raise CommandFailed(
        f"cannot run {words[0]!r}: {status}{f': {lines[-1]}' if lines else ''}",
        argv=words,
        returncode=returncode,
        output=child_output.tail(out, err),
    )
