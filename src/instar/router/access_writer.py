"""Writes an environment's access log: a program of its own, run as a file, that needs Python's library alone.

HAProxy writes a line for each request into a pipe and never waits for it: while nobody reads, or the disk is full,
lines are lost, which HAProxy and this one count, and no request is held up. So they are where more come than this one
can write: the log says where that began and ended. Each of a router's HAProxies has a writer with a pipe of its own,
and all of them append to one log. It ends when nobody can write into its pipe any more.

    access.log            what is written now, in the form of instances' logs (TIME STREAM TAG TEXT)
    access.log.1, .2      those before it
    access.lost           how many lines could not be written so far

A line of HAProxy's is ``MS SERVER CLIENT FORWARDED {…``: when, in milliseconds of the epoch, whose address answered,
who asked and whom a server in front on this machine says that it asks for, and the rest of a JSON object. What a client
sent is in that rest alone, where HAProxy has made ASCII of it in which nothing ends a word of JSON.

Usage: access_writer.py LABEL DIRECTORY [again]: the pipe is standard input; ``again``: one before it was killed. A
holder starts what lies here, of its own version or of a later one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

LOG, LOST = "access.log", "access.lost"
FULL_BYTES = 8 << 20
_MOST = 2  # times that, while somebody else begins the next file and never ends
_CHUNK_BYTES = 1 << 16
_MANY_BYTES = _CHUNK_BYTES // 2  # a full pipe of 64 KiB has more, as no line of HAProxy's is in two of its pages
_PAUSE_S = 0.02  # what comes within it is written at once
_SERVER = re.compile(rb"  server [sd]\d+ (\S+) weight \d+(?: disabled)? # ([a-z0-9.-]+)(?: .*)?", re.ASCII)
_LINE = re.compile(rb'(\d{13}) (\S+) ([0-9a-f.:]+|unix:\d+) ([0-9a-f.:]+|-) \{("[ -~]*\})')
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Servers:
    """Which instance is, or was last, at which address: by the router's file, which names one before it can answer."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._read: tuple[int, int, int] | None = None
        self._names: dict[bytes, bytes] = {}

    def look(self) -> None:
        """Read the file, if it is another than the last time."""
        with contextlib.suppress(OSError):
            with open(
                "haproxy.cfg", "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=self._folder)
            ) as file:
                found = os.fstat(file.fileno())
                read = (found.st_ino, found.st_mtime_ns, found.st_size)
                if read == self._read:
                    return
                text = file.read()
            self._read = read
            for line in text.splitlines():
                if match := _SERVER.fullmatch(line):
                    self._names[match[1].replace(b"[", b"").replace(b"]", b"")] = match[2]

    def at(self, address: bytes) -> bytes:
        """Return whose address it is, as JSON."""
        name = self._names.get(address)
        return b"null" if name is None else b'"%s"' % name


class Times:
    """Moments as logs have them; most lines are of the second of the one before."""

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def written(self, ms: int) -> bytes:
        second, rest = divmod(ms, 1000)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{rest:03d}+00:00".encode()


