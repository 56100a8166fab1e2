"""Deadlines, asking again and again until something is so, and trying again what did not work for now.

What can be waited for without asking (a process's end, a socket) is waited for so; this is for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from instar.errors import InstarError
from instar.frozen import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.at

    @property
    def left_s(self) -> float:
        """How long it is until then, 0 once it is over."""
        return max(0.0, self.at - time.monotonic())

    def require_s(self) -> float:
        """Return how long it is until then. Raises TimeoutError once it is over."""
        if self.is_over:
            raise TimeoutError
        return self.left_s


def until(condition: Callable[[], T], deadline: Deadline, *, every_s: float = 0.005) -> T:
    """Ask ``condition`` until its answer is true, and return that; its last answer where none was by ``deadline``.

    It is asked once at least, and once more after the deadline: whoever was not run for a while misses nothing.
    """
    while True:
        late = deadline.is_over
        answer = condition()
        if answer or late:
            return answer
        time.sleep(min(every_s, deadline.left_s))


def retry(
    call: Callable[[], T],
    deadline: Deadline,
    *,
    longest_pause_s: float,
    waits: Callable[[InstarError], None] = lambda error: None,
) -> T:
    """Return what ``call`` does, tried again after each error that says when to (``retry_after_s``), but for
    ``longest_pause_s`` at most, until the ``deadline``; then the error is raised, as any other is at once. It is tried
    once more in any case: the first answer that never came may have taken all of the time.

    ``waits`` is told the first error, before it is waited for.
    """
    tried = 0
    while True:
        try:
            return call()
        except InstarError as error:
            if error.retry_after_s is None or (tried and deadline.is_over):
                raise
            if not tried:
                waits(error)
            tried += 1
            time.sleep(min(error.retry_after_s, longest_pause_s))
