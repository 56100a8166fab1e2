"""``instar agent``: the loop for every environment of this machine, again and again, in the background.

It is the same loop that deploy and rollback run in the foreground, and holds an environment only while it acts there,
not while it checks what runs: a command goes first. It keeps no state that anything needs: stopped, killed or upgraded,
nothing that runs notices, and the next one goes on where the ledger says. What it remembers (who has not answered for
how long) it learns again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Protocol

from instar import locks
from instar.control.outage import Outage
from instar.end_watch import EndWatch
from instar.errors import Cancelled, EnvironmentBusy, InstarError, LedgerDamaged, LedgerUnreachable, Refused
from instar.model.progress import Progress
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.certificate_rounds import CertificateListener, CertificateRounds
from instar.operations.converge import clear_orphans
from instar.operations.installed import installed_providers
from instar.operations.leading import lead, leader, stop_leading
from instar.operations.locks import agent_lock, agent_pid, is_here
from instar.operations.passes import Passes, PassListener, TrackedEnvironment
from instar.operations.privilege import require_root_for
from instar.operations.scrub import PAUSE_S, Scrub
from instar.operations.workspace import Workspace

CHECK_S = 5.0  # from one look at an environment that is as wanted to the next
_NEWS_S = 1.0  # how soon a new environment, or a rollout that was left to it, is seen
_ORPHANS_S = 600.0
_AT_ONCE = 4


class AgentListener(PassListener, CertificateListener, Protocol):
    """What is told of the agent's work: metrics, logs. Called from several threads."""

    def forgot(self, environment: EnvironmentId) -> None:
        """An environment is gone."""

    def beat(self) -> None:
        """Another round has begun: the agent is alive, whatever it finds."""


