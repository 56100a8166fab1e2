"""The loop: observe, decide, act, record, until nothing is left to do.

``deploy``, ``rollback`` and ``promote`` write what is wanted and run it in the foreground; after a crash the next
run goes on where the ledger says. The caller holds the environment's lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from instar.cancellation import Cancellation
from instar.control.actions import OF_THE_LEDGER, Action, Fail, Plan, Wait
from instar.control.decide import decide
from instar.control.executor import Executor
from instar.control.health import HealthHistory
from instar.control.lease import with_lease
from instar.control.observe import observe
from instar.control.outage import PATIENCE, Outage
from instar.control.report import RolloutReport
from instar.control.retries import Retries
from instar.control.schedule import end_ended
from instar.control.snapshot import Snapshot, tried_word
from instar.control.tasks import leftover
from instar.control.timetable import Timetable
from instar.errors import Cancelled, InstarError, LedgerError, LedgerUnreachable, ProviderError
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.image import Image
from instar.model.progress import Report
from instar.model.release import EnvironmentId, Instance, Release
from instar.providers.base import Provider

AGAIN_AT_MOST = 3
IN_VAIN_S = 1.0
HOT_AGAIN_AFTER = timedelta(minutes=1)  # so often a hot release that lost an instance gets another, by an agent
_IN_VAIN_AT_MOST = 30  # while somebody stands by
_TOLD_WITHIN_S = 2.0  # so soon it is looked again where nobody tells of a change, and a word of somebody's is heard


@dataclass(frozen=True, kw_only=True)
class Loop:
    """``bring_secrets`` has what a release needs of them where its provider looks for it, before an instance is made.

    ``leaves_ends``: somebody else sees to what only needs its time to end yet. ``is_attended``: somebody waits for the
    end of the command that an instance runs for them. ``give_way``: others may act on an environment inside, where
    nothing is done but waiting. ``pause`` is real by default; tests give a virtual one, as they give the ledger its
    clock.
    """

    ledger: Ledger
    provider: Provider
    find_image: Callable[[Digest], Image]
    report: Report
    bring_secrets: Callable[[Release], None] = lambda release: None
    leaves_ends: Callable[[], bool] = lambda: False
    is_attended: Callable[[str], bool] = lambda instance: False
    give_way: Callable[[EnvironmentId], contextlib.AbstractContextManager[None]] = lambda _: contextlib.nullcontext()
    pause: Callable[[float], None] = time.sleep
    cancellation: Cancellation = field(default_factory=Cancellation)

    def begin(self, environment: EnvironmentId, *, asked: bool = True) -> Run:
        """Return a run towards what is wanted of ``environment``.

        Not ``asked``: nobody stands by, so replacements are counted and slowed down.
        """
        report = RolloutReport(report=self.report)
        provider = with_lease(self.ledger, self.provider, environment)
        executor = Executor(
            ledger=self.ledger,
            provider=provider,
            find_image=self.find_image,
            bring_secrets=self.bring_secrets,
            report=report,
        )
        return Run(
            loop=self,
            environment=environment,
            provider=provider,
            executor=executor,
            report=report,
            outage=Outage(report=self.report),
            asked=asked,
        )

    def run(self, environment: EnvironmentId) -> RolloutReport:
        """Act until ``environment`` is as wanted. A rollout that can't end well is ended as failed, and undone.

        What cancels it (``^C``) before the target has all traffic undoes the rollout too, and is raised afterwards.
        """
        with self.cancellation.heeding():
            return self._converged(self.begin(environment))

    def _converged(self, run: Run) -> RolloutReport:
        environment = run.environment
        interruption: KeyboardInterrupt | Cancelled | None = None
        while True:
            try:
                seconds = run.advance()
                if seconds is None or run.may_be_left:
                    break
                if run.in_vain > _IN_VAIN_AT_MOST:
                    raise ProviderError(
                        f"cannot bring '{environment}' further: the same is decided again and again, without effect: "
                        f"{run.decided}",
                        hint=f"look at instar status {environment} and instar logs {environment}, then try again",
                    )
                run.pause(seconds)
            except (KeyboardInterrupt, Cancelled) as error:
                if interruption is not None or not run.undo():
                    raise
                interruption = error
        if interruption is not None:
            raise interruption
        return run.report


@dataclass(kw_only=True)
class Run:
    """The way of one environment to what is wanted of it, as far as a process remembers it. The caller holds its
    lock."""

    loop: Loop
    environment: EnvironmentId
    provider: Provider
    executor: Executor
    report: RolloutReport
    outage: Outage
    asked: bool = True
    health: HealthHistory = field(default_factory=HealthHistory)
    replaced: dict[tuple[int, str], datetime] = field(default_factory=dict)
    timetable: Timetable = field(default_factory=Timetable)
    looks: Retries = field(default_factory=Retries)
    acts: Retries = field(default_factory=Retries)
    undone: bool = False  # it was cancelled, and goes on to where nothing is half done
    wait: Wait | None = None  # what it waits for, if nothing can be done now
    in_vain: int = 0  # how often in a row what was decided did not help
    decided: tuple[Action, ...] = ()

    def advance(self, *, until: float = math.inf) -> float | None:
        """Observe, decide and act until it has to wait; return for how many seconds, None when all is as wanted.

        What is decided again and again does not help: then it waits too, and does not keep a processor busy. So it
        does when the provider says "not now", or its answer is lost, but not for longer than a release has to get well;
        and where a shared ledger is away: nothing is done then, and afterwards it is gone on from what is found.
        Nothing is decided after ``until`` (of the monotonic clock): 0 is returned, for it is somebody else's turn.
        """
        try:
            return self._advance(until)
        except LedgerUnreachable as error:
            return self.outage.pause_s(error, _patience(self.report.snapshot))

    def _advance(self, until: float) -> float | None:
        before: tuple[Action, ...] = ()
        again, self.wait = 0, None
        while True:
            self._check_cancelled()
            try:
                snapshot = self._observe()
            except LedgerUnreachable:
                raise
            except InstarError as error:
                return self._pause_s(self.looks, error)
            self.looks.succeeded()
            self.outage.is_over()
            self.report.snapshot = snapshot
            todo = decide(snapshot)
            before, again = todo, again + 1 if todo == before else 0
            if todo and again > AGAIN_AT_MOST:
                self.in_vain, self.decided = self.in_vain + 1, todo
                return IN_VAIN_S
            self.report.launching(snapshot)
            acted = False
            for action in todo:
                pause_s = self._act(snapshot, action)
                if pause_s is not None:
                    return pause_s
                acted = acted or not isinstance(action, OF_THE_LEDGER)
                self.replaced |= dict.fromkeys(_replaced(action), snapshot.now)
                if isinstance(action, Wait):
                    self.in_vain, self.wait = 0, action
                    return action.seconds
            if not todo:
                self.acts.succeeded()
                return None
            if acted and snapshot.traits.unseen_s:
                return max(snapshot.traits.unseen_s, snapshot.traits.poll_s)  # a look would not show it yet
            if time.monotonic() > until:
                return 0.0

    def clear(self, *, unbegun: bool = False) -> Snapshot:
        """Take away what commands have left that are over, and write down how those of the clock have ended, also that
        they were not begun, where these are not to be (``unbegun``). Return what is there then. What needs its time to
        end is left to it."""
        while todo := leftover(snapshot := self._observe()) or end_ended(snapshot, unbegun=unbegun):
            for action in todo:
                self.executor.execute(snapshot, action)
        return snapshot

    @property
    def waits_for_ends(self) -> bool:
        """Nothing is to be done before groups have ended: others may act meanwhile."""
        return self.wait is not None and self.wait.ends

    @property
    def only_ends(self) -> bool:
        """All is as wanted, but for groups that have their time to end yet."""
        return self.wait is not None and self.wait.last

    @property
    def may_be_left(self) -> bool:
        """The same, and somebody else sees to these."""
        return self.only_ends and self.loop.leaves_ends()

    def pause(self, seconds: float) -> None:
        """Wait for so long; for what its provider tells of, until it does, and a little longer. Others may act
        meanwhile."""
        with self.loop.give_way(self.environment):
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        changes, awaited = self.provider.changes, self._awaited()
        if changes is None or not awaited:
            self.loop.pause(seconds)
            return
        began = time.monotonic()
        if not changes.await_change(self.environment, awaited, max(seconds, _TOLD_WITHIN_S)):
            self.loop.pause(max(0.0, seconds - (time.monotonic() - began)))

    def _awaited(self) -> list[Instance]:
        """Return the groups that are waited for: until they answer, or until they have ended."""
        wait, snapshot = self.wait, self.report.snapshot
        if wait is None or snapshot is None or not (wait.ends or wait.launches):
            return []
        groups = (*snapshot.groups, *snapshot.task_groups)
        if wait.launches:
            return [group.instance for group in groups if group.state == "running" and not group.healthy]
        return [group.instance for group in groups if group.state == "ending"]

    def undo(self) -> bool:
        """Fail the running rollout if its target has not all traffic yet; False when there is nothing to undo."""
        self.undone = True
        snapshot = self._observe_or_last()
        rollout = snapshot.environment.rollout
        if rollout is None or snapshot.environment.active == rollout.target:
            return False
        self.executor.fail(snapshot, Fail("it was interrupted"))
        self.report.undone(snapshot, "interrupted")
        return True

    def _check_cancelled(self) -> None:
        if not self.undone:
            self.loop.cancellation.check()

    def _observe(self) -> Snapshot:
        snapshot = observe(
            self.loop.ledger,
            self.provider,
            self.environment,
            replacing=not self.asked,
            is_attended=self.loop.is_attended,
        )
        if not self.asked:
            due = self.timetable.due(self.loop.ledger, snapshot)
            snapshot = dataclasses.replace(
                snapshot, due=due, missed=self.timetable.missed, scheduled=self.timetable.last
            )
        tried = frozenset(one for one, at in self.replaced.items() if self.asked or snapshot.now < at + HOT_AGAIN_AFTER)
        return self.health.see(dataclasses.replace(snapshot, tried=tried))

    def _observe_or_last(self) -> Snapshot:
        """Look, or take what was seen last where the provider does not answer just now."""
        try:
            return observe(self.loop.ledger, self.provider, self.environment, is_attended=self.loop.is_attended)
        except InstarError as error:
            if error.retry_after_s is None or self.report.snapshot is None:
                raise
            environment = self.loop.ledger.get_environment(self.environment)
            return dataclasses.replace(self.report.snapshot, environment=environment)

    def _act(self, snapshot: Snapshot, action: Action) -> float | None:
        """Carry out ``action``; return for how long to wait when the provider could not do its part just now."""
        try:
            self.executor.execute(snapshot, action)
        except LedgerError:
            raise
        except (InstarError, OSError) as error:
            self._check_cancelled()
            self.loop.ledger.require_lease(self.environment)  # of who has lost it, what another did is no failure
            pause_s = self._retried(self.acts, error)
            if pause_s is not None:
                return pause_s
            if snapshot.environment.rollout is None or isinstance(action, Fail):
                raise
            culprits = getattr(action, "instances", ())
            self.executor.fail(snapshot, Fail(_cause(error), tuple(culprits)))
        self.acts.succeeded()
        return None

    def _pause_s(self, retries: Retries, error: InstarError) -> float:
        """Return for how long to wait before it is tried again. Raises ``error`` when that makes no sense."""
        pause_s = self._retried(retries, error)
        if pause_s is None:
            raise error
        return pause_s

    def _retried(self, retries: Retries, error: InstarError | OSError) -> float | None:
        return retries.pause_s(error, self.loop.ledger.now(), _patience(self.report.snapshot))


def _replaced(action: Action) -> set[tuple[int, str]]:
    """Return of which release the action made replacements, and why."""
    if not isinstance(action, Plan) or not action.replacing:
        return set()
    return {tried_word(action.release, action.role, action.replacing)}


def _patience(snapshot: Snapshot | None) -> timedelta:
    """Return for how long who says "not now", or nothing, is asked again: as long as a release has to get well, or as
    an engine may be away, also where no release is left: what is ended has as much time as what is begun."""
    if snapshot is None:
        return PATIENCE
    release, engine = snapshot.target or snapshot.active, timedelta(seconds=snapshot.traits.patience_s)
    if release is None:
        return max(PATIENCE, engine)
    slowest_ms = max(service.health.deadline_ms for service in release.services.values())
    return max(timedelta(milliseconds=slowest_ms), engine)


def _cause(error: InstarError | OSError) -> str:
    if isinstance(error, InstarError):
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return str(error)
