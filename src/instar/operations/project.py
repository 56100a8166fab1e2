"""Whose an environment is: two projects of one name must not take each other's over without a word.

A definition gets a random id with its first lock, which travels in ``instar.lock``; an environment remembers the id of
the project that made it. A lock or an environment from before ids gets one silently, once: the lock the environment's,
where that has one already, since nobody can tell then that it is another project's.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

from instar.definition import Loaded
from instar.errors import LockError, Refused
from instar.ledger.environments import ADD_ADOPT_NAME, another_project
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.lock import is_locked, lock_path
from instar.operations.workspace import Workspace


def require_own(workspace: Workspace, environment: EnvironmentId, loaded: Loaded, *, adopt: bool = False) -> None:
    """Raise Refused when ``environment`` is another project's than the definition's, unless that is to ``adopt`` it."""
    state = workspace.ledger.find_environment(environment)
    if adopt or state is None or state.project is None:
        return
    if not is_locked(loaded):
        raise _without_lock(environment, lock_path(loaded))
    if _locked_id(loaded) not in (None, state.project):
        raise another_project(environment)


def require_own_source(workspace: Workspace, environment: EnvironmentId, loaded: Loaded) -> None:
    """Raise Refused when another project's releases would be taken from ``environment``."""
    way_out = f"or take it over: instar deploy {environment.name} --adopt-name"
    try:
        require_own(workspace, environment, loaded)
    except Refused as error:
        if not is_locked(loaded):
            raise _without_lock(environment, lock_path(loaded), way_out) from error
        raise another_project(environment, way_out) from error


def _without_lock(environment: EnvironmentId, lock: Path, way_out: str = ADD_ADOPT_NAME) -> Refused:
    """Return the refusal to work on an environment that a project with a lock has made, from a folder without one."""
    return Refused(
        f"cannot work on '{environment}': there is no '{lock.name}' here, and its id tells whether this is the project "
        "that has it",
        hint=f"bring it back: git checkout {shlex.quote(lock.name)}, or from where it was; if this is another "
        f"project, give it another 'name'; {way_out}",
    )


def require_own_beside(state: EnvironmentState, file: Path) -> None:
    """Raise Refused when the lock beside the definition ``file`` is of another project than the environment.

    A lock that is missing or damaged says nothing of it: then the name has to do, so that nobody is kept from a
    rollback by a file that a rollback does not need.
    """
    from instar.lock.project_id import read_project_id

    if state.project is None:
        return
    if read_project_id(file.with_suffix(".lock")) not in (None, state.project):
        raise another_project(state.id, f"or, if you mean that one, write {state.id}")


def project_of(workspace: Workspace, environment: EnvironmentId, loaded: Loaded) -> str | None:
    """Return the definition's id, which its lock has; one from before ids gets it now. None without a lock."""
    if not is_locked(loaded):
        return None
    found = _locked_id(loaded)
    if found is not None:
        return found
    state = workspace.ledger.find_environment(environment)
    given = (state.project if state else None) or os.urandom(16).hex()
    _write_id(workspace, loaded, given)
    return given


def _locked_id(loaded: Loaded) -> str | None:
    from instar.lock.file import read

    return read(lock_path(loaded)).id


def _write_id(workspace: Workspace, loaded: Loaded, project: str) -> None:
    from instar.lock.file import read, write

    path = lock_path(loaded)
    try:
        write(path, dataclasses.replace(read(path), id=project))
    except LockError as error:  # a checkout that can only be read: the environment knows it, and the next lock gets it
        text = f"'{path.name}' could not be given the id of this project: {error.message}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