class Agent:
    """One per state directory. Its passes run in threads, one an environment at a time."""

    def __init__(self, workspace: Workspace, listener: AgentListener, *, check_s: float = CHECK_S) -> None:
        self._workspace = workspace
        self._listener = listener
        self._tracked: dict[EnvironmentId, TrackedEnvironment] = {}
        self._damaged: dict[str, str] = {}
        self._orphans_due = 0.0
        self._leads: bool | None = None
        self._outage = Outage(report=workspace.report)
        self._scrub = Scrub(workspace, workspace.report)
        self._scrub_due = time.monotonic() + PAUSE_S
        self._scrubbing: Future[None] | None = None
        self._certificates = CertificateRounds(workspace, listener)
        self._stop = threading.Event()
        self._passes = Passes(workspace, listener, self._stop, check_s=check_s)
        self._ends = EndWatch[tuple[EnvironmentId, int]]()

    def stop(self) -> None:
        """Have :meth:`run` return as soon as what is under way has ended. May be called by a signal handler."""
        self._stop.set()
        self._workspace.cancellation.request()
        self._certificates.stop()
        self._ends.wake()

    def run(self, begun: Callable[[], None] = lambda: None) -> None:
        """Work until :meth:`stop`; ``begun`` is called first. Raises Refused when another agent has this state
        directory."""
        with _alone(self._workspace), ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="pass") as threads:
            begun()
            self._certificates.start()
            while not self._stop.is_set():
                self._listener.beat()
                with contextlib.suppress(Cancelled):  # it is told to end, which the loop sees
                    self._look_around()
                for tracked in self._tracked.values():
                    if tracked.working is None and tracked.due <= time.monotonic():
                        self._begin(threads, tracked)
                self._begin_to_scrub(threads)
                self._rest()
            self._certificates.join()
        stop_leading(self._workspace)

    def once(self) -> bool:
        """Make a single pass: every environment as near to what is wanted as it comes now; where the active release is
        being started, as after a restore, until it serves, or has had its time. False when one failed."""
        with _alone(self._workspace):
            self._look_around()
            self._scrub.step()
            self._certificates.round()
            for tracked in self._tracked.values():
                tracked.due = time.monotonic() + self._passes.make(tracked)
            self._await_starts()
            stop_leading(self._workspace)
        return not self._damaged and not any(tracked.errors for tracked in self._tracked.values())

    def _await_starts(self) -> None:
        now = self._workspace.ledger.now
        until = now() + timedelta(seconds=max((one.starts_s() for one in self._tracked.values()), default=0.0))
        while now() < until and not self._stop.is_set():
            for tracked in (waiting := [one for one in self._tracked.values() if one.starts_s()]):
                self._workspace.cancellation.pause(max(0.0, tracked.due - time.monotonic()))
                tracked.due = time.monotonic() + self._passes.make(tracked)
            if not waiting:
                return

    def _look_around(self) -> None:
        """Learn which environments there are, and now and then clear what dead processes left. While a shared ledger is
        away, go on with those that are known."""
        try:
            found, damaged = self._workspace.ledger.readable_environments()
            leads = self._lead(found)
        except LedgerUnreachable as error:
            self._outage.pause_s(error, None)
            return
        self._outage.is_over()
        self._tell_damaged(damaged)
        states = {state.id: state for state in found if self._is_mine(state, leads=leads)}
        known = {state.id for state in found}
        for environment in self._tracked.keys() - states.keys():
            if self._tracked[environment].working is None:
                del self._tracked[environment]
                if str(environment) not in damaged and environment not in known:
                    self._listener.forgot(environment)
        for environment, state in states.items():
            tracked = self._tracked.setdefault(environment, TrackedEnvironment(environment=environment))
            target = state.rollout.id if state.rollout else None
            if tracked.rollout != target and tracked.working is None:
                tracked.rollout, tracked.run, tracked.due = target, None, 0.0
        if time.monotonic() >= self._orphans_due:
            self._orphans_due = time.monotonic() + _ORPHANS_S
            self._clear_orphans(list(states.values()))

    def _lead(self, found: Sequence[EnvironmentState]) -> bool:
        """Lead, if no other agent does, where there is anything that every machine can act on; say when that changes.
        Where it is told to end, it leads no more."""
        if not self._workspace.ledger.shared or not any(state.machine is None for state in found):
            return True
        leads = lead(self._workspace)
        if leads != self._leads:
            self._leads, who = leads, leader(self._workspace)
            text = "this agent leads" if leads else f"{who[0] if who else 'another agent'} leads, and this one waits"
            self._workspace.report(Progress(stage="leader", text=f"{text}: of environments that no machine has alone"))
        return leads

    def _is_mine(self, state: EnvironmentState, *, leads: bool) -> bool:
        return is_here(self._workspace, state) and (leads or state.machine is not None)

    def _tell_damaged(self, damaged: Mapping[str, LedgerDamaged]) -> None:
        """Tell once of environments that can't be read: they are left alone, and all others have their turn."""
        told = {name: str(error) for name, error in damaged.items()}
        for name, error in damaged.items():
            if self._damaged.get(name) != told[name]:
                service, _, environment = name.partition("/")
                self._listener.failed(EnvironmentId(service=service, name=environment), error)
        self._damaged = told

    def _clear_orphans(self, states: list[EnvironmentState]) -> None:
        """Clear what nobody knows of those that are here, and of those that were: somebody may have given one up while
        this machine was away."""
        ledger, providers = self._workspace.ledger, {state.settings.provider for state in states}
        with contextlib.suppress(InstarError):
            providers |= {*ledger.left(self._workspace.machine).values()} if ledger.shared else set()
        for name in providers:
            with contextlib.suppress(InstarError):
                clear_orphans(self._workspace, self._workspace.provider(name))

    def _begin(self, threads: ThreadPoolExecutor, tracked: TrackedEnvironment) -> None:
        def ended(future: Future[float]) -> None:
            self._ends.wake()

        tracked.working = threads.submit(self._passes.make, tracked)
        tracked.working.add_done_callback(ended)

    def _begin_to_scrub(self, threads: ThreadPoolExecutor) -> None:
        if time.monotonic() >= self._scrub_due and (self._scrubbing is None or self._scrubbing.done()):
            self._scrub_due = time.monotonic() + PAUSE_S
            self._scrubbing = threads.submit(self._scrub.step)

    def _rest(self) -> None:
        """Wait until something is due, has ended, or an instance died."""
        for tracked in self._tracked.values():
            if tracked.working is not None and tracked.working.done():
                tracked.due, tracked.working = time.monotonic() + tracked.working.result(), None
        self._ends.watch(dict(one for tracked in self._tracked.values() for one in tracked.awaited_ends()))
        idle = [tracked.due for tracked in self._tracked.values() if tracked.working is None]
        until = min([*idle, time.monotonic() + _NEWS_S])
        for environment, _ in self._ends.wait(until - time.monotonic()):
            self._tracked[environment].due = 0.0


@contextlib.contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Be the only agent of this state directory inside. Raises Refused."""
    states, _ = workspace.ledger.readable_environments()
    for name in installed_providers(workspace, states):
        require_root_for(workspace, name, "agent")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(agent_lock(workspace), "the agent", inherited=False))
        except EnvironmentBusy as error:
            raise Refused(
                f"cannot start an agent: process {agent_pid(workspace) or '(unknown)'} is one already",
                hint="one does for all environments of a state directory",
            ) from error
        yield
