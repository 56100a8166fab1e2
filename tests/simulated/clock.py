"""Virtual time: it passes when somebody waits, and a little whenever somebody looks."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """``now`` and ``sleep`` take the place of the real ones. Threads can share it.

    Each look costs ``tick_s``, so that two moments differ. After ``limit_s`` a wait is taken for one without end.
    """

    def __init__(self, *, tick_s: float = 0.001, limit_s: float = 86_400) -> None:
        self.began = datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = timedelta()
        self._jumped = timedelta()
        self._tick = timedelta(seconds=tick_s)
        self._limit = timedelta(seconds=limit_s)
        self._guard = threading.Lock()

    def now(self) -> datetime:
        with self._guard:
            self._elapsed += self._tick
            return self.began + self._elapsed + self._jumped

    def peek(self) -> datetime:
        """Return the time without letting any pass."""
        return self.began + self._elapsed + self._jumped

    def elsewhere(self) -> datetime:
        """Return the time of a machine whose clock nobody sets."""
        return self.began + self._elapsed

    def jump(self, seconds: float) -> None:
        """Set this machine's clock forward, or back."""
        with self._guard:
            self._jumped += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        with self._guard:
            self._elapsed += timedelta(seconds=seconds)
            if self._elapsed > self._limit:
                raise AssertionError(f"still waiting after {self._limit} of virtual time: this never ends")
