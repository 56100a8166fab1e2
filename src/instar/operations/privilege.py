"""Which verbs only root may run."""

from __future__ import annotations

import os
from typing import Final

from instar.errors import NotRoot

STATE_IS_ROOTS: Final = "the state directory belongs to root"


def require_root(verb: str, why: str = "it makes mounts, namespaces and cgroups") -> None:
    """Raise NotRoot unless this process is root's."""
    if os.geteuid() != 0:
        raise NotRoot(f"cannot run '{verb}': {why}, which takes root", hint=f"sudo instar {verb} …")
