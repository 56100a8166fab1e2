"""Whose the code is that root runs: who may change it, is root at the next command and in the agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import instar
from instar.permissions import other_writer

_HINT = (
    "install a copy that is root's alone: sudo git clone CLONE /opt/instar && sudo /opt/instar/scripts/setup, "
    "then run /opt/instar/.venv/bin/instar, also in the agent's unit"
)


def warnings() -> tuple[str, ...]:
    """Return a warning where somebody besides root may change what root runs here."""
    for path in _code():
        found = _who_else(path)
        if found is not None:
            return (
                f"root runs Instar from '{path}', which {found} may change: that is as good as being root; {_HINT}",
            )
    return ()


def _code() -> Iterator[Path]:
    """Yield what is run, and every folder on the way to it: whoever has one can put another in its place."""
    package = Path(instar.__path__[0]).resolve()
    roots = [package, Path(sys.prefix).resolve(), Path(sys.executable).resolve(), Path(sys.argv[0]).resolve()]
    roots += [Path(entry).resolve() for entry in sys.path if entry and Path(entry).exists()]
    for root in dict.fromkeys(roots):
        yield from reversed(root.parents)
        yield root
    for folder, _, files in os.walk(package):
        yield Path(folder)
        yield from (Path(folder, name) for name in files if not name.endswith(".pyc"))


def _who_else(path: Path) -> str | None:
    try:
        return other_writer(path.lstat())
    except OSError:
        return None
