"""Waiting for what happens first: one of many processes ends, one is woken, or time is over. Costs nothing meanwhile.

Source: pidfd_open(2), a descriptor that can be read from when its process has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Collection

from instar.host.processes import processes
from instar.model.release import Process


class ProcessEnds:
    """Used by one thread; only :meth:`wake` may come from others, and from signal handlers."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._open: dict[Process, int] = {}
        self._ear, self._mouth = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._ear, select.POLLIN)

    def watch(self, wanted: Collection[Process]) -> None:
        """Watch ``wanted``, and no others any more. One that has ended already is not watched."""
        for process in self._open.keys() - set(wanted):
            self._forget(process)
        for process in wanted:
            if process not in self._open:
                with contextlib.suppress(OSError):
                    self._begin(process)

    def wait(self, seconds: float) -> frozenset[Process]:
        """Return the watched processes that have ended, at the latest after ``seconds``; none when it was woken."""
        try:
            ready = {descriptor for descriptor, _ in self._poll.poll(max(seconds, 0) * 1000)}
        except InterruptedError:
            return frozenset()
        if self._ear in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._ear, 4096)
        ended = frozenset(process for process, descriptor in self._open.items() if descriptor in ready)
        for process in ended:
            self._forget(process)
        return ended

    def wake(self) -> None:
        """Have a wait that is under way, or the next one, return at once."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._mouth, b"\0")

    def close(self) -> None:
        for process in list(self._open):
            self._forget(process)
        os.close(self._ear)
        os.close(self._mouth)

    def _begin(self, process: Process) -> None:
        descriptor = os.pidfd_open(process.pid)
        if not processes.lives(process):
            os.close(descriptor)
            return
        self._open[process] = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, process: Process) -> None:
        descriptor = self._open.pop(process)
        self._poll.unregister(descriptor)
        os.close(descriptor)
