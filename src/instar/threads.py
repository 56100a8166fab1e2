"""Threads that do a part of somebody's work, and in its context: what is held for the work, their children inherit too.

(``concurrent.futures`` would do for most of it; importing it takes longer than a rollback works.)
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
_SLICE_S = 0.25  # no wait is longer: a signal that comes between two instructions and the wait does not end that wait


def carried(work: Callable[P, R]) -> Callable[P, R]:
    """Return ``work`` as it runs in the caller's context, whatever threads call it, and however many at once."""
    context = contextvars.copy_context()

    def run(*args: P.args, **keywords: P.kwargs) -> R:
        return context.copy().run(work, *args, **keywords)

    return run


def begin(work: Callable[[], object], name: str | None = None) -> threading.Thread:
    """Begin ``work`` in a thread for which the end of this process does not wait."""
    thread = threading.Thread(target=carried(work), name=name, daemon=True)
    thread.start()
    return thread


def apart(work: Callable[[], R]) -> R:
    """Do ``work`` in a thread of its own: what a thread has entered (a namespace) or stopped goes with its end."""
    return _Batch(lambda one: one(), [work]).answers(at_most=1)[0]


def at_once(do: Callable[[T], R], items: Iterable[T], *, at_most: int) -> list[R]:
    """Do it to all, so many at a time, and return the answers in the items' order.

    Each is done, whatever becomes of the others; then the first error is raised. When this thread is interrupted, none
    is begun any more, and those under way are waited for: whoever undoes it must not begin while it is still done.
    """
    wanted = list(items)
    return _Batch(do, wanted).answers(at_most=at_most) if len(wanted) > 1 else [do(item) for item in wanted]


class _Batch(Generic[T, R]):
    """Some work for several threads. Its end is a state and no count of messages: a ``^C`` may come anywhere."""

    def __init__(self, do: Callable[[T], R], items: Sequence[T]) -> None:
        self._do = do
        self._todo = deque(enumerate(items))
        self._answers: dict[int, R] = {}
        self._failures: dict[int, BaseException] = {}
        self._guard = threading.Lock()
        self._at_work = 0
        self._ended = threading.Event()

    def answers(self, *, at_most: int) -> list[R]:
        threads: list[threading.Thread] = []
        wanted = self._at_work = min(at_most, len(self._todo))
        try:
            while len(threads) < wanted:
                threads.append(begin(self._work))
            while not self._ended.wait(_SLICE_S):
                pass
        except BaseException:
            self._todo.clear()
            self._leave(wanted - len(threads))
            self._ended.wait()
            raise
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[min(self._failures)]
        return [self._answers[number] for number in sorted(self._answers)]

    def _work(self) -> None:
        try:
            while (item := self._next()) is not None:
                try:
                    self._answers[item[0]] = self._do(item[1])
                except BaseException as error:
                    self._failures[item[0]] = error
        finally:
            self._leave(1)

    def _next(self) -> tuple[int, T] | None:
        try:
            return self._todo.popleft()
        except IndexError:
            return None

    def _leave(self, threads: int) -> None:
        with self._guard:
            self._at_work -= threads
            if self._at_work <= 0:
                self._ended.set()
