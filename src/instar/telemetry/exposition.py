"""Figures in Prometheus' text format. Names and units follow its guide: base units, shares from 0 to 1, ``_total``.

Source: "Metric and label naming" and "Writing exporters" in Prometheus' documentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from instar import __version__
from instar.control.snapshot import GroupView, Snapshot
from instar.model.drift import KINDS
from instar.model.release import BY_ITSELF, EnvironmentId
from instar.model.usage import Usage
from instar.telemetry.metrics import EnvironmentFigures, Figures

_PLACE = ("service", "environment")
_RELEASE = (*_PLACE, "release")
_INSTANCE = (*_RELEASE, "role", "id")  # not "instance": so Prometheus calls what it scrapes
STATES = ("planned", "created", "running", "ending", "dead")  # each is told, also with 0: a missing one alerts nobody


def text(figures: Figures) -> bytes:
    """Return ``figures``, and what this process costs, as it is scraped."""
    registry = CollectorRegistry()
    registry.register(_FiguresCollector(figures))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _FiguresCollector(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        environments = sorted(self._figures.seen.items(), key=lambda item: str(item[0]))
        yield from _environments(environments)
        yield from _rollouts(environments)
        yield from _verdicts(self._figures)
        yield from _drift(self._figures)
        yield from _instances(environments)
        yield from _scheduled(environments)
        yield _missed(self._figures)
        yield from _ended(self._figures)
        yield from _traffic(environments)
        yield from _traffic_by_instance(environments)
        yield _unlogged(environments)
        yield from _usage(environments)
        yield from _certificates(self._figures)
        yield from _shipped(self._figures)
        yield from _work(self._figures, environments)

    def describe(self) -> Iterator[Metric]:
        return iter(())


Environments = Sequence[tuple[EnvironmentId, EnvironmentFigures]]


def _environments(environments: Environments) -> Iterator[Metric]:
    number = _gauge("instar_environments", "Environments that the agent looks after.")
    number.add_metric([], len(environments))
    active = _gauge("instar_active_release", "Number of the release with the traffic, 0 for none.", _PLACE)
    alarm = _gauge("instar_alarm", "1: nothing is replaced until someone deploys or rolls back.", _PLACE)
    for environment, seen in environments:
        active.add_metric(_words(environment), seen.snapshot.environment.active or 0)
        alarm.add_metric(_words(environment), float(seen.snapshot.environment.alarm is not None))
    yield from (number, active, alarm)


def _rollouts(environments: Environments) -> Iterator[Metric]:
    running = _gauge("instar_rollout_running", "1: a rollout to that release is under way.", (*_RELEASE, "strategy"))
    step = _gauge("instar_rollout_step", "Shares of traffic that its release was given so far.", _RELEASE)
    for environment, seen in environments:
        state = seen.snapshot.environment
        if state.rollout is not None:
            labels = [*_words(environment), str(state.rollout.target)]
            running.add_metric([*labels, state.settings.rollout.strategy], 1)
            step.add_metric(labels, state.rollout.stage.step)
    yield from (running, step)


def _verdicts(figures: Figures) -> Iterator[Metric]:
    passed = _gauge("instar_verdict_passed", "The last analysis: 1 passed, 0 failed.", _RELEASE)
    at = _gauge("instar_verdict_timestamp_seconds", "When that was, since the epoch.", _RELEASE)
    for environment, verdict in figures.verdicts.items():
        if environment in figures.seen:
            labels = [*_words(environment), str(verdict.release)]
            passed.add_metric(labels, float(verdict.passed))
            at.add_metric(labels, verdict.at.timestamp())
    yield from (passed, at)


def _drift(figures: Figures) -> Iterator[Metric]:
    """Every kind is told of, also with 0: what is missing raises no alert."""
    findings = _gauge("instar_drift_findings", "What is not as it was baked, at the last check.", (*_PLACE, "kind"))
    at = _gauge("instar_drift_check_timestamp_seconds", "When that was, since the epoch.", _PLACE)
    for environment, drift in figures.drift.items():
        for kind in KINDS:
            findings.add_metric([*_words(environment), kind], drift.findings.get(kind, 0))
        at.add_metric(_words(environment), drift.at.timestamp())
    yield from (findings, at)


def _instances(environments: Environments) -> Iterator[Metric]:
    instances = _gauge("instar_instances", "Instances, by state.", (*_RELEASE, "state"))
    healthy = _gauge("instar_instances_healthy", "Instances that answer.", _RELEASE)
    wanted = _gauge("instar_instances_wanted", "Instances that the active release shall have.", _PLACE)
    weight = _gauge("instar_weight_ratio", "A release's share of new requests, 0 to 1.", _RELEASE)
    for environment, seen in environments:
        snapshot = seen.snapshot
        wanted.add_metric(_words(environment), _wanted(snapshot))
        total = sum(group.weight for group in snapshot.groups)
        for number, groups in sorted(_by_release(seen).items()):
            labels = [*_words(environment), str(number)]
            states = Counter(group.state for group in groups)
            for state in STATES:
                instances.add_metric([*labels, state], states[state])
            healthy.add_metric(labels, sum(_answers(group) for group in groups))
            weight.add_metric(labels, sum(group.weight for group in groups) / total if total else 0)
    yield from (instances, healthy, wanted, weight)


def _scheduled(environments: Environments) -> Iterator[Metric]:
    """What was begun by the clock last, of each entry of which something was begun."""
    labels = (*_PLACE, "entry")
    began = _gauge("instar_schedule_began_timestamp_seconds", "When the last one began, since the epoch.", labels)
    failed = _gauge("instar_schedule_failed", "The last one that ended: 1 failed, 0 did not.", labels)
    running = _gauge("instar_schedule_running", "1: it runs.", labels)
    for environment, seen in environments:
        for entry, run in sorted(seen.snapshot.scheduled.items()):
            of = [*_words(environment), entry]
            began.add_metric(of, run.began_at.timestamp())
            running.add_metric(of, float(run.outcome is None))
            if run.outcome is not None:
                failed.add_metric(of, float(run.outcome != "done"))
    yield from (began, failed, running)


def _missed(figures: Figures) -> Metric:
    """Every entry of the active release is told of, also with 0."""
    missed = _counter("instar_schedule_missed", "How often one was due and did not begin.", (*_PLACE, "entry"))
    for environment, seen in figures.seen.items():
        counted, active = figures.missed.get(environment, {}), seen.snapshot.active
        entries = counted.keys() | (active.configuration.schedule.keys() if active is not None else set())
        for entry in sorted(entries):
            missed.add_metric([*_words(environment), entry], counted.get(entry, 0))
    return missed


def _wanted(snapshot: Snapshot) -> int:
    """Return how many instances are wanted: of the active release with all its roles."""
    active = snapshot.active
    return snapshot.environment.settings.instances if active is None else sum(snapshot.layout(active))


def _ended(figures: Figures) -> Iterator[Metric]:
    """Every reason is told of, also with 0: a counter that is there from the beginning shows its first rise."""
    ended = _counter("instar_instance_ended", "Instances that ended by themselves, by reason.", (*_PLACE, "reason"))
    for environment in figures.seen:
        counted = figures.ended.get(environment, {})
        for reason in BY_ITSELF:
            ended.add_metric([*_words(environment), reason], counted.get(reason, 0))
    yield ended


def _by_release(seen: EnvironmentFigures) -> dict[int, list[GroupView]]:
    """Return the groups by release; the active one is there also when it has none."""
    active = seen.snapshot.environment.active
    found: dict[int, list[GroupView]] = {} if active is None else {active: []}
    for group in seen.snapshot.groups:
        found.setdefault(group.release, []).append(group)
    return found


def _answers(group: GroupView) -> bool:
    if group.state != "running":
        return False
    return group.probe.healthy if group.probe is not None else group.routed is not None and group.routed.up


def _traffic(environments: Environments) -> Iterator[Metric]:
    requests = _counter("instar_requests", "Requests, whatever came of them.", _RELEASE)
    failed = _counter("instar_requests_failed", "Those answered 5xx, or not at all.", _RELEASE)
    spent = _counter("instar_response_seconds", "Sum of response times.", _RELEASE)
    for environment, seen in environments:
        for number, served in sorted(seen.totals.items()):
            labels = [*_words(environment), str(number)]
            requests.add_metric(labels, served.requests)
            failed.add_metric(labels, served.failed)
            spent.add_metric(labels, served.response_ms / 1000)
    yield from (requests, failed, spent)


def _shipped(figures: Figures) -> Iterator[Metric]:
    if (shipped := figures.shipped) is None:
        return
    lines = _counter("instar_logs_shipped_lines", "Lines of logs that were shipped.")
    lost = _counter("instar_logs_lost_bytes", "Bytes of logs that were gone before they were shipped, at least.")
    behind = _gauge("instar_logs_behind_bytes", "Bytes of logs that wait to be shipped.")
    fails = _gauge("instar_logs_ship_failing", "1: where logs are shipped to takes nothing.")
    told = ((lines, shipped.lines), (lost, shipped.lost_bytes), (behind, shipped.behind_bytes), (fails, shipped.fails))
    for metric, value in told:
        metric.add_metric([], float(value))
        yield metric


def _unlogged(environments: Environments) -> Metric:
    lost = _counter("instar_access_log_lost", "Requests that could not be written down.", _PLACE)
    for environment, seen in environments:
        if seen.unlogged is not None:
            lost.add_metric(_words(environment), seen.unlogged)
    return lost


def _traffic_by_instance(environments: Environments) -> Iterator[Metric]:
    requests = _counter("instar_instance_requests", "Requests to an instance, whatever came of them.", _INSTANCE)
    failed = _counter("instar_instance_requests_failed", "Those answered 5xx, or not at all.", _INSTANCE)
    spent = _counter("instar_instance_response_seconds", "Sum of response times.", _INSTANCE)
    for environment, seen in environments:
        for group in seen.snapshot.groups:
            if (served := seen.answered.get(group.id)) is not None:
                labels = _instance(environment, group, group.id)
                requests.add_metric(labels, served.requests)
                failed.add_metric(labels, served.failed)
                spent.add_metric(labels, served.response_ms / 1000)
    yield from (requests, failed, spent)


def _usage(environments: Environments) -> Iterator[Metric]:
    """What isn't known of an instance is missing, and not 0."""
    families = [(make(name, about, _INSTANCE), of) for name, about, make, of in _USAGE]
    for environment, seen in environments:
        groups = {one.id: one for one in (*seen.snapshot.groups, *seen.snapshot.task_groups)}
        for member in seen.measured.members:
            if (group := groups.get(member.group)) is None:
                continue
            for family, of in families:
                if (value := of(member.usage)) is not None:
                    family.add_metric(_instance(environment, group, member.name), value)
    yield from (family for family, _ in families)


