"""What the agent has seen and done, as figures; :mod:`instar.telemetry.exposition` writes them down for Prometheus.

Only releases that have instances are told of, so that what is scraped does not grow with history. Counters begin at
zero with the agent and only ever rise: they are sums of differences, and go on where HAProxy began anew. What an
instance had answered before there was an agent to look is not its to count: it would be a leap in every graph.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from instar.control.snapshot import GroupView, Snapshot
from instar.drift.check import Checked
from instar.model.certificate import CertificateStatus
from instar.model.events import Event
from instar.model.happenings import EnvironmentRemoved, OccurrencesMissed
from instar.model.instance_happenings import InstanceEnded
from instar.model.release import EnvironmentId, Served
from instar.model.rollout_happenings import StepJudged
from instar.model.usage import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class LastVerdict:
    """The last analysis of an environment."""

    release: int
    passed: bool
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftFigures:
    """The last check of whether what runs in an environment is what was baked: findings by kind."""

    at: datetime
    findings: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedFigures:
    """What was shipped of logs, and what could not be; ``fails``: nothing is taken now."""

    lines: int
    lost_bytes: int
    behind_bytes: int
    fails: bool


@dataclass(kw_only=True)
class EnvironmentFigures:
    """One environment as it was last seen. ``totals`` are by release, ``answered`` by group, ``counted`` is what each
    target had answered; ``measured``: what instances use; ``unlogged``: requests that could not be written down, None
    where none are to be."""

    snapshot: Snapshot
    passes: int = 0
    seconds: float = 0.0
    counted: dict[str, Served] = field(default_factory=dict)
    totals: dict[int, Served] = field(default_factory=dict)
    answered: dict[str, Served] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    unlogged: int | None = None
    unlogged_before: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures at one moment. ``errors`` may be of an environment that was never seen to the end."""

    seen: Mapping[EnvironmentId, EnvironmentFigures]
    errors: Mapping[EnvironmentId, int]
    notices: Mapping[str, int]
    verdicts: Mapping[EnvironmentId, LastVerdict]
    drift: Mapping[EnvironmentId, DriftFigures] = field(default_factory=dict)
    ended: Mapping[EnvironmentId, Mapping[str, int]] = field(default_factory=dict)
    missed: Mapping[EnvironmentId, Mapping[str, int]] = field(default_factory=dict)
    certificates: Sequence[CertificateStatus] = ()
    shipped: ShippedFigures | None = None


