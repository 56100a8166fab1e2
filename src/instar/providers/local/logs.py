"""What instances print: one file each in LOGS, in the form that conmon writes (that of Kubernetes' logs).

    INSTANCE.log         what conmon writes now
    INSTANCE.log.held    a second link to it
    INSTANCE.log.1       the one before, and
    INSTANCE.log.2       the one before that

When the file is full, conmon begins another under its name; the second link keeps the lines of the full one, until
that, too, has been followed by another (``log_keeper.py`` sees to it). So an instance has at most three files of 8 MiB,
whoever looks or doesn't, and their lines follow on one another; where they don't, a line of the stream ``instar`` says
so.
A line: ``TIME STREAM TAG TEXT``; tag P means that the text goes on in the stream's next line, F that it ends.
Source: https://github.com/kubernetes/design-proposals-archive, node/kubelet-cri-logging.md
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from instar import durable, locks, process
from instar.host.kernel import cgroups
from instar.providers.local import log_keeper
from instar.providers.local.log_keeper import LOST, OWN_STREAM, before, held, inode_of, keep_full, taken
from instar.providers.local.names import Names

_POLL_S = 0.05
_TAIL_BYTES = 256 << 10
_LOOKS = 20
_LONGEST = 1 << 20  # of one line, in characters: what goes on longer is cut in two


def begin(log: Path) -> None:
    """Make the log file of a new instance."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.touch(mode=0o600)
    keep_full(log)


def ensure_keeper(names: Names) -> None:
    """Start what keeps full files, unless it runs."""
    lock = _keeper_lock(names)
    if locks.find_holder(lock) is not None:
        return
    for folder in (names.state.logs, lock.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program: list[str | Path] = [sys.executable, "-I", "-S", "-B", log_keeper.__file__, names.state.logs, lock]
    child = process.spawn(program, log=Path(os.devnull))
    cgroups.join_leaf(names.logs_group, child.pid)


def end_keeper(names: Names) -> None:
    """End it: there is nothing to keep any more. Raises HostError."""
    locks.end_holder(_keeper_lock(names))
    cgroups.kill(names.logs_group)  # one that has only begun
    cgroups.remove(names.logs_group)


def _keeper_lock(names: Names) -> Path:
    return names.state.locks / "logs"


def forget(log: Path) -> None:
    """Remove the files of one instance; the one that says that there is a log goes last."""
    for path in (before(log, 2), before(log, 1), held(log), taken(log), log):
        path.unlink(missing_ok=True)


def read(log: Path, last: int | None) -> Iterator[str]:
    """Yield the lines that are there, each ``TIME STREAM TEXT``; only the ``last`` ones."""
    joiner = Joiner()
    with _opened(log) as files:
        lines = [*_recent(files, last, joiner), *joiner.rest()]
    yield from lines if last is None else lines[max(0, len(lines) - last) :]


def follow(log: Path, last: int | None, lives: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines that are there, then each as it comes, until the instance is gone."""
    joiner = Joiner()
    with _opened(log) as files:
        yield from _recent(files, last, joiner)
        while files:
            is_last_look = not lives()
            yield from joiner.add(files[-1].read())
            if inode_of(log) not in (None, os.fstat(files[-1].fileno()).st_ino):
                yield from joiner.add(files[-1].read())  # what came between the look and the change
                following, lost = _after(log, files[-1])
                if lost:
                    yield f"{datetime.now(UTC).isoformat()} {OWN_STREAM} {LOST}"
                files.append(following)
            elif is_last_look:
                yield from joiner.rest()
                return
            else:
                time.sleep(_POLL_S)


def _after(log: Path, file: IO[bytes]) -> tuple[IO[bytes], bool]:
    """Return the file that came after ``file``, the oldest that is there where that is gone, and whether it is."""
    with _opened(log) as files:
        inodes = [os.fstat(one.fileno()).st_ino for one in files]
        inode = os.fstat(file.fileno()).st_ino
        number = inodes.index(inode) + 1 if inode in inodes else 0
        following = files[min(number, len(files) - 1)]
        return os.fdopen(os.dup(following.fileno()), "rb"), inode not in inodes


@dataclass(slots=True)
class _Begun:
    """A line of one stream: when it began, its parts so far, and how long they are together."""

    moment: str
    parts: list[str]
    length: int = 0

    def whole(self, stream: str) -> str:
        return f"{self.moment} {stream} {''.join(self.parts)}"


class Joiner:
    """Makes lines of what is in the files, in whatever pieces it is read."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has not ended yet
        self._begun: dict[str, _Begun] = {}

    def forget(self) -> None:
        """Begin anew."""
        self._rest.clear()
        self._begun.clear()

    def add(self, data: bytes) -> Iterator[str]:
        """Yield the lines that end in ``data``."""
        if b"\n" not in data:
            self._rest.append(data)
            return
        *whole, rest = b"".join((*self._rest, data)).split(b"\n")
        self._rest = [rest]
        for line in whole:
            yield from self._join(line.decode(errors="replace"))

    def rest(self) -> Iterator[str]:
        """Yield the lines that were begun and never ended."""
        for stream, begun in self._begun.items():
            yield begun.whole(stream)
        self._begun.clear()

    def _join(self, line: str) -> Iterator[str]:
        try:
            moment, stream, tag, text = line.split(" ", 3)
        except ValueError:
            return  # the disk was full, or the machine went down, in the middle of it
        begun = self._begun.setdefault(stream, _Begun(moment, []))
        begun.parts.append(text)
        begun.length += len(text)
        if tag != "P" or begun.length >= _LONGEST:
            del self._begun[stream]
            yield begun.whole(stream)


def newest_first(log: Path) -> tuple[Path, ...]:
    """Return where the files of a log are, those that are there."""
    return (log, held(log), before(log, 1), before(log, 2))


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[list[IO[bytes]]]:
    """Yield the log's files, oldest first."""
    with contextlib.ExitStack() as opened:
        yield _oldest_first(log, opened)


def _oldest_first(log: Path, opened: contextlib.ExitStack) -> list[IO[bytes]]:
    """Open the files as they are at one moment: while they are opened, another may have been begun."""
    for _ in range(_LOOKS):
        before_that = [inode_of(path) for path in newest_first(log)]
        files: dict[int, IO[bytes]] = {}
        for path in newest_first(log):
            with contextlib.suppress(FileNotFoundError):
                file = opened.enter_context(durable.reader(path))
                files.setdefault(os.fstat(file.fileno()).st_ino, file)
        if before_that == [inode_of(path) for path in newest_first(log)]:
            break
    return list(reversed(files.values()))


def _recent(files: list[IO[bytes]], last: int | None, joiner: Joiner) -> Iterator[str]:
    """Yield the lines in ``files``, only the ``last`` ones, and leave the newest file where they end."""
    if last is None:
        for file in files:
            yield from joiner.add(file.read())
        return
    window, size = _TAIL_BYTES, sum(os.fstat(file.fileno()).st_size for file in files)
    while True:
        joiner.forget()
        lines = list(joiner.add(_end(files, window)))
        if len(lines) > last or window >= size:
            yield from lines[max(0, len(lines) - last) :]
            return
        window *= 4


def _end(files: list[IO[bytes]], window: int) -> bytes:
    """Return the last ``window`` bytes of all ``files``, from the beginning of a line."""
    parts: list[bytes] = []
    for file in reversed(files):
        start = max(0, os.fstat(file.fileno()).st_size - window)
        file.seek(start)
        part = file.read()
        window -= len(part)
        parts.insert(0, part.partition(b"\n")[2] if start else part)
        if window <= 0:
            break
    return b"".join(parts)
