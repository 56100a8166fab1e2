"""The state directory itself: made for one user alone, in nobody else's hands, and marked by six digits of its own."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from instar import durable
from instar.errors import HostError
from instar.model.state import StateDirectory

SHOW_ID = "ls -d /run/instar-*"
_ID = re.compile(r"[0-9a-f]{6}")


def require_roots(folder: Path) -> None:
    """Raise HostError where somebody besides root could have written what is in the state directory that root works
    in. One of root's with nothing in it is closed."""
    try:
        found = folder.stat()
        is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_uid == 0 and is_open and not any(folder.iterdir()):
            folder.chmod(0o700)
            if not any(folder.iterdir()):
                return
            folder.chmod(stat.S_IMODE(found.st_mode))
    except OSError:
        return  # it is still to be made, or whoever makes it says why not
    from instar.permissions import other_adder

    who = other_adder(found)
    if who is not None:
        raise HostError(
            f"cannot use the state directory '{folder}': {who} may write to it, and it decides what root runs",
            hint="without root, whose it is can work with it; if nothing but Instar's is in it, all of that is right, "
            f"and it is to be root's: chown root: '{folder}' && chmod 0700 '{folder}'",
        )


def close(state: StateDirectory) -> None:
    """Make the state directory, and let nobody else in: what images and volumes hold can be reached through it."""
    for folder in (state.root, state.run):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if stat.S_IMODE(folder.stat().st_mode) != 0o700:
                folder.chmod(0o700)
        except OSError as error:
            raise HostError(f"cannot write to state directory '{folder}': {error.strerror}") from error


def find_id(path: Path) -> str | None:
    """Return the six digits in ``path``, None where there is no such file. Raises HostError."""
    try:
        text = durable.read(path).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read '{path}': {error.strerror}") from error
    if not _ID.fullmatch(text):
        raise HostError(
            f"cannot use '{path}': it does not hold six hexadecimal digits",
            hint=f"put it back from a copy, or write the digits that the names of what runs have: {SHOW_ID}",
        )
    return text


def write_id(path: Path) -> str:
    """Write a new id, or return the one that another process has just written."""
    try:
        durable.write_once(path, f"{os.urandom(3).hex()}\n".encode(), mode=0o644)
    except OSError as error:
        raise HostError(f"cannot write to state directory '{path.parent}': {error.strerror}") from error
    found = find_id(path)
    assert found is not None  # nobody removes it
    return found
