"""SIGHUP to an agent: the machine's own file is read again.

An agent takes what the file says when it starts, in many places. So it is started again, in the process that it has: a
new one has nothing that the old one knew, and nothing that runs notices either. A file that could not be read, or names
a ledger that is out of reach, leaves the agent as it is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from instar.errors import InstarError

if TYPE_CHECKING:
    from instar.telemetry.log import Log


class Reload:
    """``stop`` has the agent end what is under way. On a terminal SIGHUP says that it has gone, and ends the agent."""

    def __init__(self, environ: Mapping[str, str], log: Log, stop: Callable[[], None]) -> None:
        self._environ = environ
        self._log = log
        self._stop = stop
        self._asked = False
        self.accepted = False
        self._ended = False

    def install(self) -> None:
        """Take SIGHUP, and the signals that end the agent, also one that is about to be started again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        of_terminal = sys.stdin is not None and sys.stdin.isatty()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: self._end() if of_terminal else self._ask())

    def look(self) -> None:
        """Have the agent end, to be started again, where that was asked for and the file can be gone by."""
        from instar.definition.machine import load_machine
        from instar.ledger import look
        from instar.workspace import ledger_address

        if not self._asked or self.accepted or self._ended:
            return
        self._asked = False
        try:
            settings = load_machine(self._environ)
            shared = ledger_address(self._environ, settings.ledger if settings else None)
            if shared is not None:
                look(shared)
        except InstarError as error:
            self._log.say("error", "reload", f"it goes on as before: {error}{f' → {error.hint}' if error.hint else ''}")
        else:
            self.accepted = not self._ended
            self._stop()

    def start_again(self) -> None:
        """Be the agent that was started, anew: with its words, options and number of process."""
        self._log.say("info", "reload", "the machine's own file is read again")
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is wanted

    def _ask(self) -> None:
        self._asked = True

    def _end(self) -> None:
        self._ended, self.accepted = True, False
        self._stop()
