"""A word from outside that a verb shall end: a token, which is looked at between two actions and while it waits.

A signal's handler may give it, or another thread: nothing here takes a lock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from instar.errors import Cancelled

_SLICE_S = 0.25


@dataclass
class Cancellation:
    """``heeded``: somebody looks at it just now, so that nothing else has to end the work. ``sleep`` is real by
    default; tests give a virtual one."""

    sleep: Callable[[float], None] = time.sleep
    requested: bool = False
    heeded: bool = False

    def request(self) -> None:
        """Ask whoever works to end: what is half done is undone, or left for who comes next."""
        self.requested = True

    def check(self) -> None:
        """Raise Cancelled when that was asked for."""
        if self.requested:
            raise Cancelled("interrupted")

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment in which it is cancelled."""
        while seconds > 0 and not self.requested:
            self.sleep(min(seconds, _SLICE_S))
            seconds -= _SLICE_S

    @contextlib.contextmanager
    def heeding(self) -> Iterator[None]:
        """Look at it inside, soon and again and again."""
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False
