"""Which verbs only root may run: those of a provider that needs root, and a bake, which changes root file systems."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from instar.errors import NotRoot

if TYPE_CHECKING:
    from instar.operations.workspace import Workspace


def require_root(verb: str, why: str = "it makes mounts, namespaces and cgroups") -> None:
    """Raise NotRoot unless this process is root's."""
    if os.geteuid() != 0:
        raise NotRoot(f"cannot run '{verb}': {why}, which takes root", hint=f"sudo instar {verb} …")


def may_use(workspace: Workspace, provider: str) -> bool:
    """Tell whether this process may use ``provider``: as root, or because it needs no root."""
    return os.geteuid() == 0 or not workspace.provider_package(provider).traits.needs_root


def require_root_for(workspace: Workspace, provider: str, verb: str) -> None:
    """Raise NotRoot where ``provider`` needs root for what it does, and this process is not root's."""
    if os.geteuid() != 0 and workspace.provider_package(provider).traits.needs_root:
        require_root(verb)
