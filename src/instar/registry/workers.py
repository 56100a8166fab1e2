"""Several transfers at once, which end early together: when one of them fails, when somebody asks for it, and when
nothing has come of any for a long time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from instar.cancellation import Cancellation
from instar.errors import Cancelled, SourceUnreachable
from instar.model.progress import Progress
from instar.model.sizes import size_text
from instar.threads import begin

T = TypeVar("T")
AT_ONCE: Final = 4
_LOOK_S: Final = 0.2
_STILL_S: Final = 600.0
_GOODBYE_S: Final = 2.0


class Meter:
    """What has come so far of all transfers; asked to add to it, it tells a transfer that it is to end."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.bytes = 0  # that are there, or that went
        self.moved_bytes = 0  # by this command
        self.moved = 0  # whole blobs
        self.moved_at = time.monotonic()
        self.ended = False
        self._guard = threading.Lock()

    def add(self, count: int, *, moved: bool = True) -> None:
        """Count bytes. Raises Cancelled when the others have ended."""
        with self._guard:
            self.bytes += count
            self.moved_bytes += count if moved else 0
            self.moved_at = time.monotonic()
        if self.ended:
            raise Cancelled("interrupted")

    def begin_anew(self) -> None:
        """All is gone through once more; what was moved stays counted."""
        self.bytes, self.ended = 0, False

    def count(self) -> None:
        """Count a blob that is there, or went."""
        with self._guard:
            self.moved += 1

    def progress(self, stage: str) -> Progress:
        text = f"{size_text(self.bytes)} of {size_text(self.total_bytes)}"
        return Progress(stage=stage, text=text, kind="running")


class Workers(Generic[T]):
    """Does ``do`` to each item, in threads for which nobody waits when it is to end: what waits for a silent server
    has nothing in hand but its own part of a file."""

    def __init__(self, do: Callable[[T], None], items: Iterable[T], meter: Meter) -> None:
        self._do = do
        self._meter = meter
        self._todo = deque(items)
        self._left = len(self._todo)
        self._error: BaseException | None = None
        self._guard = threading.Lock()
        self._changed = threading.Event()

    def run(self, cancellation: Cancellation, show: Callable[[], None]) -> None:
        """Return when all is done; ``show`` is called again and again meanwhile. Raises the first error, Cancelled."""
        threads = [begin(self._work) for _ in range(min(AT_ONCE, self._left))]
        try:
            with cancellation.heeding():
                while self._left and self._error is None:
                    self._changed.wait(_LOOK_S)
                    self._changed.clear()
                    cancellation.check()
                    show()
                    self._require_movement()
        finally:
            self._meter.ended = True
            self._todo.clear()
            until = time.monotonic() + _GOODBYE_S
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        if self._error is not None:
            raise self._error

    def _require_movement(self) -> None:
        if time.monotonic() - self._meter.moved_at > _STILL_S:
            raise SourceUnreachable(f"cannot go on: nothing has come in {_STILL_S:.0f} s")

    def _work(self) -> None:
        while True:
            try:
                item = self._todo.popleft()
            except IndexError:
                return
            try:
                self._do(item)
            except BaseException as error:
                self._error = self._error or error
                return
            finally:
                with self._guard:
                    self._left -= 1
                self._changed.set()
