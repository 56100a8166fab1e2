"""Whose Instar a verb is about, where somebody asks who is not root: root's, as nearly always, or one of their own.

Who has no state of their own, and names none, is on root's machine: what only looks is asked of root's agent, and all
else is refused before anything is made. Else it would speak of an empty ledger that was made by asking.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar import durable
from instar.errors import InstarError, NotRoot
from instar.model.state import StateDirectory

if TYPE_CHECKING:
    from instar.workspace import MachineWorkspace

_OWN = "or, for a state directory of your own: INSTAR_HOME=DIRECTORY"


def is_roots(workspace: MachineWorkspace, *, of_machine: bool = False) -> bool:
    """Tell whether what is asked for is root's, and the caller has nothing of their own here. Makes nothing.

    ``of_machine``: it is what the machine itself keeps, which a ledger that several share says nothing of.
    """
    if os.geteuid() == 0 or workspace.environ.get("INSTAR_LEDGER"):
        return False
    if workspace.environ.get("INSTAR_HOME"):
        return not durable.is_missing(workspace.state.root) and not _is_open(workspace)
    if not _roots().root.is_dir() or has_own(workspace):
        return False
    with contextlib.suppress(InstarError):  # what only root may read names no ledger of theirs
        if workspace.named_ledger() is not None:
            return of_machine and not _has_images(workspace)
    return True


def require_not_roots(workspace: MachineWorkspace, *, of_machine: bool = False) -> None:
    """Raise NotRoot where the command that is under way would be about what is root's."""
    if not is_roots(workspace, of_machine=of_machine):
        return
    context = click.get_current_context(silent=True)
    words = context.command_path if context is not None else "instar"
    named = workspace.environ.get("INSTAR_HOME")
    whose = f"'{workspace.state.root}' is root's, or another user's" if named else f"'{_roots().root}' is root's"
    raise NotRoot(
        f"cannot run '{words}': it takes root: {whose}",
        hint="; ".join(filter(None, (f"sudo {words} …", readers_may(workspace), None if named else _OWN))),
    )


def readers_socket(workspace: MachineWorkspace) -> Path | None:
    """Return where an agent of another's state directory answers; None where one's own is meant, or none answers."""
    if os.geteuid() == 0:
        return None
    if workspace.environ.get("INSTAR_HOME"):
        if _is_open(workspace):
            return None
        path = workspace.state.readers_socket
    else:
        path = _roots().readers_socket
    return path if path.is_socket() else None


def has_own(workspace: MachineWorkspace) -> bool:
    """Tell whether the caller has a ledger in which anything happened. An empty one was made by asking for nothing."""
    if workspace.environ.get("INSTAR_HOME") and not os.access(workspace.state.root, os.X_OK):
        return False
    is_there = bool(workspace.environ.get("INSTAR_LEDGER")) or workspace.state.ledger.exists()
    return is_there and bool(workspace.ledger.history(None, last=1))


def asks_an_agent(workspace: MachineWorkspace) -> bool:
    """Tell whether what runs here is another's, whose agent says who may look."""
    return readers_socket(workspace) is not None and not has_own(workspace)


def readers_may(workspace: MachineWorkspace) -> str | None:
    """Say what a group may do here that is not root; None where none may."""
    from instar.reading.client import group_of
    from instar.reading.questions import FOR_READERS

    path = readers_socket(workspace)
    group = None if path is None else group_of(path)
    return None if group is None else f"the group '{group}' may only look, without root: {', '.join(FOR_READERS)}"


def _has_images(workspace: MachineWorkspace) -> bool:
    """Tell whether the caller has a store of their own: who deploys by a ledger that several share bakes into one."""
    try:
        return bool(json.loads(durable.read_text(workspace.state.store / "index.json"))["manifests"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_open(workspace: MachineWorkspace) -> bool:
    return os.access(workspace.state.root, os.R_OK | os.W_OK | os.X_OK)


def _roots() -> StateDirectory:
    return StateDirectory.from_environment({})
