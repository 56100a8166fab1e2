"""What a child prints, until its end: all of it, or the last; for ``process``, which starts it."""

from __future__ import annotations

import os
import select
import selectors
import subprocess
import time
from collections.abc import Callable

from instar.errors import CommandFailed

TAIL_BYTES = 16_384
_REST_S = 5.0
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

    Raises TimeoutExpired; CommandFailed where it prints more than ``most_bytes``.
    """
    if most_bytes is not None:
        return _read_all(child, words, timeout_s, most_bytes)
    piped = any(pipe is not None for pipe in (child.stdin, child.stdout, child.stderr))
    ended = piped or _await_end(child, timeout_s)
    return child.communicate(input, timeout=timeout_s if ended else 0)


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


def _await_end(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for a child that has no pipe to read or write: Popen itself would look only every 50 ms."""
    handle = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(handle)


def _read_all(
    child: subprocess.Popen[bytes], words: list[str], timeout_s: float, most_bytes: int
) -> tuple[bytes, bytes]:
    """Return what a child prints until its end. Raises TimeoutExpired, CommandFailed where that is too much."""
    assert child.stdout is not None and child.stderr is not None
    until, printed = time.monotonic() + timeout_s, {child.stdout: bytearray(), child.stderr: bytearray()}
    with selectors.DefaultSelector() as looked:
        for stream, text in printed.items():
            looked.register(stream, selectors.EVENT_READ, text)
        while looked.get_map():
            left_s = until - time.monotonic()
            for key, _ in looked.select(left_s) if left_s > 0 else ():
                piece = os.read(key.fd, _PIECE_BYTES)
                key.data.extend(piece)
                if not piece:
                    looked.unregister(key.fileobj)
            if left_s <= 0:
                raise subprocess.TimeoutExpired(words, timeout_s)
            if sum(map(len, printed.values())) > most_bytes:
                cause = f"cannot run {words[0]!r}: it prints more than {most_bytes} bytes"
                raise CommandFailed(cause, argv=words, returncode=None, output="")
    child.wait(max(until - time.monotonic(), 0))
    return bytes(printed[child.stdout]), bytes(printed[child.stderr])
