"""What a machine is called by those who share a ledger: its name, and six digits that others of that name have not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from instar import durable
from instar.errors import HostError
from instar.model.state import StateDirectory


def machine_name(state: StateDirectory) -> str:
    """Return the name of this machine with digits that another, or another state directory, does not have; where a
    backup was restored as the machine that it was taken of, that one's. Raises HostError."""
    return _restored(state.machine_name) or own_name(state)


def own_name(state: StateDirectory) -> str:
    """Return what the machine is called where nothing was restored."""
    try:
        known = Path("/etc/machine-id").read_bytes()
    except OSError:
        known = b""
    told = hashlib.sha256(known + str(state.root.resolve()).encode()).hexdigest()
    return f"{os.uname().nodename} ({told[:6]})"


def _restored(path: Path) -> str | None:
    try:
        return durable.read_text(path, "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read '{path}': {error.strerror}") from error
