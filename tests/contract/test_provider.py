"""What every provider does, as base.py says it: its groups, however many members they have, and their traffic.

Each call is made again when its error says so; nothing else is told of the engine behind it.
"""

from __future__ import annotations

import dataclasses
import time

import pytest
from provider_benches import STUBBORN, STUBBORN_STOP, patiently
from provider_stage import ENV, Stage

from instar.errors import InstarError
from instar.model.configuration import Configuration
from instar.model.usage import MemberUsage
from instar.providers.base import Traffic
from instar.providers.router_plan import router_plan


def test_its_groups_take_traffic_by_weight_and_go_without_a_trace(stage: Stage) -> None:
    layout = stage.provider.layout(stage.bench.settings, stage.bench.service)
    assert sum(layout) == stage.bench.settings.instances
    groups = stage.run(least=2)
    first = groups[0]
    patiently(lambda: stage.provider.create(first, stage.release, stage.bench.image))  # once more: it is there
    patiently(lambda: stage.provider.start(first))
    assert stage.seen(first).state == "running"

    stage.expose([], stage.plan)
    stage.expose(groups)
    stage.bench.until(lambda: set(stage.traffic().groups) == {one.id for one in groups})
    assert stage.weights() == {}, "it is exposed without traffic"
    stage.bench.until(lambda: stage.traffic().plan == stage.plan.fingerprint)

    stage.route({one.id: 100 for one in groups})
    assert all(one.up for one in stage.traffic().groups.values())
    stage.expose(groups, stage.plan)
    assert stage.weights() == {one.id: 100 for one in groups}, "what is exposed keeps its weight"
    last = groups[-1]
    stage.route({last.id: stage.provider.traits.heaviest_weight})

    patiently(lambda: stage.provider.withdraw(ENV, [first.id]))
    stage.bench.until(lambda: first.id not in stage.traffic().groups)
    stage.destroy(first)
    stage.bench.until(lambda: stage.seen(first).state == "absent")
    assert set(stage.weights()) == {last.id}
    stage.destroy(first)  # once more: nothing is left to be destroyed


def test_to_destroy_one_that_takes_its_time_only_begins(stage: Stage) -> None:
    """Nobody waits for its grace; it is seen to end, and is asked for again for as long as something of it is left."""
    stage.release = stage.release_of(stage.bench.stubborn, STUBBORN)
    one, *_ = stage.run()
    began = time.monotonic()
    assert not patiently(lambda: stage.provider.destroy(one, stage.release))
    assert not patiently(lambda: stage.provider.destroy(one, stage.release))
    assert time.monotonic() - began < STUBBORN_STOP.grace_ms / 1000 - 1
    stage.bench.until(lambda: stage.seen(one).state == "ending")
    stage.destroy(one)
    stage.bench.until(lambda: stage.seen(one).state == "absent")


def test_what_it_does_not_know_is_none_and_never_nothing(stage: Stage) -> None:
    groups = stage.run()
    stage.expose(groups, stage.plan)
    stage.bench.until(lambda: bool(stage.traffic().groups))
    for one in stage.traffic().groups.values():
        assert (one.served is None) == (stage.provider.counts is None)
        assert one.sessions is None or one.sessions == 0


def test_what_is_not_there_is_absent_and_gets_no_traffic(stage: Stage) -> None:
    one = stage.group(1)
    assert stage.seen(one).state == "absent"
    traffic = stage.traffic()
    assert not traffic.previewed_beside and dataclasses.replace(traffic, previewed_beside=None) == Traffic()
    patiently(lambda: stage.provider.route(ENV, {}))
    for weights in ({one.id: 100},):
        with pytest.raises(InstarError) as caught:
            patiently(lambda weights=weights: stage.provider.route(ENV, weights))  # type: ignore[misc]
        assert caught.value.retry_after_s is None
    stage.destroy(one)


def test_a_group_that_can_be_made_and_not_begun_waits(stage: Stage) -> None:
    one = stage.create(stage.provider.layout(stage.bench.settings, stage.bench.service)[0])
    waits = stage.provider.traits.waits_to_begin
    stage.bench.until(lambda: stage.seen(one).state == ("created" if waits else "running"))


def test_the_heaviest_weight_is_enough_for_a_share_in_percent(stage: Stage) -> None:
    assert stage.provider.traits.heaviest_weight >= 100
    assert stage.provider.traits.poll_s > 0


def test_what_its_groups_use_is_said_of_what_runs_and_of_nothing_else(stage: Stage) -> None:
    measures = stage.provider.measures
    if measures is None:
        return
    groups, absent = stage.run(), stage.group(1)
    assert patiently(lambda: measures.measure(ENV, [])).members == ()

    if patiently(lambda: measures.measure(ENV, groups)).unknown is not None:  # what of it nobody can tell
        assert patiently(lambda: measures.measure(ENV, groups)).members == ()
        return

    def measured() -> list[MemberUsage]:
        return list(patiently(lambda: measures.measure(ENV, [*groups, absent])).members)

    stage.bench.until(lambda: len(measured()) == sum(one.members for one in groups))
    found = measured()
    assert {one.group for one in found} == {one.id for one in groups}
    assert len({one.name for one in found}) == len(found)
    for one in found:
        for value in dataclasses.asdict(one.usage).values():
            assert value is None or value >= 0
    for one in groups:
        stage.destroy(one)
    stage.bench.until(lambda: measured() == [])


def test_roles_with_a_door_each_take_traffic_together_and_leave_together(stage: Stage) -> None:
    settings, service = stage.bench.with_doors, stage.bench.service
    if settings is None:
        return
    roles = Configuration(service=service, role="web", roles={"api": service})
    releases = [dataclasses.replace(stage.release_of(service, number), configuration=roles) for number in (1, 3)]
    moved = []
    stage.plan = router_plan(ENV, settings, releases[0])
    patiently(lambda: stage.provider.expose(releases[0].of_role("web"), [], stage.plan))
    for release in releases:
        stage.release = release
        groups = [stage.make(stage.group(1, role=role), release.of_role(role)) for role in ("web", "api")]
        for one in groups:
            patiently(lambda one=one: stage.provider.start(one))  # type: ignore[misc]
            stage.release = release.of_role(one.role)
            stage.bench.until(lambda one=one: stage.is_well(one))  # type: ignore[misc]
        patiently(lambda: stage.provider.expose(release.of_role("web"), groups[:1]))  # noqa: B023
        patiently(lambda: stage.provider.expose(release, groups[1:]))  # noqa: B023
        moved.append({one.id: 100 for one in groups})
    stage.bench.until(lambda: stage.traffic().plan == stage.plan.fingerprint)
    for weights in (*moved, moved[0]):
        stage.route(weights)
        assert all(one.up for one in stage.traffic().groups.values())
    gone = list(moved[1])
    patiently(lambda: stage.provider.withdraw(ENV, gone))
    stage.bench.until(lambda: not stage.traffic().groups.keys() & set(gone))
    assert stage.weights() == moved[0]
