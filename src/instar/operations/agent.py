"""``instar agent``: the loop for every environment of this machine, again and again, in the background.

It is the same loop that deploy and rollback run in the foreground, and holds an environment only while it acts there,
not while it checks what runs: a command goes first. It keeps no state that anything needs: stopped, killed or upgraded,
nothing that runs notices, and the next one goes on where the ledger says. What it remembers (who has not answered for
how long) it learns again.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol

from instar import locks
from instar.control.health import HealthHistory
from instar.control.launch import starts_s
from instar.control.lease import with_lease
from instar.control.loop import Loop, Run
from instar.control.outage import Outage
from instar.control.snapshot import Snapshot
from instar.drift.check import Checked
from instar.end_watch import EndWatch
from instar.errors import Cancelled, EnvironmentBusy, InstarError, LedgerDamaged, LedgerUnreachable, Refused
from instar.model.certificate import CertificateStatus
from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId, EnvironmentState
from instar.model.usage import Measured
from instar.operations.certificate_rounds import CertificateRounds
from instar.operations.converge import clear_orphans
from instar.operations.drift_response import DriftMemory, check_when_due, respond_to_drift
from instar.operations.installed import installed_providers
from instar.operations.locks import (
    LONGEST_HOLD_S,
    agent_lock,
    agent_pid,
    hold_environment,
    is_attended,
    is_here,
    lead,
    leader,
    stop_leading,
)
from instar.operations.members import replace_members
from instar.operations.privilege import require_root_for
from instar.operations.release_images import image_finder
from instar.operations.scrub import PAUSE_S, Scrub
from instar.operations.secret_values import bring_values
from instar.operations.workspace import Workspace

CHECK_S = 5.0  # from one look at an environment that is as wanted to the next
_NEWS_S = 1.0  # how soon a new environment, or a rollout that was left to it, is seen
_SOON_S = 0.1  # what is shorter is waited for with the environment held
_OTHERS_TURN_S = 0.1  # after the longest: for a command that waits
_ENDS_S = 0.5  # from one look to the next at what has its grace to end
_BUSY_S = 1.0  # a command works there
_AFTER_AN_ERROR_S = (1.0, 60.0)  # the first pause, doubled each time, and the longest
_ORPHANS_S = 600.0
_MEMBERS_S = 60.0  # from one look for members whose groups are gone to the next
_AT_ONCE = 4


class AgentListener(Protocol):
    """What is told of the agent's work: metrics, logs. Called from several threads."""

    def saw(self, snapshot: Snapshot, seconds: float) -> None:
        """A pass over an environment ended with it as ``snapshot``."""

    @property
    def wants_usage(self) -> bool:
        """Whether it is to be told what instances use: that is measured for nobody else."""

    def measured(self, environment: EnvironmentId, measured: Measured) -> None:
        """It was measured what its instances use."""

    def unlogged(self, environment: EnvironmentId, lost: Mapping[str, int]) -> None:
        """That many of its requests could not be written down, where they are to be."""

    def checked(self, checked: Checked) -> None:
        """It was checked whether what runs there is what was baked."""

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        """A pass could not be made to its end."""

    def forgot(self, environment: EnvironmentId) -> None:
        """An environment is gone."""

    def certified(self, found: Sequence[CertificateStatus]) -> None:
        """Every certificate was looked at."""

    def beat(self) -> None:
        """Another round has begun: the agent is alive, whatever it finds."""

    def report_for(self, environment: EnvironmentId) -> Report:
        """Return what takes the progress of what is done there."""


@dataclass(kw_only=True)
class TrackedEnvironment:
    """What the agent remembers of one environment. ``due`` is of the monotonic clock; ``errors`` came in a row."""

    environment: EnvironmentId
    due: float = 0.0
    errors: int = 0
    rollout: int | None = None
    run: Run | None = None
    health: HealthHistory = field(default_factory=HealthHistory)
    memory: DriftMemory = field(default_factory=DriftMemory)
    members_due: float = 0.0
    working: Future[float] | None = None

    def starts_s(self) -> float:
        """Return for how many seconds its active release may yet get well, of which nothing serves; 0: it does."""
        snapshot = self.run.report.snapshot if self.run is not None and not self.errors else None
        return 0.0 if snapshot is None else starts_s(snapshot)


