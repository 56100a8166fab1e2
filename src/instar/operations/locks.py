"""Who acts: the locks of environments, of the image store, and of the agent."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar import locks
from instar.errors import EnvironmentBusy
from instar.model.progress import Progress
from instar.operations import turns
from instar.operations.own_boot import lessee, require_own_boot

if TYPE_CHECKING:
    from instar.ledger.leases import Leases
    from instar.model.release import EnvironmentId, EnvironmentState
    from instar.operations.workspace import Workspace

_QUIETLY_S = 0.5
_STORE_PATIENCE_S = 900
LONGEST_HOLD_S = 20.0  # by the agent, before it begins nothing more and lets others have their turn
_TO_ITS_END_S = 10.0  # what it has begun then
_PATIENCE_S = LONGEST_HOLD_S + _TO_ITS_END_S
_TAKE_OVER = "wait until it has finished, or end it and continue where it stopped with --take-over"


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


@contextlib.contextmanager
def hold_needs(workspace: Workspace, *, to_remove: bool = False) -> Iterator[None]:
    """Look for an image or a secret inside, and write down who needs it from now on; or, ``to_remove``, read what is
    needed, and take away what is not.

    Who begins to need one is so either seen by who removes it, or finds it gone. Inside nobody waits for anybody, so
    that a rollback, which does not wait for the store, waits for no longer than it takes to read what is needed.
    """
    doing = "looks for an image or a secret" if to_remove else "removes what nobody needs"
    with _patiently(workspace, workspace.state.locks / "needs", shared=not to_remove, doing=doing):
        yield


def _gc_lock(workspace: Workspace, *, shared: bool) -> contextlib.AbstractContextManager[None]:
    doing = "bakes, collects or makes a backup"
    return _patiently(workspace, workspace.state.locks / "gc", shared=shared, doing=doing)


@contextlib.contextmanager
def _patiently(workspace: Workspace, path: Path, *, shared: bool, doing: str = "bakes or collects") -> Iterator[None]:
    what = "the image store"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, what, wait_s=_QUIETLY_S, shared=shared))
        except EnvironmentBusy as error:
            workspace.report(Progress(stage="wait", text=f"for process {error.pid or '(unknown)'}, which {doing}"))
            held.enter_context(_held_in_time(workspace, path, what, _STORE_PATIENCE_S, shared=shared))
        yield


@contextlib.contextmanager
def _held_in_time(workspace: Workspace, path: Path, what: str, patience_s: float, **options: Any) -> Iterator[None]:
    """Hold a lock once it is free, within ``patience_s``. Raises EnvironmentBusy, and Cancelled meanwhile."""
    deadline = time.monotonic() + patience_s
    with contextlib.ExitStack() as held:
        while True:
            workspace.cancellation.check()
            try:
                held.enter_context(locks.hold(path, what, wait_s=_QUIETLY_S, **options))
                break
            except EnvironmentBusy:
                if time.monotonic() >= deadline:
                    raise
        yield


@contextlib.contextmanager
def hold_environment(
    workspace: Workspace,
    environment: EnvironmentId,
    *,
    take_over: bool = False,
    patient: bool = True,
    anywhere: bool = False,
) -> Iterator[None]:
    """Be the one who acts on ``environment`` inside. ``take_over`` ends the holder first.

    ``anywhere``: also where its instances are on another machine.

    A ``patient`` caller waits for the agent, which holds an environment only for as long as it acts, and for the end
    of what a process began that is dead. Raises EnvironmentBusy, which says what is done there.
    """
    path = environment_lock(workspace, environment)
    pid = locks.end_holder(path) if take_over else None
    if take_over:
        locks.end_holder(turns.turn_lock(path))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=10.0 if pid else 0.0, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            whom = _waited_for(workspace, error) if patient else None
            if whom is None:
                raise _busy(workspace, environment, error) from error
            held.enter_context(_after(whom, workspace, environment, path))
        held.enter_context(turns.acting(path, str(environment), wait_s=_PATIENCE_S if patient else 0.0))
        if workspace.ledger.leases is not None:
            if not anywhere:
                require_here(workspace, environment)
            held.enter_context(_lease(workspace, workspace.ledger.leases, environment, take_over=take_over))
        if pid:
            from instar.model.happenings import TakenOver

            workspace.ledger.record(TakenOver(pid=pid), environment)
        yield


@contextlib.contextmanager
def take_turn(workspace: Workspace, environment: EnvironmentId, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Act on ``environment`` inside, for a short time: as who has it, or beside who has it and only waits just now.

    Raises EnvironmentBusy where that one lets nobody act meanwhile, or does not wait within ``patience_s``.
    """
    deadline, said = time.monotonic() + patience_s, False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(hold_environment(workspace, environment))
                break
            except EnvironmentBusy as busy:
                beside = _beside(workspace, environment, busy)
                if beside is not None:
                    held.enter_context(beside)
                    break
                if time.monotonic() >= deadline:
                    raise
                workspace.cancellation.check()
                if not said:
                    text = f"for process {busy.pid}, which works there: {patience_s:.0f} s at most"
                    workspace.report(Progress(stage="wait", text=text))
                said = True
        yield


