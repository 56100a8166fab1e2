"""Files that nobody can write, rename or remove, root included, before the mark is taken away (``chattr +i``)."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10


def is_marked(path: Path) -> bool:
    """Tell whether ``path`` is there and marked."""
    with contextlib.suppress(OSError), _opened(path) as descriptor:
        return bool(_flags(descriptor) & _IMMUTABLE)
    return False


def mark(path: Path) -> None:
    """Mark ``path``; file systems that know no mark (tmpfs before 6.6, overlay) leave it as it is."""
    _set(path, _IMMUTABLE)


def remove(path: Path) -> None:
    """Remove ``path``, marked or not, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        _set(path, 0)
        path.unlink()


def _set(path: Path, wanted: int) -> None:
    with _opened(path) as descriptor, contextlib.suppress(OSError):
        flags = _flags(descriptor)
        if flags & _IMMUTABLE != wanted:
            fcntl.ioctl(descriptor, _SET_FLAGS, array.array("l", [flags & ~_IMMUTABLE | wanted]))


def _flags(descriptor: int) -> int:
    flags = array.array("l", [0])
    fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
    return flags[0]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
