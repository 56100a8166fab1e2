"""A child of this process that does one piece of work and ends, whatever threads its parent has."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable


def forked(work: Callable[[], None]) -> int:
    """Return the id of a child that does ``work``, which the caller waits for. It is the caller's alone: of what else
    the parent has, nothing is ended there."""
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # what the parent has done with may wait for its threads, or end its connections, when collected
        try:
            work()
        finally:
            os._exit(0)
    return pid