def _beside(
    workspace: Workspace, environment: EnvironmentId, busy: EnvironmentBusy
) -> contextlib.AbstractContextManager[object] | None:
    """Return what holds the turn beside who has ``environment``, None where that one acts just now. Raises ``busy``
    where they let nobody act beside them, or hold it by a lease, which nobody else can act by."""
    path = environment_lock(workspace, environment)
    if busy.pid is None or workspace.ledger.leases is not None or not turns.gives_away(busy.pid, path):
        raise busy
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(turns.turn_lock(path), str(environment), wait_s=_QUIETLY_S))
        except EnvironmentBusy:
            return None
        same = locks.find_holder(path) == busy.pid and turns.gives_away(busy.pid, path)
        return held.pop_all() if same else None


@contextlib.contextmanager
def give_way(workspace: Workspace, environment: EnvironmentId) -> Iterator[None]:
    """Let others act on ``environment`` inside (:func:`take_turn`), where this process has it: it only waits."""
    path = environment_lock(workspace, environment)
    with turns.given_away(path, str(environment), workspace.report):
        yield


@contextlib.contextmanager
def _lease(workspace: Workspace, leases: Leases, environment: EnvironmentId, *, take_over: bool) -> Iterator[None]:
    """Hold the lease of a shared ledger inside, by who has this machine's lock. After a boot nothing of it is held by
    this lock, and another machine that says that it is this one has another boot."""
    require_own_boot(workspace, leases, take_over=take_over)
    machine = lessee(workspace)
    holder = f"{workspace.actor} on {workspace.machine} (process {os.getpid()})"
    with leases.holding(environment, holder, machine=machine, take_over=take_over):
        yield


def who_acts_on(workspace: Workspace, environment: EnvironmentId) -> str | None:
    """Return, for people, who acts on ``environment`` now, here or elsewhere. Takes neither a lock nor a lease."""
    pid, leases = locks.find_holder(environment_lock(workspace, environment)), workspace.ledger.leases
    if pid is not None:
        return f"the agent (process {pid})" if pid == agent_pid(workspace) else f"process {pid}"
    return None if leases is None else leases.holder_elsewhere(environment, machine=lessee(workspace))


def keeps_others_out(workspace: Workspace, environment: EnvironmentId) -> str | None:
    """Return, for people, who acts on ``environment`` and lets nobody else in before the end, as this machine's agent
    does before long."""
    pid = locks.find_holder(environment_lock(workspace, environment))
    passes = pid is not None and (pid == agent_pid(workspace) or locks.has_ended(pid))
    return None if passes else who_acts_on(workspace, environment)


def require_here(workspace: Workspace, environment: EnvironmentId) -> None:
    """Raise Refused where the instances of an environment are on another machine of those that share the ledger."""
    state = workspace.ledger.find_environment(environment) if workspace.ledger.shared else None
    if state is not None and not is_here(workspace, state):
        from instar.ledger.environments import elsewhere

        assert state.machine is not None
        raise elsewhere(environment, state.machine)


def is_here(workspace: Workspace, state: EnvironmentState) -> bool:
    """Tell whether this machine can act on an environment of the ledger."""
    return state.machine is None or not workspace.ledger.shared or state.machine == workspace.machine


@contextlib.contextmanager
def _after(whom: str, workspace: Workspace, environment: EnvironmentId, path: Path) -> Iterator[None]:
    """Hold an environment as soon as what is done there just now is done; say so when that takes long."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=_QUIETLY_S, hint=_TAKE_OVER))
        except EnvironmentBusy:
            workspace.report(Progress(stage="wait", text=f"for {whom}: {_PATIENCE_S:.0f} s at most"))
            try:
                held.enter_context(_held_in_time(workspace, path, str(environment), _PATIENCE_S, hint=_TAKE_OVER))
            except EnvironmentBusy as still:
                raise _busy(workspace, environment, still) from still
        yield


def _waited_for(workspace: Workspace, error: EnvironmentBusy) -> str | None:
    """Return who holds an environment, if it is somebody who leaves it by itself before long."""
    if error.pid is None:
        return None
    if error.pid == agent_pid(workspace):
        return f"the agent (process {error.pid}), which works there"
    if not locks.has_ended(error.pid):
        return None
    return f"what process {error.pid}, which has ended, began there"


def environment_lock(workspace: Workspace, environment: EnvironmentId) -> Path:
    """Return the lock of whoever acts on ``environment``, which no other one has.

    It is called as an older Instar, which may still act, calls it, unless another environment's was called so too.
    """
    service, name = environment.service, environment.name
    is_shared = "--" in service or "--" in name or service.endswith("-")
    return workspace.state.locks / (f"{service}.{name}" if is_shared else f"{service}--{name}")


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
