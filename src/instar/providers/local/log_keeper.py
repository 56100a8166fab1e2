"""Keeps what instances have printed while nobody looks: a program of its own, that needs Python's library alone.

One runs for a state directory. conmon begins its file anew when that is full; this one hears of it from the kernel
(inotify) and keeps the full file before the next is full as well, for which it comes before all other processes; where
it was too late nevertheless, the place is marked. Nothing depends on it: killed, it costs lines at the worst, whose
place is marked; the next launch, or the agent, starts another. It ends with the last instance.

Usage: log_keeper.py FOLDER LOCK: the folder of the logs, and the file that whoever keeps them has locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

OWN_STREAM = "instar"
LOST = "(lines are missing here: they came faster than they could be kept)"
PERHAPS_LOST = "(lines may be missing here: what keeps full logs did not run, or too late)"
_MOVED_TO, _OVERFLOW, _IGNORED, _ONLY_FOLDER = 0x80, 0x4000, 0x8000, 0x01000000  # Source: linux/inotify.h
_EVENT = struct.Struct("=iIII")
_PATIENCE_S = 2.0
_POLL_S = 0.05


def keep_full(log: Path, *, lost: bool | None = False) -> None:
    """Keep the lines of a file that conmon has filled. ``lost``: whether another was filled, and lost, between that
    one and today's; None: nobody knows."""
    with contextlib.suppress(OSError):  # another process was quicker: the same links are there
        if take(log):
            append_taken(log, lost=lost)


def take(log: Path) -> bool:
    """Give today's file a link that conmon doesn't know; False where it is kept already, or there is none."""
    taken(log).unlink(missing_ok=True)
    try:
        os.link(log, taken(log))
    except FileNotFoundError:
        return False
    if inode_of(taken(log)) == inode_of(held(log)):
        taken(log).unlink()
        return False
    return True


def append_taken(log: Path, *, lost: bool | None) -> None:
    """Put what was taken after the full files."""
    if held(log).exists():
        if lost is not False:
            _mark(held(log), LOST if lost else PERHAPS_LOST)
        if before(log, 1).exists():
            before(log, 1).rename(before(log, 2))
        held(log).rename(before(log, 1))
    taken(log).rename(held(log))


def taken(log: Path) -> Path:
    return log.with_name(f"{log.name}.taken")


def held(log: Path) -> Path:
    return log.with_name(f"{log.name}.held")


def before(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _mark(full: Path, text: str) -> None:
    """Say at the end of a full file, to which conmon writes no more, what comes after it."""
    if not full.is_file():
        return
    at = datetime.fromtimestamp(full.stat().st_mtime, UTC).isoformat(timespec="microseconds")
    with full.open("ab") as file:
        file.write(f"{at} {OWN_STREAM} F {text}\n".encode())


class Keeper:
    """Keeps every full file in ``folder``. Of each it knows how many files conmon has begun since the newest that is
    kept, which tells whether one of them is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: dict[str, int] = {}
        self._unkept: dict[str, int] = {}  # of these, those that could not be kept
        self._watch = _watch(folder)

    def begin(self) -> None:
        """Keep what was filled while no keeper ran."""
        for log in self._folder.glob("*.log"):
            keep_full(log, lost=None)
            self.hear()
            self._begun.pop(log.name, None)

    def hear(self, patience_s: float | None = 0.0) -> None:
        """Count the files that were begun; wait for one for at most ``patience_s``, None: for ever."""
        while select.select([self._watch], [], [], patience_s)[0]:
            patience_s = 0.0
            for name in _names(os.read(self._watch, 1 << 16)):
                self._begun[name] = self._begun.get(name, 0) + 1

    def keep(self) -> None:
        """Keep what was filled as far as is known."""
        while self._begun:
            self._keep_one(self._folder / next(iter(self._begun)))

    def _keep_one(self, log: Path) -> None:
        self.hear()
        surely = self._begun.pop(log.name) + self._unkept.pop(log.name, 0)
        try:
            if not take(log):
                return
            self.hear()
            meanwhile = self._begun.get(log.name, 0)  # begun before it was taken, or after
            if meanwhile and inode_of(log) == inode_of(taken(log)):
                surely, meanwhile = surely + self._begun.pop(log.name), 0
            append_taken(log, lost=True if surely > 1 else None if meanwhile else False)
        except OSError:  # the disk is full, or its environment is being removed
            self._unkept[log.name] = surely


def _keep(folder: Path) -> None:
    """Keep every full file in ``folder``, for ever."""
    keeper = Keeper(folder)
    keeper.begin()
    while True:
        keeper.hear(None)
        keeper.keep()


def _come_first() -> None:
    """Run before whatever else waits for a processor: a file may be full in a tenth of a second, and to keep it takes
    less than a thousandth."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with contextlib.suppress(OSError):  # a kernel may have it that a cgroup has none of it
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _names(events: bytes) -> Iterator[str]:
    """Yield the log of each event, in their order. Source: inotify(7)"""
    offset = 0
    while offset < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, offset)
        offset += _EVENT.size
        name = os.fsdecode(events[offset : offset + length].rstrip(b"\0"))
        offset += length
        if mask & (_OVERFLOW | _IGNORED):
            raise OSError("more files were filled than could be kept, or their folder is gone")
        if name.endswith(".log"):
            yield name


def _watch(folder: Path) -> int:
    import ctypes  # only who keeps logs pays for it

    library = ctypes.CDLL(None, use_errno=True)
    watch = int(library.inotify_init1(os.O_CLOEXEC))
    if watch < 0 or library.inotify_add_watch(watch, os.fsencode(folder), _MOVED_TO | _ONLY_FOLDER) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    return watch


def _locked(path: Path) -> bool:
    """Take the lock for as long as this process lives; False when another keeps it. Whoever asks who has it, has it
    for a moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(OSError):  # a pipe that somebody has put there locks as well
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return True
        time.sleep(_POLL_S)
    return False


if __name__ == "__main__" and _locked(Path(sys.argv[2])):
    _come_first()
    _keep(Path(sys.argv[1]))
