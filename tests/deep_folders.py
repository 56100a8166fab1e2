"""Folders that are nested deeper than a path can say, than Python can call itself, and than a process may have open."""

from __future__ import annotations

import os
from pathlib import Path


def nest(folder: Path, depth: int, name: str = "d", *, mode: int = 0o777, last: str | None = None) -> None:
    """Make so many folders in ``folder``, one in another; in the last one an empty file, if it has a name."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, mode, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    if last is not None:
        os.close(os.open(last, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here))
    os.close(here)


def depth_of(folder: Path, name: str = "d") -> tuple[int, list[str]]:
    """Return how many folders are one in another, and what is in the last."""
    here, depth = os.open(folder, os.O_RDONLY), 0
    while name in (names := [one.name for one in os.scandir(here)]):
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, depth = below, depth + 1
    os.close(here)
    return depth, names
