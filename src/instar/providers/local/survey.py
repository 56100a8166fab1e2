"""A look at an instance's writable places and processes from outside, which it cannot lead astray.

Every folder is opened below the one before it, without following a link and without leaving its mount; no file is
opened at all. Names are made printable here: whoever is inside chooses them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from instar.host.kernel import cgroups
from instar.host.processes import processes
from instar.model.survey import Seen, Survey, Writable
from instar.process import Process

PLACES = ("/dev/shm", "/run", "/tmp")  # noqa: S108 - in an instance
MOST_FILES = 20_000  # of a place
MOST_DEEP = 40
_NAME_LIMIT = 300  # characters
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def survey(process: Process, group: str, volumes: Sequence[str]) -> Survey | None:
    """Return what is there of the instance whose first process that is; None when it has ended."""
    try:
        root = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not processes.lives(process):
            return None
        places = {path: _walk(root, path) for path in (*PLACES, *volumes)}
    finally:
        os.close(root)
    return Survey(places=places, processes=dict(_processes(group)))


def printable(name: str) -> str:
    """Return a name that others chose as one line of printable characters."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = text if len(text) <= _NAME_LIMIT else f"{text[: _NAME_LIMIT - 1]}…"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _processes(group: str) -> Iterator[tuple[tuple[int, int], str]]:
    for pid in cgroups.members(group):
        found = processes.identify(pid)
        if found is not None:
            words = " ".join(processes.command_line(pid))
            yield (found.pid, found.start_time), printable(words) or "(no command line)"


def _walk(root: int, path: str) -> Writable:
    """Walk through a place; what cannot be opened, or goes while one looks, is not there."""
    folder = _opened(root, PurePosixPath(path).parts[1:])
    if folder is None:
        return Writable()
    files: dict[str, Seen] = {}
    device = os.fstat(folder).st_dev
    whole = True
    todo = [(folder, path)]
    try:
        while todo and whole:
            current, name = todo.pop()
            try:
                whole = _enter(current, name, device, files, todo)
            finally:
                os.close(current)
    finally:
        for left, _ in todo:
            os.close(left)
    return Writable(files=files, whole=whole)


def _enter(folder: int, path: str, device: int, files: dict[str, Seen], todo: list[tuple[int, str]]) -> bool:
    """Note what is in an open folder, and open those below it; return whether there was room for all."""
    below = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if len(files) >= MOST_FILES:
                return False
            with contextlib.suppress(OSError):
                found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                if found.st_dev != device:
                    continue
                files[printable(f"{path}/{entry.name}")] = _seen(found)
                if stat.S_ISDIR(found.st_mode):
                    below.append(entry.name)
    whole = path.count("/") < MOST_DEEP or not below
    for name in below if whole else ():
        opened = _opened(folder, (name,))
        if opened is not None:
            todo.append((opened, f"{path}/{name}"))
    return whole


def _seen(found: os.stat_result) -> Seen:
    if stat.S_ISDIR(found.st_mode):
        return Seen(mode=found.st_mode)
    return Seen(mode=found.st_mode, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _opened(start: int, parts: Sequence[str]) -> int | None:
    """Return a descriptor of the folder ``parts`` below ``start``, none of them a link; None when there is none."""
    current = os.dup(start)
    for part in parts:
        try:
            following = os.open(part, _FOLDER, dir_fd=current)
        except OSError:
            return None
        finally:
            os.close(current)
        current = following
    return current
