"""Waiting for what happens first: one of many things ends, one is woken, or time is over. Costs nothing meanwhile.

The end of a thing is a descriptor that can be read from when it has ended, as pidfd_open(2) makes them.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class EndWatch(Generic[K]):
    """Used by one thread; only :meth:`wake` may come from others, and from signal handlers."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._open: dict[K, int] = {}
        self._ear, self._mouth = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._ear, select.POLLIN)

    def watch(self, wanted: Mapping[K, Callable[[], int | None]]) -> None:
        """Watch ``wanted``, and no others any more: each opens its descriptor, or says by None that it has ended
        already, and is not watched."""
        for name in self._open.keys() - wanted.keys():
            self._forget(name)
        for name in wanted.keys() - self._open.keys():
            with contextlib.suppress(OSError):
                descriptor = wanted[name]()
                if descriptor is not None:
                    self._open[name] = descriptor
                    self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds: float) -> frozenset[K]:
        """Return what of the watched has ended, at the latest after ``seconds``; nothing when it was woken."""
        try:
            ready = {descriptor for descriptor, _ in self._poll.poll(max(seconds, 0) * 1000)}
        except InterruptedError:
            return frozenset()
        if self._ear in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._ear, 4096)
        ended = frozenset(name for name, descriptor in self._open.items() if descriptor in ready)
        for name in ended:
            self._forget(name)
        return ended

    def wake(self) -> None:
        """Have a wait that is under way, or the next one, return at once."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._mouth, b"\0")

    def _forget(self, name: K) -> None:
        descriptor = self._open.pop(name)
        self._poll.unregister(descriptor)
        os.close(descriptor)
