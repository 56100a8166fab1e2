"""What a child prints, read while it runs.

Its last bytes are kept, each line can be handed on as it comes, and all of it can go to a file, up to a limit.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from instar import child_output
from instar.threads import begin

_PIECE_BYTES = 65_536
_PIPE_BYTES = 1 << 20  # a pipe holds no more than this. Source: pipe(7)


@dataclass(slots=True)
class WholeOutput:
    """A file that takes all that is printed, as long as it is not more than ``limit_bytes``."""

    file: BinaryIO
    limit_bytes: int

    def add(self, chunk: bytes) -> None:
        self.file.write(chunk[: self.limit_bytes])
        self.limit_bytes -= len(chunk[: self.limit_bytes])


class Tail:
    """The last of what was printed."""

    def __init__(self, on_line: Callable[[str], None] | None = None, whole: WholeOutput | None = None) -> None:
        self._on_line = on_line
        self._whole = whole
        self._kept = b""
        self._line = b""

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def add(self, chunk: bytes) -> None:
        self._kept = (self._kept + chunk)[-child_output.TAIL_BYTES :]
        if self._whole:
            with contextlib.suppress(OSError):  # the child must not wait for ever because a disk is full
                self._whole.add(chunk)
        if self._on_line:
            *lines, rest = (self._line + chunk).split(b"\n")
            self._line = rest[-child_output.TAIL_BYTES :]
            for line in lines:
                self._on_line(line.decode("utf-8", "replace"))


@contextlib.contextmanager
def captured(
    on_line: Callable[[str], None] | None = None, whole: WholeOutput | None = None
) -> Iterator[tuple[int, Tail]]:
    """Give a descriptor to print to; what was printed within the block has been read when it ends.

    Whoever has the descriptor longer holds nobody up, and finds it closed. ``on_line`` is called from another thread.
    """
    tail = Tail(on_line, whole)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ended, end = os.pipe2(os.O_CLOEXEC)
    thread = begin(lambda: _read(reading, ended, tail))
    try:
        yield writing, tail
    finally:
        os.close(writing)
        os.close(end)
        thread.join()
        os.close(reading)
        os.close(ended)


def _read(reading: int, ended: int, tail: Tail) -> None:
    os.set_blocking(reading, False)
    poll = select.poll()
    for descriptor in (reading, ended):
        poll.register(descriptor, select.POLLIN)
    left: int | None = None  # bytes that may still come, once the block has ended
    while left is None or left > 0:
        if left is None and ended in dict(poll.poll()):
            left = _PIPE_BYTES
        try:
            chunk = os.read(reading, _PIECE_BYTES)
        except BlockingIOError:
            if left is None:
                continue
            return
        if not chunk:
            return
        left = left if left is None else left - len(chunk)
        tail.add(chunk)
