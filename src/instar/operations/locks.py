"""Who acts: the locks of environments, of the image store, and of the agent."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar import locks
from instar.errors import EnvironmentBusy, InstarError
from instar.model.progress import Progress
from instar.syscalls import boot_id

if TYPE_CHECKING:
    from datetime import datetime

    from instar.ledger.leases import Leases
    from instar.model.release import EnvironmentId, EnvironmentState
    from instar.operations.workspace import Workspace
    from instar.providers.traits import Traits

_QUIETLY_S = 0.5
_STORE_PATIENCE_S = 900
LONGEST_HOLD_S = 20.0  # by the agent, before it begins nothing more and lets others have their turn
_ASKED_EACH_S = 1.0
_TO_ITS_END_S = 10.0  # what it has begun then
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
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=10.0 if pid else 0.0, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            whom = _waited_for(workspace, error) if patient else None
            if whom is None:
                raise _busy(workspace, environment, error) from error
            held.enter_context(_after(whom, workspace, environment, path))
        if workspace.ledger.leases is not None:
            if not anywhere:
                require_here(workspace, environment)
            held.enter_context(_lease(workspace, workspace.ledger.leases, environment, take_over=take_over))
        if pid:
            from instar.model.happenings import TakenOver

            workspace.ledger.record(TakenOver(pid=pid), environment)
        yield


@contextlib.contextmanager
def _lease(workspace: Workspace, leases: Leases, environment: EnvironmentId, *, take_over: bool) -> Iterator[None]:
    """Hold the lease of a shared ledger inside, by who has this machine's lock. After a boot nothing of it is held by
    this lock, and another machine that says that it is this one has another boot."""
    boot = boot_id()
    _require_own_boot(workspace, leases, boot, take_over=take_over)
    machine = _lessee(workspace, boot)
    holder = f"{workspace.actor} on {workspace.machine} (process {os.getpid()})"
    with leases.holding(environment, holder, machine=machine, take_over=take_over):
        yield


def _lessee(workspace: Workspace, boot: str) -> str:
    """Return what a lease is held by: of a boot of a machine nothing is held after it."""
    return f"{workspace.machine}, boot {boot}"


@contextlib.contextmanager
def attend(workspace: Workspace, instance: str) -> Iterator[None]:
    """Wait for the end of the command that ``instance`` runs inside: until then it is left alone. It is known at once
    that who did has ended; by others who share the ledger, as soon as its lease is over."""
    path = _attendance(workspace, instance)
    with contextlib.ExitStack() as held:
        held.callback(path.unlink, missing_ok=True)
        held.enter_context(locks.hold(path, instance, inherited=False))
        if workspace.ledger.leases is not None:
            machine, holder = _lessee(workspace, boot_id()), f"{workspace.actor} on {workspace.machine}"
            held.enter_context(workspace.ledger.leases.holding(_of_run(instance), holder, machine=machine))
        yield


def is_attended(workspace: Workspace, instance: str) -> bool:
    """Tell whether somebody waits for the end of the command that ``instance`` runs, here or elsewhere."""
    if locks.find_holder(_attendance(workspace, instance)) is not None:
        return True
    leases = workspace.ledger.leases
    lessee = _lessee(workspace, boot_id())
    return leases is not None and leases.holder_elsewhere(_of_run(instance), machine=lessee) is not None


def _attendance(workspace: Workspace, instance: str) -> Path:
    return workspace.state.locks / f"run--{instance}"


def _of_run(instance: str) -> EnvironmentId:
    """Return what the lease on a run is of: no service is called so."""
    from instar.model.release import EnvironmentId

    return EnvironmentId(service="*", name=instance)


def who_acts_on(workspace: Workspace, environment: EnvironmentId) -> str | None:
    """Return, for people, who acts on ``environment`` now, here or elsewhere. Takes neither a lock nor a lease."""
    pid, leases = locks.find_holder(environment_lock(workspace, environment)), workspace.ledger.leases
    if pid is not None:
        return f"the agent (process {pid})" if pid == agent_pid(workspace) else f"process {pid}"
    return None if leases is None else leases.holder_elsewhere(environment, machine=_lessee(workspace, boot_id()))


def keeps_others_out(workspace: Workspace, environment: EnvironmentId) -> str | None:
    """Return, for people, who acts on ``environment`` and lets nobody else in before the end, as this machine's agent
    does before long."""
    pid = locks.find_holder(environment_lock(workspace, environment))
    passes = pid is not None and (pid == agent_pid(workspace) or locks.has_ended(pid))
    return None if passes else who_acts_on(workspace, environment)


def lead(workspace: Workspace) -> bool:
    """Be the agent that acts on what no machine has for itself, of all that share the ledger; False: another one is.
    The caller has the lock of agents. Where the ledger is one machine's own, there is no other."""
    leases = workspace.ledger.leases
    if leases is None:
        return True
    boot = boot_id()
    _require_own_boot(workspace, leases, boot, take_over=False)
    holder = f"the agent on {workspace.machine} (process {os.getpid()})"
    return leases.lead(holder, machine=_lessee(workspace, boot))


def stop_leading(workspace: Workspace) -> None:
    """Let another agent lead from now on."""
    if workspace.ledger.leases is not None:
        with contextlib.suppress(InstarError):
            workspace.ledger.leases.stop_leading()


def leader(workspace: Workspace) -> tuple[str, datetime] | None:
    """Return which agent leads of those that share the ledger, and since when; None where none does, or the ledger is
    one machine's own."""
    leases = workspace.ledger.leases
    return None if leases is None else leases.leader()


def leader_elsewhere(workspace: Workspace) -> str | None:
    """Return which agent leads, where it is another machine's."""
    leases = workspace.ledger.leases
    return None if leases is None else leases.leader_elsewhere(machine=_lessee(workspace, boot_id()))


def agent_in_charge(workspace: Workspace, traits: Traits) -> str | None:
    """Return, for people, which agent acts on environments of a provider: the one that leads, of what no machine has
    alone, else this machine's. None: none does."""
    leading = None if traits.of_one_machine else leader(workspace)
    if leading is not None:
        return leading[0]
    pid = agent_pid(workspace)
    return None if pid is None else f"the agent (process {pid})"


def _require_own_boot(workspace: Workspace, leases: Leases, boot: str, *, take_over: bool) -> None:
    """See to it that no other machine says that it is this one. Just after a boot that takes some seconds, in which the
    one before would be heard of. Raises MachineDoubled, and Cancelled meanwhile."""
    said = False
    while wait_s := leases.act_as(workspace.machine, boot, take_over=take_over):
        if not said:
            text = f"for {wait_s:.0f} s at most, until it is certain that the boot before of this machine has ended"
            workspace.report(Progress(stage="wait", text=text))
            said = True
        workspace.cancellation.pause(min(wait_s, _ASKED_EACH_S))
        workspace.cancellation.check()


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
            patience_s = LONGEST_HOLD_S + _TO_ITS_END_S
            workspace.report(Progress(stage="wait", text=f"for {whom}: {patience_s:.0f} s at most"))
            try:
                held.enter_context(_held_in_time(workspace, path, str(environment), patience_s, hint=_TAKE_OVER))
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
