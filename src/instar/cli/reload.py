"""SIGHUP to an agent: the machine's own file is read again.

An agent takes what the file says when it starts, in many places. So it is started again, in the process that it has: a
new one has nothing that the old one knew, and nothing that runs notices either. A file that could not be read, or names
a ledger that is out of reach or an address for metrics that is somebody else's, leaves the agent as it is.

From the one to the other, SIGHUP waits until somebody takes it, and so does what ends them; the socket for metrics is
handed on, so that nobody else gets its address meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING

from instar.errors import InstarError

if TYPE_CHECKING:
    from instar.model.machine import MachineSettings
    from instar.telemetry.log import Log

_ENDS = (signal.SIGTERM, signal.SIGINT)
_HANDED_ON = "INSTAR_AGENT_LISTENS"  # the number of a descriptor


def hold_back() -> None:
    """Have SIGHUP wait until :meth:`Reload.install`: before, nobody is there to take it."""
    if not _has_terminal():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def handed_on(environ: MutableMapping[str, str], host: str, port: int) -> socket.socket | None:
    """Return the socket that the agent before this one left for it, if it listens there."""
    number = environ.pop(_HANDED_ON, "")
    with contextlib.suppress(ValueError, OSError):
        found = socket.socket(fileno=int(number))
        found.set_inheritable(False)
        if found.getsockname()[:2] == (host, port):
            return found
        found.close()
    return None


class Reload:
    """``stop`` has the agent end what is under way; ``listen`` returns the socket that one with these settings serves
    metrics at, if there is to be one. On a terminal SIGHUP says that it has gone, and ends the agent."""

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Log,
        stop: Callable[[], None],
        listen: Callable[[MachineSettings | None], socket.socket | None],
    ) -> None:
        self._environ = environ
        self._log = log
        self._stop = stop
        self._listen = listen
        self._listening: socket.socket | None = None
        self._asked = False
        self.accepted = False
        self._ended = False

    def install(self) -> None:
        """Take SIGHUP, and the signals that end the agent, also one that is about to be started again."""
        for number in _ENDS:
            signal.signal(number, lambda *_: self._end())
        of_terminal = _has_terminal()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: self._end() if of_terminal else self._ask())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def look(self) -> None:
        """Have the agent end, to be started again, where that was asked for and the file can be gone by."""
        from instar.workspace import MachineWorkspace

        if not self._asked or self.accepted or self._ended:
            return
        self._asked = False
        workspace = MachineWorkspace(self._environ, self._log.report_for(None))
        try:
            workspace.look_at_ledger()
            self._listening = self._listen(workspace.machine_settings)
        except InstarError as error:
            self._log.say("error", "reload", f"it goes on as before: {error}{f' → {error.hint}' if error.hint else ''}")
        else:
            self.accepted = not self._ended
            self._stop()

    def start_again(self) -> None:
        """Be the agent that was started, anew: with its words, options and number of process. Returns where it was
        ended just now."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, *_ENDS})  # the new one gets what comes from here on
        if not self.accepted:
            return
        if self._listening is not None:
            self._listening.set_inheritable(True)
            os.environ[_HANDED_ON] = str(self._listening.fileno())
        self._log.say("info", "reload", "the machine's own file is read again")
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is wanted

    def _ask(self) -> None:
        self._asked = True

    def _end(self) -> None:
        self._ended, self.accepted = True, False
        self._stop()


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
