"""Keeps what instances have printed while nobody looks: a program of its own, that needs Python's library alone.

One runs for a state directory. conmon begins its file anew when that is full; this one hears of it from the kernel
(inotify) and keeps the full file before the next is full as well, however fast an instance prints. Nothing depends on
it: killed, it costs lines at the worst, whose place is marked; the next launch, or the agent, starts another. It ends
with the last instance.

Usage: log_keeper.py FOLDER LOCK: the folder of the logs, and the file that whoever keeps them has locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

OWN_STREAM = "instar"
LOST = "(lines are missing here: they came faster than they could be kept)"
PERHAPS_LOST = "(lines may be missing here: what keeps full logs did not run)"
_MOVED_TO, _OVERFLOW, _IGNORED, _ONLY_FOLDER = 0x80, 0x4000, 0x8000, 0x01000000  # Source: linux/inotify.h
_EVENT = struct.Struct("=iIII")
_PATIENCE_S = 2.0
_POLL_S = 0.05


def keep_full(log: Path, *, lost: bool | None = False) -> None:
    """Keep the lines of a file that conmon has filled. ``lost``: whether another was filled, and lost, between that
    one and today's; None: nobody knows."""
    current = inode_of(log)
    if current is None or current == inode_of(held(log)):
        return
    with contextlib.suppress(OSError):  # another process was quicker: the same links are there
        if held(log).exists():
            if lost is not False:
                _mark(held(log), LOST if lost else PERHAPS_LOST)
            if before(log, 1).exists():
                before(log, 1).rename(before(log, 2))
            held(log).rename(before(log, 1))
        os.link(log, held(log))


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


def _keep(folder: Path) -> None:
    """Keep every full file in ``folder``, for ever."""
    watch = _watch(folder)
    for log in folder.glob("*.log"):
        keep_full(log, lost=None)
    while events := os.read(watch, 1 << 16):
        names = list(_names(events))
        for name in dict.fromkeys(names):
            keep_full(folder / name, lost=names.count(name) > 1)


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
    _keep(Path(sys.argv[1]))
