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
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from instar.errors import CommandFailed, ComponentMissing

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAIL_BYTES = 16_384
ANYWHERE = Path("/")  # where a program of somebody else's runs: never where a command happens to be called
MASK = 0o022  # and what it makes is for nobody else to write to
_REST_S = 5.0
_LOOK_MS = 100  # who may cancel is asked so often
_PIECE_BYTES = 65_536
_PIECES = 16  # a pipe of the largest size, which whoever is no root can give it


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
            piped = any(pipe is not None for pipe in (child.stdin, child.stdout, child.stderr))
            ended = piped or _await_end(child, timeout_s)
            if most_bytes is None:
                out, err = child.communicate(input, timeout=timeout_s if ended else 0)
            else:
                out, err = _read_all(child, words, timeout_s, most_bytes)
        except subprocess.TimeoutExpired as error:
            _kill_group(child)
            out, err = _rest(child)
            raise CommandFailed(
                f"cannot run {words[0]!r}: no end after {timeout_s:g} s",
                argv=words,
                returncode=None,
                output=_tail(out, err),
            ) from error
        except BaseException:
            _kill_group(child)
            raise
    if check and child.returncode != 0:
        raise CommandFailed(
            f"cannot run {words[0]!r}: {_cause(child.returncode, out, err)}",
            argv=words,
            returncode=child.returncode,
            output=_tail(out, err),
        )
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
            printed, cause = _tail_until_end(child, time.monotonic() + timeout_s, cancelled)
        finally:
            _kill_group(child)
        child.wait()
    if cause is not None:
        why = f"no end after {timeout_s:g} s" if cause == "late" else "it was interrupted"
        raise CommandFailed(f"cannot run {words[0]!r}: {why}", argv=words, returncode=None, output=_tail(printed))
    if child.returncode != 0:
        raise CommandFailed(
            f"cannot run {words[0]!r}: {_cause(child.returncode, printed, None)}",
            argv=words,
            returncode=child.returncode,
            output=_tail(printed),
        )
    return Completed(returncode=0, stdout=printed, stderr=b"")


def _tail_until_end(
    child: subprocess.Popen[bytes], until: float, cancelled: Callable[[], bool]
) -> tuple[bytes, str | None]:
    """Return the last of what a child prints until it ends, and "late" or "cancelled" where it did not end by itself.

    Children of its own may hold the pipe open: what counts is its end, and what is in the pipe then.
    """
    assert child.stdout is not None
    pipe, tail = child.stdout.fileno(), b""
    os.set_blocking(pipe, False)
    handle, looked = os.pidfd_open(child.pid), select.poll()
    looked.register(handle, select.POLLIN)
    looked.register(pipe, select.POLLIN)
    try:
        while True:
            found = dict(looked.poll(_LOOK_MS))
            tail, is_open = _tail_so_far(pipe, tail) if pipe in found else (tail, True)
            if not is_open:
                looked.unregister(pipe)
            if handle in found:
                return tail, None
            if cancelled():
                return tail, "cancelled"
            if time.monotonic() >= until:
                return tail, "late"
    finally:
        os.close(handle)


def _tail_so_far(pipe: int, tail: bytes) -> tuple[bytes, bool]:
    """Read what is there, but no more than a pipe holds; return the last of all, and whether there may come more."""
    for _ in range(_PIECES):
        try:
            piece = os.read(pipe, _PIECE_BYTES)
        except BlockingIOError:
            return tail, True
        if not piece:
            return tail, False
        tail = (tail + piece)[-TAIL_BYTES:]
    return tail, True


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


def _await_end(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for a child that has no pipe to read or write: Popen itself would look only every 50 ms."""
    handle = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(handle)


def _read_all(
    child: subprocess.Popen[bytes], words: list[str], timeout_s: float, most_bytes: int
) -> tuple[bytes, bytes]:
    """Return what a child prints until its end. Raises TimeoutExpired, CommandFailed where that is too much."""
    assert child.stdout is not None and child.stderr is not None
    until, printed = time.monotonic() + timeout_s, {child.stdout: bytearray(), child.stderr: bytearray()}
    with selectors.DefaultSelector() as looked:
        for stream, text in printed.items():
            looked.register(stream, selectors.EVENT_READ, text)
        while looked.get_map():
            left_s = until - time.monotonic()
            for key, _ in looked.select(left_s) if left_s > 0 else ():
                piece = os.read(key.fd, _PIECE_BYTES)
                key.data.extend(piece)
                if not piece:
                    looked.unregister(key.fileobj)
            if left_s <= 0:
                raise subprocess.TimeoutExpired(words, timeout_s)
            if sum(map(len, printed.values())) > most_bytes:
                cause = f"cannot run {words[0]!r}: it prints more than {most_bytes} bytes"
                raise CommandFailed(cause, argv=words, returncode=None, output="")
    child.wait(max(until - time.monotonic(), 0))
    return bytes(printed[child.stdout]), bytes(printed[child.stderr])


def _rest(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return what a killed child has printed. Its own children may hold the pipes open, in sessions of their own."""
    try:
        return child.communicate(timeout=_REST_S)
    except subprocess.TimeoutExpired as error:
        return error.output or b"", error.stderr or b""


def _shared_descriptors() -> tuple[int, ...]:
    return tuple(one.descriptor for one in _shared.get() if one.descriptor is not None)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _cause(returncode: int, out: bytes | None, err: bytes | None) -> str:
    lines = _tail(err, None).strip().splitlines() or _tail(out, None).strip().splitlines()
    status = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"
    return f"{status}: {lines[-1]}" if lines else status


def _tail(*streams: bytes | None) -> str:
    text = b"".join(stream for stream in streams if stream)
    return text[-TAIL_BYTES:].decode("utf-8", "replace")
