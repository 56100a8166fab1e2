"""What a child prints, until its end: all of it, or the last; for ``process``, which starts it."""

from __future__ import annotations

import os
import select
import selectors
import subprocess
import time
from collections.abc import Callable
from typing import IO

from instar.errors import CommandFailed

TAIL_BYTES = 16_384
_REST_S = 5.0
_SLICE_S = 0.25  # no wait is longer: a signal that comes between two instructions and the wait does not end that wait
_LOOK_MS = 100  # who may cancel is asked so often
_PIECE_BYTES = 65_536
_PIECES = 16  # a pipe of the largest size, which whoever is no root can give it


def of_all(
    child: subprocess.Popen[bytes],
    words: list[str],
    timeout_s: float,
    *,
    input: bytes | None,
    most_bytes: int | None,
) -> tuple[bytes | None, bytes | None]:
    """Give a child its ``input``, and return what it prints until its end: None of a stream that is no pipe.

    Raises TimeoutExpired, with what it has printed by then; CommandFailed where it prints more than ``most_bytes``.
    (Popen's ``communicate`` waits without a break; asked to go on with a wait that it broke off, it forgets the input.)
    """
    until = time.monotonic() + timeout_s
    printed = {pipe: bytearray() for pipe in (child.stdout, child.stderr) if pipe is not None}

    def of(pipe: IO[bytes] | None) -> bytes | None:
        return None if pipe is None else bytes(printed[pipe])

    try:
        with selectors.DefaultSelector() as looked:
            for pipe, text in printed.items():
                looked.register(pipe, selectors.EVENT_READ, _reader(pipe, text))
            if child.stdin is not None:
                os.set_blocking(child.stdin.fileno(), False)
                looked.register(child.stdin, selectors.EVENT_WRITE, _writer(child, child.stdin.fileno(), input or b""))
            while looked.get_map():
                for key, _ in looked.select(_slice_s(until, words)):
                    if key.data():
                        looked.unregister(key.fileobj)
                if most_bytes is not None and sum(map(len, printed.values())) > most_bytes:
                    cause = f"cannot run {words[0]!r}: it prints more than {most_bytes} bytes"
                    raise CommandFailed(cause, argv=words, returncode=None, output="")
        _await_end(child, until, words)
    except subprocess.TimeoutExpired as error:
        error.output, error.stderr = of(child.stdout), of(child.stderr)
        raise
    return of(child.stdout), of(child.stderr)


def _slice_s(until: float, words: list[str]) -> float:
    """Return how long to wait now. Raises TimeoutExpired when the time is over."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise subprocess.TimeoutExpired(words, left_s)
    return min(left_s, _SLICE_S)


def _reader(pipe: IO[bytes], text: bytearray) -> Callable[[], bool]:
    """Return what reads a piece of a pipe, and tells whether that was the last."""

    def read() -> bool:
        piece = os.read(pipe.fileno(), _PIECE_BYTES)
        text.extend(piece)
        return not piece

    return read


def _writer(child: subprocess.Popen[bytes], pipe: int, data: bytes) -> Callable[[], bool]:
    """Return what gives a child a piece of its input, and tells whether that was the last: the pipe is closed then."""
    left = memoryview(data)

    def write() -> bool:
        nonlocal left
        try:
            left = left[os.write(pipe, left[:_PIECE_BYTES]) :]
        except BrokenPipeError:  # it does not want it
            left = left[:0]
        if not left and child.stdin is not None:
            child.stdin.close()
            child.stdin = None
        return not left

    return write


def _await_end(child: subprocess.Popen[bytes], until: float, words: list[str]) -> None:
    """Wait for its end: Popen itself would look only every 50 ms. Raises TimeoutExpired."""
    handle = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(_slice_s(until, words) * 1000):
            pass
    finally:
        os.close(handle)
    child.wait()


def last_of_all(
    child: subprocess.Popen[bytes], until: float, cancelled: Callable[[], bool]
) -> tuple[bytes, str | None]:
    """Return the last of what a child prints until it ends, and "late" or "cancelled" where it did not end by itself.

    Children of its own may hold the pipe open: what counts is its end, and what is in the pipe then.
    """
    assert child.stdout is not None
    pipe, tail = child.stdout.fileno(), b""
    os.set_blocking(pipe, False)
    handle, looked = os.pidfd_open(child.pid), select.poll()
    looked.register(handle, select.POLLIN)
    looked.register(pipe, select.POLLIN)
    try:
        while True:
            found = dict(looked.poll(_LOOK_MS))
            tail, is_open = _tail_so_far(pipe, tail) if pipe in found else (tail, True)
            if not is_open:
                looked.unregister(pipe)
            if handle in found:
                return tail, None
            if cancelled():
                return tail, "cancelled"
            if time.monotonic() >= until:
                return tail, "late"
    finally:
        os.close(handle)


def _tail_so_far(pipe: int, tail: bytes) -> tuple[bytes, bool]:
    """Read what is there, but no more than a pipe holds; return the last of all, and whether there may come more."""
    for _ in range(_PIECES):
        try:
            piece = os.read(pipe, _PIECE_BYTES)
        except BlockingIOError:
            return tail, True
        if not piece:
            return tail, False
        tail = (tail + piece)[-TAIL_BYTES:]
    return tail, True


def rest(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return what a killed child has printed. Its own children may hold the pipes open, in sessions of their own."""
    try:
        return child.communicate(timeout=_REST_S)
    except subprocess.TimeoutExpired as error:
        return error.output or b"", error.stderr or b""


def tail(*streams: bytes | None) -> str:
    text = b"".join(stream for stream in streams if stream)
    return text[-TAIL_BYTES:].decode("utf-8", "replace")
