"""Figures: what is counted, what is not counted twice, and how it reads."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from instar.control.snapshot import GroupView, Snapshot
from instar.model.digest import Digest
from instar.model.environment import ScheduledTask, Settings
from instar.model.events import Event
from instar.model.release import EnvironmentId, EnvironmentState, Rollout, Served, Stage
from instar.model.usage import Measured, MemberUsage, Usage
from instar.providers.base import Observed, Probe
from instar.providers.router_plan import RouterPlan
from instar.providers.router_state import RoutedTarget, Target
from instar.telemetry.metrics import Metrics
from simulated.values import ENV, instance, release

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=1)
WHERE = f'environment="{ENV.name}",service="{ENV.service}"'
PLAN = RouterPlan.of(ENV, Settings(listen=("127.0.0.1:8080",)), release().service)

NOTHING = Served()


def metrics(began: datetime = BEFORE - timedelta(hours=1)) -> Metrics:
    """Metrics of an agent that began before the instances of :func:`group`."""
    return Metrics(clock=lambda: began)


def group(
    number: int = 1,
    serial: int = 1,
    *,
    state: str = "running",
    weight: int | None = 100,
    up: bool = True,
    probe: Probe | None = None,
    served: Served = NOTHING,
) -> GroupView:
    made = dataclasses.replace(instance(serial, of=release(number)), created_at=BEFORE)
    target = Target(name=made.id, address="10.99.0.1", port=8080)
    routed = None if weight is None else RoutedTarget(target=target, weight=weight, sessions=0, up=up, served=served)
    return GroupView(instance=made, observed=Observed(id=made.id, state=state), probe=probe, routed=routed)  # type: ignore[arg-type]


def test_requests_that_were_not_written_down_are_counted_on_where_haproxy_began_anew() -> None:
    told = metrics()
    told.unlogged(ENV, {"writer": 50, "haproxy": 3})
    told.saw(world(group()), 0.1)
    assert b"instar_access_log_lost_total{" not in told.text()
    for lost, total in (
        ({"writer": 50, "haproxy": 5}, 0),
        ({"writer": 50, "haproxy": 7}, 2),
        ({"writer": 50}, 2),  # HAProxy did not answer
        ({"writer": 50, "haproxy": 2}, 4),  # it began anew, and what was lost in files before is not lost again
        ({"writer": 51, "haproxy": 2}, 5),
    ):
        told.unlogged(ENV, lost)
        assert f"instar_access_log_lost_total{{{WHERE}}} {total:.1f}" in told.text().decode()


def world(
    *groups: GroupView,
    active: int | None = 1,
    plan: RouterPlan | None = PLAN,
    of: EnvironmentId = ENV,
    **state: object,
) -> Snapshot:
    environment = EnvironmentState(id=of, settings=Settings(), active=active, created_at=BEFORE, **state)  # type: ignore[arg-type]
    numbers = {one.release for one in groups} | ({active} if active else set())
    return Snapshot(
        now=NOW,
        environment=environment,
        releases={number: release(number) for number in numbers},
        groups=groups,
        router_running=plan is not None,
        router_plan=None if plan is None else plan.fingerprint,
    )


def served(requests: int, failed: int = 0, response_ms: int = 0) -> Served:
    return Served(requests=requests, failed=failed, response_ms=response_ms)


def lines(seen: Metrics, start: str) -> list[str]:
    return [line for line in seen.text().decode().splitlines() if line.startswith(start)]


def requests(seen: Metrics, number: int = 1) -> float | None:
    start = f'instar_requests_total{{environment="dev",release="{number}",service="guestbook"}} '
    return next((float(line.removeprefix(start)) for line in lines(seen, start)), None)


def test_nothing_seen_is_written_too() -> None:
    assert lines(metrics(), "instar_environments") == ["instar_environments 0.0"]


def test_what_is_written_is_read_by_prometheus_own_parser_and_follows_its_names() -> None:
    seen = metrics()
    seen.saw(world(group(), alarm="why"), 0.2)
    families = {one.name: one for one in text_string_to_metric_families(seen.text().decode())}
    own = [one for name, one in families.items() if name.startswith("instar_")]
    assert {one.type for one in own} <= {"gauge", "counter"}
    assert all(one.documentation for one in own)
    assert all(sample.name.endswith("_total") for one in own if one.type == "counter" for sample in one.samples)
    assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000


def test_names_that_could_break_a_line_are_escaped() -> None:
    seen = metrics()
    environment = EnvironmentId(service='a"b\\c\nd', name="dev")
    seen.saw(world(of=environment, active=None), 0.1)
    families = {one.name: one for one in text_string_to_metric_families(seen.text().decode())}
    assert families["instar_active_release"].samples[0].labels["service"] == environment.service


def test_requests_failures_and_times_are_summed_by_release() -> None:
    seen = metrics()
    seen.saw(world(group(1, 1, served=served(3, 1, 500)), group(1, 2, served=served(4, 0, 1000)), group(2, 1)), 0.1)
    label = f'{{environment="dev",release="1",service="{ENV.service}"}}'
    assert lines(seen, "instar_requests_total")[0] == f"instar_requests_total{label} 7.0"
    assert lines(seen, "instar_requests_failed_total")[0] == f"instar_requests_failed_total{label} 1.0"
    assert lines(seen, "instar_response_seconds_total")[0] == f"instar_response_seconds_total{label} 1.5"


def test_what_each_instance_uses_and_answers_is_told_by_release_and_role() -> None:
    seen, one = metrics(), group(1, 1, served=served(3, 1, 500))
    role = GroupView(instance=dataclasses.replace(group(1, 2).instance, role="worker"), observed=one.observed)
    seen.saw(world(one, role), 0.1)
    used = Usage(processor_us=2_500_000, memory_bytes=7, cache_bytes=3, limit_bytes=9, processes=2, received_bytes=5)
    members = (
        MemberUsage(name=one.id, group=one.id, usage=used),
        MemberUsage(name="a-pod", group=role.id, usage=Usage(processors=0.25)),
        MemberUsage(name="strange", group="strange", usage=used),
    )
    seen.measured(ENV, Measured(members=members))
    told = [line for line in lines(seen, "instar_instance_") if "instar_instance_ended" not in line]
    figures = dict(line.rsplit(" ", 1) for line in told if not line.partition("{")[0].endswith("_created"))

    def of(name: str, role: str = "") -> str:
        where = f'environment="{ENV.name}",id="{name}",release="1",role="{role}",service="{ENV.service}"'
        return f"{{{where}}}"

    assert figures == {
        f"instar_instance_requests_total{of(one.id)}": "3.0",
        f"instar_instance_requests_failed_total{of(one.id)}": "1.0",
        f"instar_instance_response_seconds_total{of(one.id)}": "0.5",
        f"instar_instance_processor_seconds_total{of(one.id)}": "2.5",
        f"instar_instance_processors{of('a-pod', 'worker')}": "0.25",
        f"instar_instance_memory_bytes{of(one.id)}": "7.0",
        f"instar_instance_cache_bytes{of(one.id)}": "3.0",
        f"instar_instance_memory_limit_bytes{of(one.id)}": "9.0",
        f"instar_instance_processes{of(one.id)}": "2.0",
        f"instar_instance_received_bytes_total{of(one.id)}": "5.0",
    }


def test_what_an_instance_answered_goes_on_where_the_router_began_anew_and_ends_with_it() -> None:
    seen = metrics()
    for count in (10, 2):
        seen.saw(world(group(served=served(count))), 0.1)
    (line,) = lines(seen, "instar_instance_requests_total")
    assert line.endswith(" 12.0")
    seen.saw(world(group(1, 2, served=served(1))), 0.1)
    (line,) = lines(seen, "instar_instance_requests_total")
    assert 'id="guestbook-dev-1-2"' in line and line.endswith(" 1.0")


def test_nothing_is_told_of_what_an_environment_that_was_not_seen_uses() -> None:
    seen = metrics()
    seen.measured(ENV, Measured(members=(MemberUsage(name="a", group="a", usage=Usage(processes=1)),)))
    assert lines(seen, "instar_instance_processes") == []


def test_counters_go_on_when_the_router_began_anew() -> None:
    seen = metrics()
    for count in (10, 15, 2, 6):
        seen.saw(world(group(served=served(count))), 0.1)
    assert requests(seen) == 21


def test_a_router_that_does_not_answer_has_counted_nothing_and_nothing_is_counted_twice() -> None:
    seen = metrics()
    seen.saw(world(group(served=served(10))), 0.1)
    seen.saw(world(group(), plan=None), 0.1)
    seen.saw(world(group(weight=None), plan=None), 0.1)
    assert requests(seen) == 10
    seen.saw(world(group(served=served(12))), 0.1)
    assert requests(seen) == 12


def test_what_was_answered_before_the_agent_began_is_not_its_to_count() -> None:
    seen = metrics(began=NOW)
    seen.saw(world(group(served=served(1_000_000))), 0.1)
    assert requests(seen) == 0
    seen.saw(world(group(served=served(1_000_003))), 0.1)
    assert requests(seen) == 3


def test_a_replaced_instance_takes_nothing_from_its_release() -> None:
    seen = metrics()
    seen.saw(world(group(1, 1, served=served(9))), 0.1)
    seen.saw(world(group(1, 2, served=served(1))), 0.1)
    assert requests(seen) == 10


def test_a_release_of_which_nothing_is_left_is_told_of_no_more() -> None:
    seen = metrics()
    seen.saw(world(group(1), group(2)), 0.1)
    seen.saw(world(group(2), active=2), 0.1)
    assert 'release="2"' in seen.text().decode()
    assert 'release="1"' not in seen.text().decode()


def test_instances_are_told_by_state_also_where_there_are_none() -> None:
    seen = metrics()
    seen.saw(world(group(1, 1), group(1, 2, state="stopped", weight=None)), 0.1)
    found = {line.rpartition('state="')[2] for line in lines(seen, "instar_instances{")}
    assert found == {'planned"} 0.0', 'created"} 0.0', 'running"} 1.0', 'ending"} 0.0', 'dead"} 1.0'}
    seen.saw(world(active=1), 0.1)
    assert lines(seen, "instar_instances_healthy")[0].endswith('release="1",service="guestbook"} 0.0')


def test_healthy_is_what_answers_now_not_what_the_router_last_knew() -> None:
    seen = metrics()
    unwell = group(1, 1, probe=Probe(healthy=False, cause="answered 500"), weight=0)
    dead = group(1, 2, state="stopped", up=True)
    unrouted = group(1, 3, probe=Probe(healthy=True), weight=None)
    seen.saw(world(unwell, dead, unrouted, group(1, 4), group(1, 5, up=False)), 0.1)
    assert lines(seen, "instar_instances_healthy")[0].endswith(" 2.0")


def test_weights_are_shares_of_one() -> None:
    seen = metrics()
    seen.saw(world(group(1, weight=75), group(2, weight=25)), 0.1)
    assert [line.rpartition(" ")[2] for line in lines(seen, "instar_weight_ratio")] == ["0.75", "0.25"]


def test_a_rollout_is_there_while_it_runs_from_its_first_moment() -> None:
    rollout = Rollout(
        id=1, environment=ENV, kind="deploy", source=1, target=2, state="running", actor="me", started_at=NOW
    )
    seen = metrics()
    seen.saw(world(group(1), group(2), rollout=rollout), 0.1)
    labels = 'environment="dev",release="2",service="guestbook"'
    assert lines(seen, "instar_rollout_running") == [f'instar_rollout_running{{{labels},strategy="blue-green"}} 1.0']
    assert lines(seen, "instar_rollout_step") == [f"instar_rollout_step{{{labels}}} 0.0"]
    seen.saw(world(group(1), group(2), rollout=dataclasses.replace(rollout, stage=Stage(step=2))), 0.1)
    assert lines(seen, "instar_rollout_step") == [f"instar_rollout_step{{{labels}}} 2.0"]
    seen.saw(world(group(2), active=2), 0.1)
    assert lines(seen, "instar_rollout") == []


def verdict(passed: bool, number: int = 2, kind: str = "verdict") -> Event:
    detail = {"rollout": 1, "step": 1, "passed": passed, "cause": ""}
    image = Digest.of(b"image")
    return Event(
        seq=1,
        at=NOW,
        actor="agent",
        kind=kind,
        environment=ENV,
        release=number,
        image=image,
        detail=detail,
        hash="",
    )


def test_the_last_verdict_is_told_also_when_it_came_before_the_first_pass() -> None:
    seen = metrics()
    seen.happened(verdict(True))
    seen.happened(verdict(False, 3))
    seen.happened(verdict(True, 4, kind="step"))
    assert lines(seen, "instar_verdict") == []
    seen.saw(world(group()), 0.1)
    label = '{environment="dev",release="3",service="guestbook"}'
    assert lines(seen, "instar_verdict_passed") == [f"instar_verdict_passed{label} 0.0"]
    (at,) = lines(seen, "instar_verdict_timestamp_seconds")
    assert float(at.rpartition(" ")[2]) == NOW.timestamp()


def test_passes_errors_and_notices_are_counted() -> None:
    seen = metrics()
    seen.failed(ENV)
    seen.saw(world(group(), alarm="it keeps failing"), 0.25)
    seen.saw(world(group()), 0.5)
    seen.noticed("sent")
    assert lines(seen, "instar_passes_total") == [f"instar_passes_total{{{WHERE}}} 2.0"]
    assert lines(seen, "instar_pass_seconds_total") == [f"instar_pass_seconds_total{{{WHERE}}} 0.75"]
    assert lines(seen, "instar_pass_errors_total") == [f"instar_pass_errors_total{{{WHERE}}} 1.0"]
    assert lines(seen, "instar_alarm") == [f"instar_alarm{{{WHERE}}} 0.0"]
    assert lines(seen, "instar_notices_total") == [
        'instar_notices_total{outcome="sent"} 1.0',
        'instar_notices_total{outcome="lost"} 0.0',
    ]


def test_an_environment_that_is_gone_is_told_of_no_more() -> None:
    seen = metrics()
    seen.saw(world(group()), 0.1)
    seen.failed(ENV)
    seen.happened(verdict(True))
    seen.forgot(ENV)
    assert ENV.service not in seen.text().decode()


def test_instances_that_ended_are_counted_by_reason_from_the_agent_on() -> None:
    seen = metrics(NOW)
    seen.saw(world(group()), 0.1)
    for at, reason in ((BEFORE, "exited"), (NOW, "out-of-memory"), (NOW, "out-of-memory"), (NOW, "signal")):
        event = Event(
            seq=1,
            at=at,
            actor="me",
            kind="ended",
            environment=ENV,
            release=1,
            image=None,
            detail={"instance": "guestbook-dev-1-1", "reason": reason, "why": "it did"},
            hash="",
        )
        seen.happened(event)
    found = lines(seen, "instar_instance_ended_total")
    wanted = {"exited": 0, "signal": 1, "out-of-memory": 2, "restart": 0, "unknown": 0}
    rest = f'service="{ENV.service}"'
    assert sorted(found) == sorted(
        f'instar_instance_ended_total{{environment="dev",reason="{reason}",{rest}}} {count}.0'
        for reason, count in wanted.items()
    )
    seen.forgot(ENV)
    assert lines(seen, "instar_instance_ended_total") == []


def test_what_was_due_and_did_not_begin_is_counted_by_entry_and_each_entry_is_told_of() -> None:
    seen = metrics(NOW)
    tasks = {name: ScheduledTask(command=("x",), every_ms=60_000) for name in ("nightly", "poll")}
    found = world(group())
    (number,) = {found.environment.active}
    assert number is not None
    release = found.releases[number]
    scheduled = dataclasses.replace(release.configuration, schedule=tasks)
    releases = {**found.releases, number: dataclasses.replace(release, configuration=scheduled)}
    seen.saw(dataclasses.replace(found, releases=releases), 0.1)
    for at, count in ((BEFORE, 5), (NOW, 2), (NOW, 1)):
        event = Event(
            seq=1,
            at=at,
            actor="me",
            kind="missed",
            environment=ENV,
            release=1,
            image=None,
            detail={"entry": "nightly", "count": count, "first": "a", "last": "b"},
            hash="",
        )
        seen.happened(event)
    rest = f'service="{ENV.service}"'
    assert lines(seen, "instar_schedule_missed_total") == [
        f'instar_schedule_missed_total{{entry="{entry}",environment="dev",{rest}}} {count}.0'
        for entry, count in (("nightly", 3), ("poll", 0))
    ]
    seen.forgot(ENV)
    assert lines(seen, "instar_schedule_missed_total") == []