class Agent:
    """One per state directory. Its passes run in threads, one an environment at a time."""

    def __init__(self, workspace: Workspace, listener: AgentListener, *, check_s: float = CHECK_S) -> None:
        self._workspace = workspace
        self._listener = listener
        self._check_s = check_s
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
                tracked.due = time.monotonic() + self._pass(tracked)
            self._await_starts()
            stop_leading(self._workspace)
        return not self._damaged and not any(tracked.errors for tracked in self._tracked.values())

    def _await_starts(self) -> None:
        now = self._workspace.ledger.now
        until = now() + timedelta(seconds=max((one.starts_s() for one in self._tracked.values()), default=0.0))
        while now() < until and not self._stop.is_set():
            for tracked in (waiting := [one for one in self._tracked.values() if one.starts_s()]):
                self._workspace.cancellation.pause(max(0.0, tracked.due - time.monotonic()))
                tracked.due = time.monotonic() + self._pass(tracked)
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

        tracked.working = threads.submit(self._pass, tracked)
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
        self._ends.watch(self._running())
        idle = [tracked.due for tracked in self._tracked.values() if tracked.working is None]
        until = min([*idle, time.monotonic() + _NEWS_S])
        for environment, _ in self._ends.wait(until - time.monotonic()):
            self._tracked[environment].due = 0.0

    def _running(self) -> Mapping[tuple[EnvironmentId, int], Callable[[], int | None]]:
        """Return the instances whose end is worth a look at once: what opens the end of each."""
        found = {}
        for tracked in self._tracked.values():
            run = tracked.run if tracked.working is None else None
            if run is None or run.report.snapshot is None or run.loop.provider.ends is None:
                continue
            for group in (*run.report.snapshot.groups, *run.report.snapshot.task_groups):
                if group.state in ("running", "ending"):
                    opened = partial(run.loop.provider.ends.end_of, group.instance)
                    found[tracked.environment, group.instance.serial] = opened
        return found

    def _pass(self, tracked: TrackedEnvironment) -> float:
        """Act on one environment until it has to wait; return for how many seconds. Never raises what was expected."""
        began = time.monotonic()
        try:
            self._check_drift(tracked)
            with hold_environment(self._workspace, tracked.environment, patient=False):
                seconds = self._advance(tracked)
        except (EnvironmentBusy, Cancelled):
            return _BUSY_S
        except Exception as error:  # what nobody foresaw, too: it is one environment's, and the others have their turn
            self._listener.failed(tracked.environment, error)
            tracked.run = None
            tracked.errors += 1
            first, longest = _AFTER_AN_ERROR_S
            return float(min(first * 2.0 ** (tracked.errors - 1), longest))
        tracked.errors = 0
        snapshot = tracked.run.report.snapshot if tracked.run is not None else None
        if snapshot is not None:
            self._listener.saw(snapshot, time.monotonic() - began)
            self._measure(tracked, snapshot)
            self._count_unlogged(tracked, snapshot)
        return self._check_s if seconds is None else min(seconds, self._check_s)

    def _measure(self, tracked: TrackedEnvironment, snapshot: Snapshot) -> None:
        """Measure what runs there, where somebody wants to know. What can't be told now keeps nothing from its turn."""
        measures = tracked.run.loop.provider.measures if tracked.run is not None else None
        if measures is None or not self._listener.wants_usage:
            return
        groups = [one.instance for one in (*snapshot.groups, *snapshot.task_groups) if one.is_there]
        measured = Measured()
        with contextlib.suppress(Exception):  # what nobody foresaw, too
            measured = measures.measure(tracked.environment, groups)
        self._listener.measured(tracked.environment, measured)

    def _count_unlogged(self, tracked: TrackedEnvironment, snapshot: Snapshot) -> None:
        access = tracked.run.loop.provider.log_files if tracked.run is not None else None
        if access is None or not self._listener.wants_usage or not snapshot.environment.settings.access_log:
            return
        with contextlib.suppress(Exception):  # it is counted at the next look
            self._listener.unlogged(tracked.environment, access.requests_lost(tracked.environment))

    def _advance(self, tracked: TrackedEnvironment) -> float | None:
        state = self._workspace.ledger.find_environment(tracked.environment)
        if state is None:
            return None
        self._respond_to_drift(tracked, state)
        soon = self._replace_members(tracked, state)
        seconds = self._converge(tracked, state)
        return seconds if soon is None or (seconds is not None and seconds < soon) else soon

    def _converge(self, tracked: TrackedEnvironment, state: EnvironmentState) -> float | None:
        run = self._run(tracked, state)
        until = time.monotonic() + LONGEST_HOLD_S
        while not self._stop.is_set():
            seconds = run.advance(until=until)
            if seconds is None:
                self._end_of(state)
                return run.timetable.left_s(self._workspace.ledger.now())
            if time.monotonic() > until:
                return max(seconds, _OTHERS_TURN_S)
            if run.waits_for_ends:
                return max(seconds, _ENDS_S)
            if seconds > _SOON_S:
                return seconds
            self._workspace.cancellation.pause(seconds)
        return None

    def _check_drift(self, tracked: TrackedEnvironment) -> None:
        """Check what runs there, if it is time. A check that fails is told of, and keeps nothing else from its turn."""
        try:
            checked = check_when_due(self._workspace, tracked.environment, tracked.memory)
        except Exception as error:
            self._listener.failed(tracked.environment, error)
        else:
            if checked is not None:
                self._listener.checked(checked)

    def _respond_to_drift(self, tracked: TrackedEnvironment, state: EnvironmentState) -> None:
        try:
            report = self._listener.report_for(tracked.environment)
            respond_to_drift(self._workspace, state, tracked.memory, report)
        except Exception as error:
            self._listener.failed(tracked.environment, error)

    def _replace_members(self, tracked: TrackedEnvironment, state: EnvironmentState) -> float | None:
        """Go on with members that are to be replaced; look now and then for those of groups that are gone."""
        tainted = any(group.tainted_members for group in self._workspace.ledger.instances(state.id))
        if not tainted and time.monotonic() < tracked.members_due:
            return None
        tracked.members_due = time.monotonic() + _MEMBERS_S
        try:
            return replace_members(self._workspace, state.id, self._listener.report_for(state.id))
        except Exception as error:  # what it is about serves on as it did
            self._listener.failed(tracked.environment, error)
            return None

    def _run(self, tracked: TrackedEnvironment, state: EnvironmentState) -> Run:
        """Return the run that goes on there: a new one for each rollout, with what was learnt before."""
        target = state.rollout.id if state.rollout else None
        if tracked.run is None or tracked.rollout != target:
            loop = Loop(
                ledger=self._workspace.ledger,
                provider=self._workspace.provider(state.settings.provider),
                find_image=image_finder(self._workspace, state),
                bring_secrets=functools.partial(bring_values, self._workspace),
                is_attended=functools.partial(is_attended, self._workspace),
                report=self._listener.report_for(tracked.environment),
            )
            tracked.run, tracked.rollout = loop.begin(tracked.environment, asked=False), target
            tracked.run.health = tracked.health
        return tracked.run

    def _end_of(self, state: EnvironmentState) -> None:
        """Finish what a dead ``destroy`` began; its volumes stay."""
        if not state.destroying:
            return
        provider = self._workspace.provider(state.settings.provider)
        provider = with_lease(self._workspace.ledger, provider, state.id)
        provider.forget(state.id, self._workspace.ledger.instance_names(state.id), volumes=False)
        self._workspace.ledger.remove_environment(state.id)


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
