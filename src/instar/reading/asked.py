"""One connection of somebody who may only look: the question is read, and answered, within bounds."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from typing import Final

from instar.errors import InstarError, Refused, UsageError
from instar.model.progress import Progress
from instar.reading.answers import Part, answer
from instar.reading.questions import LONGEST_BYTES as LONGEST_QUESTION_BYTES
from instar.reading.questions import VERSION, Question, is_live, read_question
from instar.reading.wire import LONGEST_BYTES, End, Failure, greeting_line, part_line
from instar.threads import begin

_ASKS_WITHIN_S: Final = 5.0
_READS_WITHIN_S: Final = 10.0  # a part of the answer
_ENDS_WITHIN_S: Final = 60.0
_LIVES_FOR_S: Final = 12 * 3600.0
_GRACE_S: Final = 5.0
_LARGEST_BYTES: Final = 384 * 2**20  # of the process's memory
_LOOK_MS: Final = 250
_STACK_BYTES: Final = 512 * 1024
_AWAY: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
_LATE: Final = "cannot go on: the answer takes too long"
_LARGE: Final = "cannot answer: it would be too much for somebody who is not root"
_LESS: Final = "ask for less, as with --last N or --since, or with sudo"


class _BeyondBounds(Exception):
    """Raised in the main thread, wherever it is, by the one that watches it."""


def answer_one(connection: socket.socket, environ: Mapping[str, str]) -> None:
    """Read one question from ``connection`` and answer it. Ends this process when nobody is there to read the answer
    any more, and a little after its time is over, whatever it does then. Main thread only."""
    threading.stack_size(_STACK_BYTES)
    try:
        _send(connection, greeting_line(VERSION))
        try:
            question = read_question(_received(connection))
        except UsageError as error:
            _send(connection, part_line(Failure.of(error)))
            return
        _answer(connection, question, environ)
    except OSError:
        return  # nobody is there, or nobody reads


def _answer(connection: socket.socket, question: Question, environ: Mapping[str, str]) -> None:
    limits = _Limits(connection, _LIVES_FOR_S if is_live(question) else _ENDS_WITHIN_S)
    out = _Out(connection, ends=not is_live(question))
    try:
        limits.watch()
        end: End | Failure = End(exit_status=_give(out, question, environ))
    except _BeyondBounds:
        end = Failure.of(Refused(limits.cause, hint=_LESS if limits.cause == _LARGE else "ask again"))
    except MemoryError:
        end = Failure.of(Refused(_LARGE, hint=_LESS))
    except InstarError as error:
        end = Failure.of(error)
    except OSError as error:
        end = Failure.of(Refused(f"cannot answer: {error.strerror or type(error).__name__}"))
    if not out.failed:
        _send(connection, part_line(end))


def _give(out: _Out, question: Question, environ: Mapping[str, str]) -> int:
    from instar.workspace import MachineWorkspace

    parts = answer(MachineWorkspace(environ, out), question)
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            return int(end.value or 0)
        out.give(part)


class _Out:
    """Where parts go, and what the verbs report meanwhile."""

    def __init__(self, connection: socket.socket, *, ends: bool) -> None:
        self._connection, self._ends, self._size_bytes = connection, ends, 0
        self.failed = False  # or half of a part is sent: nothing can be after it

    def __call__(self, progress: Progress) -> None:
        if threading.current_thread() is threading.main_thread():
            self.give(progress)

    def give(self, part: Part) -> None:
        line = part_line(part)
        self._size_bytes = self._size_bytes + len(line) if self._ends else len(line)
        if self._size_bytes > LONGEST_BYTES:
            raise Refused(_LARGE, hint=_LESS)
        self.failed = True
        _send(self._connection, line)
        self.failed = False


class _Limits:
    """A thread that sees to it that this process ends: soon where nobody listens, and at its bounds."""

    def __init__(self, connection: socket.socket, longest_s: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + longest_s
        self.cause = ""

    def watch(self) -> None:
        signal.signal(signal.SIGALRM, _raise)
        begin(self._watch, "limits")

    def _watch(self) -> None:
        listened = select.poll()
        listened.register(self._connection, _AWAY)
        while not self.cause:
            if listened.poll(_LOOK_MS):
                os._exit(0)
            if time.monotonic() > self._until:
                self.cause = _LATE
            elif _memory_bytes() > _LARGEST_BYTES:
                self.cause = _LARGE
        _thread.interrupt_main(signal.SIGALRM)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)  # where it waits in the kernel
        listened.poll(_GRACE_S * 1000)
        os._exit(1)


def _raise(*_: object) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    raise _BeyondBounds


def _memory_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  four times a second
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _received(connection: socket.socket) -> bytes:
    """Return the line that is sent. Raises UsageError where none comes in time, or it is too long."""
    until, line = time.monotonic() + _ASKS_WITHIN_S, b""
    while not line.endswith(b"\n"):
        left_s = until - time.monotonic()
        if left_s <= 0 or len(line) > LONGEST_QUESTION_BYTES:
            raise UsageError("cannot read the question: it did not come in time" if left_s <= 0 else "it is too long")
        connection.settimeout(left_s)
        with contextlib.suppress(TimeoutError):
            piece = connection.recv(LONGEST_QUESTION_BYTES + 2 - len(line))
            if not piece:
                raise UsageError("cannot read the question: it is not there to its end")
            line += piece
    if line.count(b"\n") != 1:
        raise UsageError("cannot read the question: there is one on a connection")
    return line


def _send(connection: socket.socket, data: bytes) -> None:
    """Send all of it. Raises OSError where nobody takes it in time."""
    until, left = time.monotonic() + _READS_WITHIN_S, memoryview(data)
    while left:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        sent = connection.send(left[:1_048_576])
        left = left[sent:]
        if sent and len(data) > 1_048_576:  # a large one has as long for each piece, and all of it within its time
            until = time.monotonic() + _READS_WITHIN_S
