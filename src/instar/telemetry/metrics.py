"""Metrics of everything that the agent looks after, in Prometheus' text format.

Only releases that have instances are told of, so that what is scraped does not grow with history. Counters are sums of
differences: they go on where HAProxy began anew, and only the agent's own end sets them back, which Prometheus knows.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from instar.control.world import World
from instar.model.release import Event, Place, Served

_PLACE = ("service", "environment")
_RELEASE = (*_PLACE, "release")


@dataclass(kw_only=True)
class Seen:
    """One environment as it was last seen. ``totals`` are by release, ``counted`` what each target had then."""

    world: World
    passes: int = 0
    seconds: float = 0.0
    errors: int = 0
    counted: dict[str, Served] = field(default_factory=dict)
    totals: dict[int, Served] = field(default_factory=dict)
    verdict: bool | None = None
    verdict_at: float = 0.0


class Metrics(Collector):
    """Told by the agent's threads, asked by whoever scrapes."""

    def __init__(self) -> None:
        self._seen: dict[Place, Seen] = {}
        self._errors: Counter[Place] = Counter()
        self._notices: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def saw(self, world: World, seconds: float) -> None:
        """Take note of an environment after a pass that took ``seconds``."""
        place = world.environment.place
        with self._guard:
            seen = self._seen.setdefault(place, Seen(world=world))
            seen.world, seen.passes, seen.seconds = world, seen.passes + 1, seen.seconds + seconds
            _count(seen, world)

    def failed(self, place: Place) -> None:
        with self._guard:
            self._errors[place] += 1

    def forgot(self, place: Place) -> None:
        with self._guard:
            self._seen.pop(place, None)
            self._errors.pop(place, None)

    def happened(self, event: Event) -> None:
        """Take note of a verdict."""
        with self._guard:
            seen = self._seen.get(event.place) if event.place is not None else None
            if seen is not None and event.kind == "verdict":
                seen.verdict, seen.verdict_at = bool(event.detail.get("passed")), event.at.timestamp()

    def noticed(self, outcome: str) -> None:
        """Take note of a notice: ``sent`` or ``lost``."""
        with self._guard:
            self._notices[outcome] += 1

    def text(self) -> bytes:
        """Return what is scraped."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Source: Prometheus' guide to writing exporters."""
        with self._guard:
            yield from self._about_environments()
            yield from self._about_instances()
            yield from self._about_traffic()
            yield from self._about_itself()

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def _about_environments(self) -> Iterator[Metric]:
        number = GaugeMetricFamily("instar_environments", "Environments that the agent looks after.")
        number.add_metric([], len(self._seen))
        active = GaugeMetricFamily("instar_active_release", "Number of the release with the traffic.", labels=_PLACE)
        alarm = GaugeMetricFamily("instar_alarm", "1: nothing is replaced until somebody comes.", labels=_PLACE)
        moving = GaugeMetricFamily(
            "instar_rollout_running", "A rollout is under way: its step.", labels=(*_RELEASE, "strategy", "kind")
        )
        verdict = GaugeMetricFamily("instar_verdict_passed", "The last analysis: 1 passed, 0 failed.", labels=_PLACE)
        at = GaugeMetricFamily("instar_verdict_timestamp_seconds", "When that was.", labels=_PLACE)
        for place, seen in self._seen.items():
            state, where = seen.world.environment, [place.service, place.environment]
            active.add_metric(where, state.active or 0)
            alarm.add_metric(where, float(state.alarm is not None))
            if state.rollout is not None:
                words = [str(state.rollout.target), state.settings.rollout.strategy, state.rollout.kind]
                moving.add_metric([*where, *words], state.rollout.stage.step)
            if seen.verdict is not None:
                verdict.add_metric(where, float(seen.verdict))
                at.add_metric(where, seen.verdict_at)
        yield from (number, active, alarm, moving, verdict, at)

    def _about_instances(self) -> Iterator[Metric]:
        instances = GaugeMetricFamily("instar_instances", "Instances, by state.", labels=(*_RELEASE, "state"))
        healthy = GaugeMetricFamily("instar_instances_healthy", "Instances that answer.", labels=_RELEASE)
        wanted = GaugeMetricFamily("instar_instances_wanted", "Instances of the active release.", labels=_PLACE)
        weight = GaugeMetricFamily("instar_weight_ratio", "Share of new requests, 0 to 1.", labels=_RELEASE)
        for place, seen in self._seen.items():
            world, where = seen.world, [place.service, place.environment]
            wanted.add_metric(where, world.wanted_copies)
            total = sum(copy.weight for copy in world.copies)
            for number in sorted({copy.release for copy in world.copies}):
                copies, labels = world.of(world.releases[number]), [*where, str(number)]
                for state, count in sorted(Counter(copy.state for copy in copies).items()):
                    instances.add_metric([*labels, state], count)
                up = sum(copy.healthy or (copy.routed is not None and copy.routed.up) for copy in copies)
                healthy.add_metric(labels, up)
                weight.add_metric(labels, sum(copy.weight for copy in copies) / total if total else 0)
        yield from (instances, healthy, wanted, weight)

    def _about_traffic(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("instar_requests", "Requests answered, or not.", labels=_RELEASE)
        failed = CounterMetricFamily("instar_requests_failed", "Those answered 5xx, or not at all.", labels=_RELEASE)
        spent = CounterMetricFamily("instar_response_seconds", "Sum of response times.", labels=_RELEASE)
        for place, seen in self._seen.items():
            for number, served in sorted(seen.totals.items()):
                labels = [place.service, place.environment, str(number)]
                requests.add_metric(labels, served.requests)
                failed.add_metric(labels, served.failed)
                spent.add_metric(labels, served.response_ms / 1000)
        yield from (requests, failed, spent)

    def _about_itself(self) -> Iterator[Metric]:
        passes = CounterMetricFamily("instar_passes", "Passes of the loop.", labels=_PLACE)
        seconds = CounterMetricFamily("instar_pass_seconds", "Time spent in them.", labels=_PLACE)
        errors = CounterMetricFamily("instar_pass_errors", "Passes that could not be made to the end.", labels=_PLACE)
        notices = CounterMetricFamily("instar_notices", "Notices, by what became of them.", labels=("outcome",))
        for place, seen in self._seen.items():
            passes.add_metric([place.service, place.environment], seen.passes)
            seconds.add_metric([place.service, place.environment], seen.seconds)
        for place, count in self._errors.items():
            errors.add_metric([place.service, place.environment], count)
        for outcome in ("sent", "lost"):
            notices.add_metric([outcome], self._notices[outcome])
        yield from (passes, seconds, errors, notices)


def _count(seen: Seen, world: World) -> None:
    """Add what came since the last look, and drop releases of which nothing is left."""
    present = {copy.release for copy in world.copies}
    for copy in world.copies:
        if copy.routed is not None:
            new = copy.routed.served.since(seen.counted.get(copy.id, Served()))
            seen.totals[copy.release] = seen.totals.get(copy.release, Served()) + new
    seen.counted = {copy.id: copy.routed.served for copy in world.copies if copy.routed is not None}
    seen.totals = {number: total for number, total in seen.totals.items() if number in present}