def _certificates(figures: Figures) -> Iterator[Metric]:
    """Each name is told of, also while there is no certificate for it: then it ended at 0."""
    labels = (*_PLACE, "name", "source")
    end = _gauge("instar_certificate_not_after_timestamp_seconds", "When it ends, since the epoch; 0: none.", labels)
    failures = _gauge("instar_certificate_failures", "Orders in a row that failed.", labels)
    served = _gauge("instar_certificate_served", "1: the edge shows it.", labels)
    for one in figures.certificates:
        for name in one.wanted.names:
            words = [*_words(one.wanted.environment), name, one.wanted.source]
            end.add_metric(words, one.held.not_after.timestamp() if one.held is not None else 0)
            failures.add_metric(words, one.failures)
            served.add_metric(words, float(bool(one.served)))
    yield from (end, failures, served)


def _work(figures: Figures, environments: Environments) -> Iterator[Metric]:
    build = _gauge("instar_build_info", "Which Instar this is; always 1.", ("version",))
    build.add_metric([__version__], 1)
    passes = _counter("instar_passes", "Passes of the loop that were made to their end.", _PLACE)
    seconds = _counter("instar_pass_seconds", "Time spent in them.", _PLACE)
    errors = _counter("instar_pass_errors", "Passes that could not be made to their end.", _PLACE)
    notices = _counter("instar_notices", "Notices, by what became of them.", ("outcome",))
    for environment, seen in environments:
        passes.add_metric(_words(environment), seen.passes)
        seconds.add_metric(_words(environment), seen.seconds)
    for environment in figures.seen.keys() | figures.errors.keys():
        errors.add_metric(_words(environment), figures.errors.get(environment, 0))
    for outcome, count in figures.notices.items():
        notices.add_metric([outcome], count)
    yield from (build, passes, seconds, errors, notices)