class Log:
    """The log in ``folder``. What cannot be written is counted, and told where the next line can be."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._file: int | None = None
        self._is_cut = False  # the last line has not ended
        self._missing = 0  # lines since the last that could be written
        self._missing_since = 0  # when the first of them was lost, in milliseconds
        self._why = ""
        self._times = Times()
        self._count = self._counter()

    def say(self, text: str) -> bool:
        """Write a line of this program's own; return whether it could be."""
        return self._append(self._said(text), 0)

    def put(self, lines: Sequence[bytes]) -> None:
        if self._missing and not self._append(self._said(self._told()), 0):
            self._lose(len(lines), self._why)
        elif lines:
            self._missing = 0
            self._append(b"".join(lines), len(lines))

    def _told(self) -> str:
        since = self._times.written(self._missing_since).decode()
        return f"{self._missing:,} lines are missing here, since {since}: {self._why}"

    def _said(self, text: str) -> bytes:
        return self._times.written(time.time_ns() // 1_000_000) + f" instar F ({text})\n".encode()

    def _append(self, data: bytes, count: int) -> bool:
        rest = memoryview(b"\n" + data if self._is_cut else data)
        try:
            file = self._writable()
            while rest:
                rest = rest[os.write(file, rest) :]
                self._is_cut = bool(rest)
        except OSError as error:
            self._lose(min(count, bytes(rest).count(b"\n")), error.strerror or "the log cannot be written")
            return False
        return True

    def _writable(self) -> int:
        """Return the file that is written now: the next one where that is full. Raises OSError."""
        if self._file is None or self._is_another(self._file):
            self._file = self._opened()
        size = os.fstat(self._file).st_size
        if size >= FULL_BYTES and self._began_next():
            self._file = self._opened()
        elif size >= _MOST * FULL_BYTES:
            raise OSError(errno.EFBIG, "the log is full, and the next one could not be begun")
        return self._file

    def _is_another(self, file: int) -> bool:
        try:
            return os.stat(LOG, dir_fd=self._folder, follow_symlinks=False).st_ino != os.fstat(file).st_ino
        except FileNotFoundError:
            return True

    def _opened(self) -> int:
        before, self._file, self._is_cut = self._file, None, False
        if before is not None:
            os.close(before)
        return os.open(LOG, _NEW, 0o600, dir_fd=self._folder)

    def _began_next(self) -> bool:
        """Give the full log another name, unless another writer is just doing that."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            if os.stat(LOG, dir_fd=self._folder).st_size >= FULL_BYTES:
                for name, then in ((f"{LOG}.1", f"{LOG}.2"), (LOG, f"{LOG}.1")):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(name, then, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        finally:
            fcntl.flock(self._folder, fcntl.LOCK_UN)
        return True

    def _lose(self, count: int, why: str) -> None:
        if not self._missing:
            self._missing_since = time.time_ns() // 1_000_000
        self._missing, self._why = self._missing + count, why
        if self._count is not None and count:
            with contextlib.suppress(OSError, ValueError):
                before = int(os.pread(self._count, 20, 0) or b"0")
                os.pwrite(self._count, f"{before + count:019d}\n".encode(), 0)

    def _counter(self) -> int | None:
        """Return the file of the count, which has its room from the beginning: on a full disk there is none."""
        with contextlib.suppress(OSError):
            file = os.open(LOST, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
            if os.fstat(file).st_size == 0:
                os.pwrite(file, b"%019d\n" % 0, 0)
            return file
        return None


def converted(line: bytes, servers: Servers, times: Times) -> bytes | None:
    """Return a line of HAProxy's as the log has it; None for what is none: HAProxy says, too, when a frontend stops."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    ms, server, client, forwarded, rest = match.groups()
    asked = client if forwarded == b"-" else forwarded
    return b'%s access F {"client":"%s","instance":%s,%s\n' % (times.written(int(ms)), asked, servers.at(server), rest)


def _is_full(pipe: int) -> bool:
    """Tell whether HAProxy, which does not wait, could write nothing into the pipe now; False where that can't be
    known."""
    try:
        writing = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not select.select([], [writing], [], 0)[1]
    finally:
        os.close(writing)


def write(pipe: int, folder: int, *, again: bool) -> None:
    """Write what comes from ``pipe`` until nobody has its other end."""
    log, servers, times = Log(folder), Servers(folder), Times()
    if again:
        log.say("lines may be missing here: what writes them was killed")
    begun, is_behind = b"", False
    while select.select([pipe], [], []):
        if not is_behind and _is_full(pipe):
            is_behind = log.say("lines may be missing from here on: more came than could be written")
        chunk = os.read(pipe, _CHUNK_BYTES)
        if not chunk:
            return
        *whole, begun = (begun + chunk).split(b"\n")
        servers.look()
        log.put([line for line in (converted(one, servers, times) for one in whole) if line is not None])
        if len(chunk) < _MANY_BYTES:  # it was all that there was
            is_behind = is_behind and not log.say("what comes from here on is written again")
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    write(0, os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), again="again" in sys.argv[3:])
