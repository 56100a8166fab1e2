"""A pass of the agent over one environment: is what runs there what was baked, and what is to be done, as far as it
comes now. A command goes first: the environment is held only while something is done there.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from instar.control.health import HealthHistory
from instar.control.launch import starts_s
from instar.control.loop import Loop, Run
from instar.control.snapshot import Snapshot
from instar.drift.check import Checked
from instar.errors import Cancelled, EnvironmentBusy
from instar.model.progress import Report
from instar.model.release import EnvironmentId, EnvironmentState
from instar.model.usage import Measured
from instar.operations.attendance import is_attended
from instar.operations.destroy import Staying, finish
from instar.operations.drift_response import DriftMemory, check_when_due, respond_to_drift
from instar.operations.locks import LONGEST_HOLD_S, hold_environment
from instar.operations.members import replace_members
from instar.operations.release_images import image_finder
from instar.operations.secret_values import bring_values
from instar.operations.workspace import Workspace

_SOON_S: Final = 0.1  # what is shorter is waited for with the environment held
_OTHERS_TURN_S: Final = 0.1  # after the longest: for a command that waits
_ENDS_S: Final = 0.5  # from one look to the next at what has its grace to end
_BUSY_S: Final = 1.0  # a command works there
_AFTER_AN_ERROR_S: Final = (1.0, 60.0)  # the first pause, doubled each time, and the longest
_MEMBERS_S: Final = 60.0  # from one look for members whose groups are gone to the next


class PassListener(Protocol):
    """What is told of passes. Called from several threads."""

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

    def destroyed(self, environment: EnvironmentId, staying: Staying) -> None:
        """The destruction that a dead command began is done."""

    def failed(self, environment: EnvironmentId, error: Exception) -> None:
        """A pass could not be made to its end."""

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

    def awaited_ends(self) -> Iterator[tuple[tuple[EnvironmentId, int], Callable[[], int | None]]]:
        """Yield the instances whose end is worth a look at once, between passes: what opens the end of each."""
        run = self.run if self.working is None else None
        if run is None or run.report.snapshot is None or run.loop.provider.ends is None:
            return
        for group in (*run.report.snapshot.groups, *run.report.snapshot.task_groups):
            if group.state in ("running", "ending"):
                yield (self.environment, group.instance.serial), partial(run.loop.provider.ends.end_of, group.instance)


class Passes:
    """Of one agent. ``stop``: it is told to end; ``check_s``: from one look at what is as wanted to the next."""

    def __init__(self, workspace: Workspace, listener: PassListener, stop: threading.Event, *, check_s: float) -> None:
        self._workspace = workspace
        self._listener = listener
        self._stop = stop
        self._check_s = check_s

    def make(self, tracked: TrackedEnvironment) -> float:
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
        self._listener.destroyed(state.id, finish(self._workspace, provider, state.id, volumes=False))
