"""Removing a tree that others have filled, however deep it is: Python's own way ends at a thousand folders."""

from __future__ import annotations

from pathlib import Path

from instar import process
from instar.errors import CommandFailed, HostError

_TIMEOUT_S = 3_600.0


def remove(path: Path) -> None:
    """Remove ``path`` and all below it; one that isn't there is fine. No link is followed, no other mount entered.

    Raises HostError when something of it is left.
    """
    try:
        process.run(["rm", "-rf", "--one-file-system", "--", path], timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        cause = error.output.strip().split("\n")[-1] or error.message
        raise HostError(f"cannot remove '{path}': {cause.removeprefix('rm: ')}") from error
