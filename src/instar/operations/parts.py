"""What the verbs work with. ``workspace.py`` puts it together; nothing here names a concrete provider."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from instar.errors import EnvironmentBusy, NotRoot
from instar.host import locks
from instar.model.progress import Progress

if TYPE_CHECKING:
    from instar.fetch.cache import Cache
    from instar.host.layers import LayerImages
    from instar.host.seals import Seals
    from instar.ledger import Ledger
    from instar.model.component import Component
    from instar.model.progress import Report
    from instar.model.release import EnvironmentId
    from instar.model.state import StateDirectory
    from instar.providers.base import Provider
    from instar.store import Store

_QUIETLY_S = 0.5
_STORE_PATIENCE_S = 900
_AGENT_PATIENCE_S = 30.0  # longer than it ever holds one, unless it was stopped
_TAKE_OVER = "wait until it has finished, or end it and go on where it stopped: add --take-over"


class Parts(Protocol):
    """Each part is made when it is first asked for: a verb pays for what it uses."""

    state: StateDirectory
    report: Report
    actor: str

    @property
    def ledger(self) -> Ledger: ...

    @property
    def store(self) -> Store: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def seals(self) -> Seals: ...

    @property
    def layers(self) -> LayerImages: ...

    def provider(self, name: str) -> Provider: ...

    def components(self) -> tuple[Component, ...]: ...

    def warnings(self) -> tuple[str, ...]: ...


def require_root(verb: str, why: str = "it makes mounts, namespaces and cgroups") -> None:
    """Raise NotRoot unless this process is root's."""
    if os.geteuid() != 0:
        raise NotRoot(f"cannot run '{verb}': {why}, which takes root", hint=f"sudo instar {verb} …")


@contextlib.contextmanager
def hold_store(parts: Parts, *, to_remove: bool = False) -> Iterator[None]:
    """Be the only one who bakes inside; wait for a running bake, and say that one does.

    ``to_remove``: and keep everybody away who is about to need what is there (:func:`keep_from_gc`).
    """
    nobody_needs = _gc_lock(parts, shared=False) if to_remove else contextlib.nullcontext()
    with nobody_needs, _patiently(parts, parts.state.locks / "store", shared=False):
        yield


@contextlib.contextmanager
def keep_from_gc(parts: Parts) -> Iterator[None]:
    """Keep images and secrets that no release needs yet from being removed inside. Bakes go on meanwhile."""
    with _gc_lock(parts, shared=True):
        yield


def _gc_lock(parts: Parts, *, shared: bool) -> contextlib.AbstractContextManager[None]:
    return _patiently(parts, parts.state.locks / "gc", shared=shared)


@contextlib.contextmanager
def _patiently(parts: Parts, path: Path, *, shared: bool) -> Iterator[None]:
    what = "the image store"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, what, wait_s=_QUIETLY_S, shared=shared))
        except EnvironmentBusy as error:
            text = f"for process {error.pid or '(unknown)'}, which bakes or collects"
            parts.report(Progress(stage="wait", text=text))
            held.enter_context(locks.hold(path, what, wait_s=_STORE_PATIENCE_S, shared=shared))
        yield


@contextlib.contextmanager
def hold_environment(
    parts: Parts, environment: EnvironmentId, *, take_over: bool = False, patient: bool = True
) -> Iterator[None]:
    """Be the one who acts on ``environment`` inside. ``take_over`` ends the holder first.

    A ``patient`` caller waits for the agent, which holds an environment only for as long as it acts. Raises
    EnvironmentBusy, which says what is done there.
    """
    path = environment_lock(parts, environment)
    pid = locks.end_holder(path) if take_over else None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=10.0 if pid else 0.0, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            if not patient or error.pid is None or error.pid != agent_pid(parts):
                raise _busy(parts, environment, error) from error
            held.enter_context(_after_the_agent(parts, environment, path))
        if pid:
            parts.ledger.record("taken-over", environment, pid=pid)
        yield


@contextlib.contextmanager
def _after_the_agent(parts: Parts, environment: EnvironmentId, path: Path) -> Iterator[None]:
    """Hold an environment as soon as the agent has done what it does there just now; say so when that takes long."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(path, str(environment), wait_s=_QUIETLY_S, hint=_TAKE_OVER))
        except EnvironmentBusy as error:
            parts.report(Progress(stage="wait", text=f"for the agent (process {error.pid}), which works there"))
            try:
                held.enter_context(locks.hold(path, str(environment), wait_s=_AGENT_PATIENCE_S, hint=_TAKE_OVER))
            except EnvironmentBusy as still:
                raise _busy(parts, environment, still) from still
        yield


def environment_lock(parts: Parts, environment: EnvironmentId) -> Path:
    """Return the lock of whoever acts on ``environment``."""
    return parts.state.locks / f"{environment.service}--{environment.name}"


def agent_lock(parts: Parts) -> Path:
    """Return the lock that the agent holds as long as it runs."""
    return parts.state.locks / "agent"


def agent_pid(parts: Parts) -> int | None:
    """Return the process of the agent of this state directory, None when none runs."""
    return locks.find_holder(agent_lock(parts))


def _busy(parts: Parts, environment: EnvironmentId, error: EnvironmentBusy) -> EnvironmentBusy:
    """Say what the holder does, where the ledger tells."""
    state = parts.ledger.find_environment(environment)
    if state is None or state.rollout is None:
        return error
    rollout = state.rollout
    what = f"a {rollout.kind} to release {rollout.target}, begun by {rollout.actor}, is under way there"
    who = f"(process {error.pid})" if error.pid else "(by another process)"
    return EnvironmentBusy(f"cannot work on '{environment}': {what} {who}", pid=error.pid, hint=_under_way(environment))


def _under_way(environment: EnvironmentId) -> str:
    return f"{_TAKE_OVER}; to give it up: instar rollout abort {environment}"
