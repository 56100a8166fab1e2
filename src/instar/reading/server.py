"""The process that answers those who may only look. It is not the agent: whatever they ask, send or leave unread, the
agent goes on.

It takes connections and judges who is there, by what the kernel says of them, and nothing else. Each is answered by a
process of its own, which reads one question of the closed list and ends. Bounds, all in this file: how many at once,
of one user and of all; how long a question may take to come, a part of an answer to be read, and an answer as a whole;
how large an answer and its process may get. Who goes beyond one is dropped.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from instar.errors import InstarError
from instar.reading.questions import VERSION
from instar.reading.wire import Failure, greeting_line, part_line
from instar.syscalls import end_with_parent, groups_of_peer

OF_ONE_USER: Final = 6
OF_ALL: Final = 24
_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid. Source: unix(7)
_LESS_URGENT: Final = 10
_ENDED_FIRST: Final = 500  # by a kernel that is out of memory; the agent is among the last
_LONGEST_S: Final = 12 * 3600.0 + 60.0  # of any answer: whoever answers ends by itself before that
_PAUSE_S: Final = 0.1
_TAKEN_AT_ONCE: Final = 64  # before those that have ended are seen to
_WARM: Final = (
    "instar.reading.asked",
    "instar.ledger",
    "instar.operations.explain",
    "instar.operations.logs",
    "instar.operations.status",
    "instar.operations.top",
    "instar.views.status",
)


def serve(listening: socket.socket, group: int) -> None:
    """Answer members of ``group``, and root, until SIGTERM."""
    server = Server(listening, group)
    with contextlib.suppress(OSError):
        os.nice(_LESS_URGENT)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_ENDED_FIRST))
    for module in _WARM:  # once for all
        importlib.import_module(module)
    gc.freeze()
    try:
        server.run()
    finally:
        server.end_all()


class Server:
    def __init__(self, listening: socket.socket, group: int) -> None:
        listening.setblocking(False)
        self._listening, self._group = listening, group
        self._answering: dict[int, tuple[int, float]] = {}  # by process: of which user, until when
        self._stop = False
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes
        signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as looked:
            looked.register(self._listening, selectors.EVENT_READ)
            looked.register(self._ear, selectors.EVENT_READ)
            while not self._stop:
                for key, _ in looked.select(1.0 if self._answering else None):
                    if key.fileobj is self._ear:
                        with contextlib.suppress(BlockingIOError):
                            self._ear.recv(4096)
                    else:
                        for _ in range(_TAKEN_AT_ONCE):
                            if not self._take():
                                break
                self._reap()

    def end_all(self) -> None:
        for process in self._answering:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _end(self) -> None:
        self._stop = True

    def _take(self) -> bool:
        """Take one connection: turn it away, or have it answered. False where there is none."""
        try:
            connection, _ = self._listening.accept()
        except BlockingIOError:
            return False
        except OSError:  # no descriptor is free: those that there are end before long
            time.sleep(_PAUSE_S)
            return False
        with connection:
            try:
                user, refusal = self._judge(connection)
                if refusal is None:
                    self._answer(connection, user)
            except OSError as error:
                refusal = Failure(message=f"cannot answer: {error.strerror}", hint=None, code="busy", exit_status=1)
            if refusal is not None:
                _turn_away(connection, refusal)
        return True

    def _judge(self, connection: socket.socket) -> tuple[int, Failure | None]:
        """Return who is there, and why they get no answer."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, group = _CREDENTIALS.unpack(credentials)
        if user != 0 and self._group not in {group, *groups_of_peer(connection.fileno())}:
            return user, Failure(
                message="cannot answer: you are not in the group that may look at what runs here",
                hint="ask with sudo",
                code="not-root",
                exit_status=1,
            )
        of_user = Counter(one for one, _ in self._answering.values())
        if of_user[user] >= OF_ONE_USER or len(self._answering) >= OF_ALL:
            who = "you ask" if of_user[user] >= OF_ONE_USER else "others ask"
            return user, Failure(
                message=f"cannot answer: {who} {max(of_user[user], OF_ONE_USER)} things or more at once already",
                hint="end one of them, or ask again later",
                code="busy",
                exit_status=75,
            )
        return user, None

    def _answer(self, connection: socket.socket, user: int) -> None:
        process = os.fork()
        if process:
            self._answering[process] = user, time.monotonic() + _LONGEST_S
            return
        status = 1
        try:
            end_with_parent(signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self._listening, self._ear, self._mouth):
                one.close()
            from instar.reading.asked import answer_one

            answer_one(connection, _environ())
            status = 0
        except BaseException as error:  # whatever it was: nothing of this process goes on beyond here
            _log(error)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._answering.pop(ended, None)
        for process, (_, until) in self._answering.items():
            if time.monotonic() > until:
                os.kill(process, signal.SIGKILL)


def _turn_away(connection: socket.socket, failure: Failure) -> None:
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.send(greeting_line(VERSION) + part_line(failure))


def _environ() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}


def _log(error: BaseException) -> None:
    """Say on a line what nobody foresaw. What a question says is not in it."""
    what = error.message if isinstance(error, InstarError) else type(error).__name__
    with contextlib.suppress(OSError, ValueError):
        print(f"a question of a reader was not answered: {what}"[:300], file=sys.stderr, flush=True)
