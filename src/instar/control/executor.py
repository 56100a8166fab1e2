"""Carries actions out: writes each decision to the ledger, then acts on it through the provider.

Everything here may be killed at any instruction; every action is such that observing again and deciding again
leads on from wherever it stopped.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence

from instar.control import actions, checks
from instar.control.data_actions import DataActions
from instar.control.endings import ending_of
from instar.control.report import RolloutReport
from instar.control.snapshot import Snapshot
from instar.control.traffic_actions import TrafficActions
from instar.errors import InstarError, LedgerError
from instar.ledger import Ledger
from instar.model.digest import Digest
from instar.model.environment import Settings
from instar.model.happenings import NetworkRestored
from instar.model.image import Image
from instar.model.release import BY_ITSELF, Command, Instance, Release, Rollout
from instar.model.roles import UNNAMED_ROLE
from instar.model.rollout_happenings import SmokePassed, StepJudged, WatchFailed
from instar.providers.base import NetworkPlan, Provider
from instar.providers.facets import require
from instar.threads import at_once

_AT_ONCE = 8
LAST_LINES = 12


_Why = tuple[str, Mapping[str, Sequence[str]]]  # why a rollout failed, and the last words of its culprits


class Executor:
    """One per run of the loop. ``find_image`` gives the image of a digest from the store."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        provider: Provider,
        find_image: Callable[[Digest], Image],
        bring_secrets: Callable[[Release], None],
        report: RolloutReport,
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._find_image = find_image
        self._bring_secrets = bring_secrets
        self._report = report
        self._data = DataActions(ledger=ledger, provider=provider, report=report)
        self._traffic = TrafficActions(ledger=ledger, provider=provider, report=report)
        self._why: dict[int, _Why] = {}  # rollouts failed whose data goes back first

    def execute(self, snapshot: Snapshot, action: actions.Action) -> None:
        """Do ``action``. Raises ProviderError, RouterError, StoreError or HostError when it can't be done."""
        environment = snapshot.environment.id
        match action:
            case actions.Plan():
                self._plan(snapshot, action)
            case actions.Create():
                self._create(snapshot, action)
            case actions.Start():
                self._start(self._instances(snapshot, action.instances))
            case actions.SetNetwork():
                self._set_network(snapshot)
            case actions.OpenRouter():
                self._traffic.open_router(snapshot, snapshot.releases[action.release])
            case actions.Attach():
                self._traffic.attach(snapshot, action)
            case actions.Preview():
                self._traffic.preview(environment, action)
            case actions.Share():
                self._traffic.share(snapshot, dict(action.weights))
            case actions.Route():
                self._traffic.route(snapshot, action.instances)
            case actions.Cut():
                self._report.withdrawn(self._provider.withdraw(environment, action.instances))
            case actions.Retire():
                self._retire(snapshot, action)
            case actions.TakeNames():
                self._traffic.take_names(snapshot, snapshot.releases[action.release])
            case actions.CloseRouter():
                self._provider.close(environment)
            case actions.Alarm():
                self._report.alarm(action.reason)
                self._ledger.set_alarm(environment, action.reason, holds=action.holds)
            case actions.GoBack():
                self._go_back(snapshot, action)
            case actions.Wait():
                self._report.waiting(snapshot)
            case _:
                self._advance(snapshot, action)

    def _advance(self, snapshot: Snapshot, action: actions.Action) -> None:
        """Do what brings a rollout nearer to its end."""
        match action:
            case actions.BeginTask():
                self._report.task(action.task)
                environment = snapshot.environment.id
                self._ledger.begin_task(environment, action.release, action.task, role=action.role)
            case actions.EndTask():
                self._end_task(snapshot, action)
            case actions.BeginScheduled():
                self._begin_scheduled(snapshot, action)
            case actions.NoteMissed():
                self._ledger.schedules.note_missed(snapshot.environment.id, action.release, action.missed)
            case actions.RunTask():
                self._run_task(snapshot, action)
            case actions.KeepData():
                self._data.keep(self._rollout(snapshot), action)
            case actions.RestoreData():
                self._data.restore(self._rollout(snapshot), action)
            case actions.Smoke():
                self._smoke(snapshot, action)
            case actions.TakeStep():
                self._traffic.take_step(self._rollout(snapshot), snapshot, action)
            case actions.Judge():
                self._judge(snapshot, action)
            case actions.Shift():
                self._traffic.shift(snapshot, action)
            case actions.Finish():
                self._finish(snapshot, action)
            case actions.Fail():
                self.fail(snapshot, action)

    def fail(self, snapshot: Snapshot, action: actions.Fail) -> None:
        """End the rollout as failed, with the last words of its culprits; the source has the traffic (again).

        One that has changed what volumes hold gives that back first; where its target has the traffic, it is done."""
        rollout = self._ledger.get_rollout(self._rollout(snapshot).id)
        if rollout.stage.data and self._ledger.get_environment(rollout.environment).active == rollout.target:
            self._finish(snapshot, actions.Finish(action.reason))
            return
        why = action.reason, self._last_words_of(action.instances)
        if self._data.give_up(rollout, action):
            self._why[rollout.id] = why
            return
        self._end_failed(snapshot, *self._why.pop(rollout.id, why))
        self._traffic.give_back(snapshot, self._rollout(snapshot))

    def _end_failed(self, snapshot: Snapshot, reason: str, words: Mapping[str, Sequence[str]]) -> None:
        rollout, environment = self._rollout(snapshot), snapshot.environment.id
        with self._ledger.transaction():
            if self._ledger.get_environment(environment).active == rollout.target:
                self._ledger.set_active(environment, rollout.source, reason="the rollout failed")
            self._ledger.end_rollout(rollout, "failed", {"reason": reason, "last_lines": words})
            before = rollout.stage.settings_before
            if before is not None:
                self._ledger.save_settings(environment, before)
                self._ledger.names.claim(environment, before.names.sites, of_others="leave")
        changed = _different(before, snapshot) if before is not None else ()
        if changed:
            self._report.settings_back(changed)
        kept = {name: number for name, number in rollout.stage.kept.items() if name not in rollout.stage.data}
        if kept:
            self._report.still_kept(environment, kept)

    def _plan(self, snapshot: Snapshot, action: actions.Plan) -> None:
        if action.release == snapshot.environment.active:
            if action.replacing:
                self._report.replacing(sum(action.members), action.replacing)
            elif snapshot.environment.rollout is None:
                self._report.more(sum(action.members))
        self._ledger.add_instances(
            snapshot.environment.id,
            action.release,
            len(action.members),
            role=action.role,
            replacing=action.replacing,
            members=action.members,
        )

    def _go_back(self, snapshot: Snapshot, action: actions.GoBack) -> None:
        environment, active = snapshot.environment.id, snapshot.environment.active
        with self._ledger.transaction():
            self._ledger.record(WatchFailed(back_to=action.release, reason=action.reason), environment, active)
            self._ledger.begin_rollout(environment, "rollback", action.release, {"reason": action.reason})
        self._report.going_back(action.release, action.reason)

    def _end_task(self, snapshot: Snapshot, action: actions.EndTask) -> None:
        environment, words = snapshot.environment.id, self._last_words(action.instance)
        self._ledger.end_task(environment, action.release, action.task, action.outcome, {"last_lines": words})
        self._report.task_ended(action.task, action.outcome)
        if self._instances(snapshot, (action.instance,)):
            self._retire(snapshot, actions.Retire((action.instance,), f"its task: {action.outcome}"))

    def _begin_scheduled(self, snapshot: Snapshot, action: actions.BeginScheduled) -> None:
        entry = snapshot.releases[action.release].configuration.schedule[action.occurrence.entry]
        command = Command(argv=entry.command)
        environment = snapshot.environment.id
        self._ledger.schedules.begin(environment, action.release, action.occurrence, command, role=action.role)
        self._report.task(action.occurrence.name)

    def _run_task(self, snapshot: Snapshot, action: actions.RunTask) -> None:
        (group,) = snapshot.named((action.instance,))
        try:
            if group.state == "created":
                self._start([group.instance])
            else:
                self._create(snapshot, actions.Create((action.instance,), start=True))
        except LedgerError:
            raise
        except (InstarError, OSError) as error:
            if isinstance(error, InstarError) and error.retry_after_s is not None:
                raise
            cause = error.message if isinstance(error, InstarError) else str(error)
            self._ledger.end_task(snapshot.environment.id, action.release, action.task, cause, {})
            self._report.task_ended(action.task, cause)

    def _create(self, snapshot: Snapshot, action: actions.Create) -> None:
        self._report.launching(snapshot)
        instances = self._instances(snapshot, action.instances)
        release = snapshot.releases[instances[0].release]
        image = self._find_image(release.image)
        self._bring_secrets(release)
        self._provider.publish(release.environment, image)
        at_once(lambda one: self._provider.create(one, release.of_role(one.role), image), instances, at_most=_AT_ONCE)
        if snapshot.traits.waits_to_begin:
            with self._ledger.transaction():
                for instance in instances:
                    self._ledger.set_made(instance.id)
        if action.start:
            self._start(instances)

    def _start(self, instances: Sequence[Instance]) -> None:
        with self._ledger.transaction():
            for instance in instances:
                self._ledger.set_started(instance.id)
        at_once(self._provider.start, instances, at_most=_AT_ONCE)

    def _set_network(self, snapshot: Snapshot) -> None:
        environment = snapshot.environment
        networks = require(self._provider.networks, f"say what instances of '{environment.id}' may reach")
        if networks.set_network(NetworkPlan.of(environment.id, environment.settings, snapshot.with_instances)):
            self._ledger.record(NetworkRestored(), environment.id, environment.active)

    def _smoke(self, snapshot: Snapshot, action: actions.Smoke) -> None:
        instances = self._instances(snapshot, action.instances)
        release = snapshot.releases[action.release].of_role(instances[0].role)
        self._report.asking(f"release {release.number} · {_counted(len(release.service.smoke), 'check')}")
        answers = at_once(lambda one: checks.smoke(self._provider, one, release), instances, at_most=_AT_ONCE)
        failed = next(filter(None, answers), None)
        if failed is not None:
            name, cause = failed
            (group,) = self._instances(snapshot, (name,))
            self.fail(snapshot, actions.Fail(f"smoke check of {group.shown}: {cause}", (name,)))
            return
        passed = SmokePassed(rollout=self._rollout(snapshot).id, instances=tuple(action.instances))
        self._ledger.change_stage(passed)
        self._report.smoke_checked(f"release {release.number} · {_counted(len(release.service.smoke), 'check')} passed")

    def _judge(self, snapshot: Snapshot, action: actions.Judge) -> None:
        rollout, verdict = self._rollout(snapshot), action.verdict
        if verdict.passed:
            verdict = checks.checked(self._provider, snapshot, verdict)
        culprits = [one.id for one in snapshot.of(snapshot.target) if action.role is None or one.role == action.role]
        words = {} if verdict.passed else self._last_words_of(culprits)
        judged = StepJudged(
            rollout=rollout.id,
            step=rollout.stage.step,
            passed=verdict.passed,
            cause=verdict.cause,
            role=action.role,
            others={role: one.numbers() for role, one in action.others},
            figures=verdict.numbers(),
        )
        with self._ledger.transaction():  # who goes on after a crash must not come to another verdict
            self._ledger.change_stage(judged)
            if not verdict.passed:
                self._end_failed(snapshot, f"its analysis: {verdict.cause}", words)
        self._report.judged(verdict, action.role, action.others)
        if not verdict.passed:
            self._traffic.give_back(snapshot, rollout)

    def _retire(self, snapshot: Snapshot, action: actions.Retire) -> None:
        groups = snapshot.named(action.instances)
        endings = {group.id: ending_of(group, action, snapshot.now) for group in groups}
        with self._ledger.transaction():  # what is seen of one that has ended is gone with it
            for name, ending in endings.items():
                self._ledger.set_ending(name, ending)
        self._report.ending(snapshot, [(group, endings[group.id]) for group in groups])
        instances = [group.instance for group in groups]
        destroy = functools.partial(self._destroy, snapshot)
        gone = {
            one.id for one, left in zip(instances, at_once(destroy, instances, at_most=_AT_ONCE), strict=True) if left
        }
        leaving = [group.id for group in groups if group.id in gone or group.weight or not group.sessions]
        if leaving:  # what has requests in flight yet may finish them in its grace
            self._report.withdrawn(self._provider.withdraw(snapshot.environment.id, leaving))
        with self._ledger.transaction():
            for name in sorted(gone):
                ending = endings[name]
                self._ledger.remove_instance(name, action.reason if ending.reason in BY_ITSELF else ending.why)

    def _destroy(self, snapshot: Snapshot, group: Instance) -> bool:
        return self._provider.destroy(group, snapshot.releases[group.release].of_role(group.role))

    def _finish(self, snapshot: Snapshot, action: actions.Finish) -> None:
        self._report.finished(snapshot)
        measured = {**self._report.measured, **({"warning": action.warning} if action.warning else {})}
        self._ledger.end_rollout(self._rollout(snapshot), "done", measured)
        if action.warning:
            self._report.warn(action.warning)

    def _rollout(self, snapshot: Snapshot) -> Rollout:
        rollout = snapshot.environment.rollout
        assert rollout is not None
        return rollout

    def _instances(self, snapshot: Snapshot, names: Sequence[str]) -> list[Instance]:
        return [group.instance for group in snapshot.named(names)]

    def _last_words_of(self, culprits: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the last words of the first of them, by its name: they are enough to know more."""
        return {name: self._last_words(name) for name in culprits[:1]}

    def _last_words(self, name: str) -> list[str]:
        """Return what an instance printed last. Nothing depends on it: what cannot be read just now is left away."""
        with contextlib.suppress(InstarError):
            return list(self._provider.log_lines(name, last=LAST_LINES))
        return []


def _different(before: Settings, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what of the settings was other, as a definition calls it."""
    from instar.definition.changes import settings_changes

    first = UNNAMED_ROLE if snapshot.source is None else snapshot.source.role
    changes = settings_changes(snapshot.environment.settings, before, first)
    return tuple(dict.fromkeys(one.what.partition(".")[0] for one in changes))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
