"""Who acts: the locks of environments, of the image store, and of the agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instar.errors import EnvironmentBusy
from instar.host import locks
from instar.model.progress import Progress

if TYPE_CHECKING:
    from instar.model.release import EnvironmentId
    from instar.operations.workspace import Workspace

_QUIETLY_S = 0.5
_STORE_PATIENCE_S = 900
_AGENT_PATIENCE_S = 30.0  # longer than it ever holds one, unless it was stopped
_TAKE_OVER = "wait until it has finished, or end it and go on where it stopped: add --take-over"


@contextlib.contextmanager
def hold_store(workspace: Workspace, *, to_remove: bool = False) -> Iterator[None]:
    """Be the only one who bakes inside; wait for a running bake, and say that one does.

    ``to_remove``: and keep everybody away who is about to need what is there (:func:`keep_from_gc`).
    """
    nobody_needs = _gc_lock(workspace, shared=False) if to_remove else contextlib.nullcontext()
    with nobody_needs, _patiently(workspace, workspace.state.locks / "store", shared=False):
        yield


@contextlib.contextmanager
def keep_from_gc(workspace: Workspace) -> Iterator[None]:
    """Keep images and secrets that no release needs yet from being removed inside. Bakes go on meanwhile."""
    with _gc_lock(workspace, shared=True):
        yield


def _gc_lock(workspace: Workspace, *, shared: bool) -> contextlib.AbstractContextManager[None]:
    return _patiently(workspace, workspace.state.locks / "gc", shared=shared)


@contextlib.contextmanager
def _patiently(workspace: Workspace, path: Path, *, shared: bool) -> Iterator[None]:
    what = "the image store"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, what, wait_s=_QUIETLY_S, shared=shared))
        except EnvironmentBusy as error:
            text = f"for process {error.pid or '(unknown)'}, which bakes or collects"
            workspace.report(Progress(stage="wait", text=text))
            held.enter_context(locks.hold(path, what, wait_s=_STORE_PATIENCE_S, shared=shared))
        yield


@contextlib.contextmanager
def hold_environment(
    workspace: Workspace, environment: EnvironmentId, *, take_over: bool = False, patient: bool = True
) -> Iterator[None]:
    """Be the one who acts on ``environment`` inside. ``take_over`` ends the holder first.

    A ``patient`` caller waits for the agent, which holds an environment only for as long as it acts. Raises
    EnvironmentBusy, which says what is done there.
    """
    path = environment_lock(workspace, environment)
    pid = locks.end_holder(path) if take_over else None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=10.0 if pid else 0.0, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            if not patient or error.pid is None or error.pid != agent_pid(workspace):
                raise _busy(workspace, environment, error) from error
            held.enter_context(_after_the_agent(workspace, environment, path))
        if pid:
            workspace.ledger.record("taken-over", environment, pid=pid)
        yield


@contextlib.contextmanager
def _after_the_agent(workspace: Workspace, environment: EnvironmentId, path: Path) -> Iterator[None]:
    """Hold an environment as soon as the agent has done what it does there just now; say so when that takes long."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=_QUIETLY_S, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            workspace.report(Progress(stage="wait", text=f"for the agent (process {error.pid}), which works there"))
            try:
                held.enter_context(locks.hold(path, str(environment), wait_s=_AGENT_PATIENCE_S, hint=_TAKE_OVER))
            except EnvironmentBusy as still:
                raise _busy(workspace, environment, still) from still
        yield


def environment_lock(workspace: Workspace, environment: EnvironmentId) -> Path:
    """Return the lock of whoever acts on ``environment``."""
    return workspace.state.locks / f"{environment.service}--{environment.name}"


def agent_lock(workspace: Workspace) -> Path:
    """Return the lock that the agent holds as long as it runs."""
    return workspace.state.locks / "agent"


def agent_pid(workspace: Workspace) -> int | None:
    """Return the process of the agent of this state directory, None when none runs."""
    return locks.find_holder(agent_lock(workspace))


def _busy(workspace: Workspace, environment: EnvironmentId, error: EnvironmentBusy) -> EnvironmentBusy:
    """Say what the holder does, where the ledger tells."""
    state = workspace.ledger.find_environment(environment)
    if state is None or state.rollout is None:
        return error
    rollout = state.rollout
    what = f"a {rollout.kind} to release {rollout.target}, begun by {rollout.actor}, is under way there"
    who = f"(process {error.pid})" if error.pid else "(by another process)"
    return EnvironmentBusy(f"cannot work on '{environment}': {what} {who}", pid=error.pid, hint=_under_way(environment))


def _under_way(environment: EnvironmentId) -> str:
    return f"{_TAKE_OVER}; to give it up: instar rollout abort {environment}"