def _words(environment: EnvironmentId) -> list[str]:
    return [environment.service, environment.name]


def _instance(environment: EnvironmentId, group: GroupView, name: str) -> list[str]:
    return [*_words(environment), str(group.release), group.role, name]


def _gauge(name: str, about: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _counter(name: str, about: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    return CounterMetricFamily(name, about, labels=labels)


Family = GaugeMetricFamily | CounterMetricFamily
_USAGE: Sequence[tuple[str, str, Callable[[str, str, Sequence[str]], Family], Callable[[Usage], float | None]]] = (
    (
        "instar_instance_processor_seconds",
        "Time of processors that an instance took.",
        _counter,
        lambda one: None if one.processor_us is None else one.processor_us / 1e6,
    ),
    (
        "instar_instance_processors",
        "Processors that it keeps busy, where its engine says no time.",
        _gauge,
        lambda one: one.processors,
    ),
    (
        "instar_instance_memory_bytes",
        "Memory that counts to its limit and can't be given back at once.",
        _gauge,
        lambda one: one.memory_bytes,
    ),
    ("instar_instance_cache_bytes", "Page cache of it that can.", _gauge, lambda one: one.cache_bytes),
    ("instar_instance_memory_limit_bytes", "The limit of both.", _gauge, lambda one: one.limit_bytes),
    ("instar_instance_processes", "Its processes.", _gauge, lambda one: one.processes),
    ("instar_instance_received_bytes", "What its link brought it.", _counter, lambda one: one.received_bytes),
    ("instar_instance_sent_bytes", "What it sent on its link.", _counter, lambda one: one.sent_bytes),
)