class Metrics:
    """Told by the agent's threads, asked by whoever scrapes."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._began = clock()
        self._seen: dict[EnvironmentId, EnvironmentFigures] = {}
        self._errors: Counter[EnvironmentId] = Counter()
        self._notices: Counter[str] = Counter(sent=0, lost=0)
        self._verdicts: dict[EnvironmentId, LastVerdict] = {}
        self._drift: dict[EnvironmentId, DriftFigures] = {}
        self._ended: dict[EnvironmentId, Counter[str]] = {}
        self._missed: dict[EnvironmentId, Counter[str]] = {}  # by entry of the schedule
        self._certificates: Sequence[CertificateStatus] = ()
        self._shipped: ShippedFigures | None = None
        self._guard = threading.Lock()

    def saw(self, snapshot: Snapshot, seconds: float) -> None:
        """Take note of an environment after a pass that took ``seconds``."""
        with self._guard:
            seen = self._seen.setdefault(snapshot.environment.id, EnvironmentFigures(snapshot=snapshot))
            seen.snapshot, seen.passes, seen.seconds = snapshot, seen.passes + 1, seen.seconds + seconds
            self._count(seen, snapshot)

    def measured(self, environment: EnvironmentId, measured: Measured) -> None:
        """Take note of what the instances of an environment that was seen use now."""
        with self._guard:
            if environment in self._seen:
                self._seen[environment].measured = measured

    def unlogged(self, environment: EnvironmentId, lost: Mapping[str, int]) -> None:
        """Take note of how many requests could not be written down, by who lost them, each since it began."""
        with self._guard:
            if (seen := self._seen.get(environment)) is None:
                return
            seen.unlogged = seen.unlogged or 0
            for who, count in lost.items():
                before = seen.unlogged_before.get(who, count)
                seen.unlogged += count - before if count >= before else count
                seen.unlogged_before[who] = count

    def checked(self, checked: Checked) -> None:
        """Take note of how many findings there were of each kind."""
        environment = checked.state.id
        with self._guard:
            kinds = Counter(finding.kind for finding in checked.findings)
            self._drift[environment] = DriftFigures(at=datetime.now(UTC), findings=kinds)

    def certified(self, found: Sequence[CertificateStatus]) -> None:
        """Take note of all certificates that are needed here."""
        with self._guard:
            self._certificates = tuple(found)

    def shipped(self, figures: ShippedFigures) -> None:
        """Take note of how the shipping of logs does."""
        self._shipped = figures

    def failed(self, environment: EnvironmentId) -> None:
        """Take note of a pass that could not be made to its end."""
        with self._guard:
            self._errors[environment] += 1

    def forgot(self, environment: EnvironmentId) -> None:
        """Tell no more of an environment that is gone."""
        with self._guard:
            for known in (self._seen, self._errors, self._verdicts, self._drift, self._ended, self._missed):
                known.pop(environment, None)

    def happened(self, event: Event) -> None:
        """Take note of a verdict, of an instance that ended, and of what was due and did not begin; of an environment
        that is gone, forget it."""
        if event.environment is None:
            return
        with self._guard:
            match event.what:
                case StepJudged(passed=passed) if event.release is not None:
                    last = LastVerdict(release=event.release, passed=bool(passed), at=event.at)
                    self._verdicts[event.environment] = last
                case InstanceEnded(reason=reason) if event.at >= self._began:
                    self._ended.setdefault(event.environment, Counter())[reason] += 1
                case OccurrencesMissed(entry=entry, count=count) if event.at >= self._began:
                    self._missed.setdefault(event.environment, Counter())[entry] += count
                case EnvironmentRemoved():
                    for known in (self._verdicts, self._ended, self._missed):
                        known.pop(event.environment, None)

    def noticed(self, outcome: str) -> None:
        """Take note of a notice: ``sent`` or ``lost``."""
        with self._guard:
            self._notices[outcome] += 1

    def figures(self) -> Figures:
        with self._guard:
            return Figures(
                seen={
                    environment: dataclasses.replace(one, totals=dict(one.totals), answered=dict(one.answered))
                    for environment, one in self._seen.items()
                },
                errors=dict(self._errors),
                notices=dict(self._notices),
                verdicts=dict(self._verdicts),
                drift=dict(self._drift),
                ended={environment: dict(counted) for environment, counted in self._ended.items()},
                missed={environment: dict(counted) for environment, counted in self._missed.items()},
                certificates=self._certificates,
                shipped=self._shipped,
            )

    def text(self) -> bytes:
        """Return what is scraped."""
        from instar.telemetry import exposition  # only who is asked pays for it: 4 MB

        return exposition.text(self.figures())

    def _count(self, seen: EnvironmentFigures, snapshot: Snapshot) -> None:
        """Add what came since the last look, and drop releases of which nothing is left."""
        present = {group.release for group in snapshot.groups}
        seen.totals = {number: total for number, total in seen.totals.items() if number in present}
        seen.counted = {group.id: seen.counted[group.id] for group in snapshot.groups if group.id in seen.counted}
        seen.answered = {name: answered for name, answered in seen.answered.items() if name in seen.counted}
        if snapshot.router_plan is None:  # it did not answer: its zeros are no figures
            return
        for group in snapshot.groups:
            served = group.routed.served if group.routed is not None else None
            if served is not None:
                new = served.since(seen.counted.get(group.id) or self._before(group, served))
                seen.totals[group.release] = seen.totals.get(group.release, Served()) + new
                seen.answered[group.id] = seen.answered.get(group.id, Served()) + new
                seen.counted[group.id] = served

    def _before(self, group: GroupView, served: Served) -> Served:
        """Return what a target that is seen for the first time had answered before it was ours to count."""
        return Served() if group.instance.created_at >= self._began else served
