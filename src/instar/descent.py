"""A way through the folders below one that others fill, and may change meanwhile.

One folder of them is open at a time, so that they may be nested deeper than a path can say or a process may have files
open. No link is followed. What is above a folder is known by what it is, not by where it was: one that was moved leads
nowhere else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from instar.frozen import dataclass

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """One that is gone through: its own name, which folder it is, and the names in it that are left, sorted."""

    own: bytes
    which: tuple[int, int]
    left: Iterator[bytes]


class Descent:
    """``here`` is the folder that is open now; ``depth`` how many are above it."""

    def __init__(self, top: int) -> None:
        """Begin in the open folder ``top``, which stays open. Raises OSError."""
        self._top = top
        self._name: bytes | None = b""
        self.here = os.dup(top)
        try:
            self._path = [_listed(self.here, b"")]
        except OSError:
            os.close(self.here)
            raise

    def close(self) -> None:
        os.close(self.here)

    @property
    def depth(self) -> int:
        return len(self._path) - 1

    @property
    def name(self) -> bytes:
        """The names of the folders from the top to here, each with "/" behind it."""
        if self._name is None:
            self._name = b"".join(one.own + b"/" for one in self._path[1:])
        return self._name

    def next(self) -> bytes | None:
        """Return the next name in this folder; None where there is none any more."""
        return next(self._path[-1].left, None)

    def enter(self, own: bytes) -> None:
        """Go into the folder ``own`` of this one. Raises OSError, and is here still."""
        below = os.open(own, FOLDER, dir_fd=self.here)
        try:
            self._path.append(_listed(below, own))
        except OSError:
            os.close(below)
            raise
        os.close(self.here)
        self.here, self._name = below, None

    def leave(self) -> int:
        """Go to the folder above, or where it was moved meanwhile to the nearest one above that is still where it was;
        return how many levels up that is. Raises OSError."""
        self._path.pop()
        self._name = None
        with contextlib.suppress(OSError):
            above = os.open("..", FOLDER, dir_fd=self.here)
            if _which(above) == self._path[-1].which:
                os.close(self.here)
                self.here = above
                return 1
            os.close(above)
        depth = self.depth
        found = self._reached()
        os.close(self.here)
        self.here = found
        return 1 + depth - self.depth

    def _reached(self) -> int:
        """Open the last folder to which all names lead from the top, and have those below it off the path."""
        descriptor = os.dup(self._top)
        for number, one in enumerate(self._path[1:], 1):
            below = None
            with contextlib.suppress(OSError):
                below = os.open(one.own, FOLDER, dir_fd=descriptor)
            if below is None or _which(below) != one.which:
                if below is not None:
                    os.close(below)
                del self._path[number:]
                break
            os.close(descriptor)
            descriptor = below
        return descriptor


def _listed(folder: int, own: bytes) -> _Folder:
    names = sorted(map(os.fsencode, os.listdir(folder)))
    return _Folder(own=own, which=_which(folder), left=iter(names))


def _which(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino
