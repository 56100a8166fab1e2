"""A process that has a lease on a file and never gives it up, as any owner of a file may."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def lease_held(file: Path) -> Iterator[None]:
    ready, told = os.pipe()
    if (holder := os.fork()) == 0:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(os.open(file, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.close(told)
        assert os.read(ready, 1) == b"x"
        yield
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.close(ready)
