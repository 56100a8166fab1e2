"""How the active release is kept by an agent that nobody stands beside, one rule a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from control_values import DATABASE, HTTP, WORKER, ago, group, names, ready, release, serving, snapshot, tainted

from instar.control.actions import Action, Alarm, Attach, Create, OpenRouter, Plan, Retire, Route, Wait
from instar.control.decide import decide
from instar.control.replace import counted_for
from instar.control.snapshot import GroupView, Snapshot
from instar.model.definition import Health, Service
from instar.model.environment import Replace
from instar.model.release import Ending

POLICY = Replace(budget=3, within_ms=600_000, max_age_ms=3_600_000)
HOUR = 3_600.0


def kept(groups: Sequence[GroupView], *, failures: tuple[datetime, ...] | None = (), **fields: Any) -> Snapshot:
    releases = fields.pop("releases", [release(1, ran_well=True)])
    return snapshot(releases, groups, active=1, replace=POLICY, failures=failures, **fields)


def exclusive(groups: Sequence[GroupView], **fields: Any) -> Snapshot:
    return kept(groups, releases=[release(1, DATABASE, ran_well=True)], **fields)


def test_who_ended_is_taken_away_and_replaced() -> None:
    dead = group(1, "stopped", weight=0, serial=2)
    assert decide(kept([group(1, weight=100), dead], instances=2)) == (Retire((dead.id,), "it ended"),)
    assert decide(kept([group(1, weight=100)], instances=2)) == (Plan(1, (1,), "ended"),)


def test_each_is_replaced_for_its_own_reason() -> None:
    left = [group(1, weight=100, taint=tainted()), group(1, weight=100, serial=2)]
    assert decide(kept(left, instances=3, owed=1)) == (Plan(1, (1,), "ended"), Plan(1, (1,), "tainted"))
    assert decide(kept(left, instances=3, owed=1, failures=None)) == (Plan(1, (1,), "ended"), Plan(1, (1,), "tainted"))
    assert decide(kept(left, instances=2, owed=0)) == (Plan(1, (1,), "tainted"),)
    (early,) = decide(kept(left, instances=3, owed=1, failures=(ago(0.25),)))
    assert isinstance(early, Wait) and early.seconds == pytest.approx(0.75)
    successor = group(1, "absent", serial=3)
    assert decide(kept([*left, successor], instances=3, owed=1)) == (Plan(1, (1,), "ended"),)


def test_who_ended_has_its_traffic_taken_first() -> None:
    left, dead = group(1, weight=100), group(1, "stopped", weight=100, serial=2)
    assert decide(kept([left, dead], instances=2)) == (Route((left.id,)),)


def test_who_no_longer_answers_goes_when_another_does() -> None:
    unwell, well = group(1, weight=0, healthy=False, up=False), group(1, weight=100, serial=2)
    lost: dict[str, Any] = {"unwell": frozenset({unwell.id}), "instances": 2}
    assert decide(kept([unwell, well], **lost)) == (Plan(1, (1,), "unwell"),)
    planned = group(1, "absent", serial=3)
    assert decide(kept([unwell, well, planned], **lost)) == (Create((planned.id,), start=True),)
    young = group(1, healthy=True, serial=3)
    assert decide(kept([unwell, well, young], **lost)) == (Attach(1, (young.id,)),)
    known = group(1, healthy=True, weight=0, serial=3)
    assert decide(kept([unwell, well, known], **lost)) == (Route((well.id, known.id)),)
    after = [dataclasses.replace(unwell, routed=None), well, group(1, weight=100, serial=3)]
    assert decide(kept(after, **lost)) == (Retire((unwell.id,), "others are in its place"),)


def test_a_replacement_that_never_got_healthy_goes_and_is_counted() -> None:
    served, hopeless = group(1, weight=100), group(1, healthy=False, serial=2, age_s=40, replacing="ended")
    made = kept([served, hopeless], instances=2, unwell=frozenset({hopeless.id}), failures=(ago(40),))
    assert decide(made) == (Retire((hopeless.id,), "it never got healthy", unwell=True),)


@pytest.mark.parametrize(("failures", "due_s"), [(1, 1), (2, 2)])
def test_each_replacement_waits_twice_as_long_as_the_one_before(failures: int, due_s: int) -> None:
    before = tuple(ago(100 - number) for number in range(failures - 1))
    late = kept([], failures=(*before, ago(due_s)))
    assert decide(late) == (Plan(1, (1,), "ended"),)
    (action,) = decide(kept([], failures=(*before, ago(due_s - 0.25))))
    assert action == Wait(0.25)


def test_the_longest_pause_is_a_minute() -> None:
    failures = tuple(ago(300 - number) for number in range(20))
    policy = dataclasses.replace(POLICY, budget=100)
    made = snapshot([release(1)], [], active=1, replace=policy, failures=(*failures, ago(60)))
    assert decide(made) == (Plan(1, (1,), "ended"),)


def test_a_spent_budget_raises_an_alarm_once_and_nothing_is_replaced_any_more() -> None:
    failures = (ago(300), ago(200), ago(100))
    (action,) = decide(kept([], failures=failures))
    assert isinstance(action, Alarm)
    assert action.reason.startswith("3 replacements of release 1 in 600 s")
    assert decide(kept([], failures=failures, alarm="3 replacements")) == ()


def test_an_alarm_leaves_what_is_there_as_it_is() -> None:
    unwell, well = group(1, weight=0, healthy=False, up=False), group(1, weight=100, serial=2)
    made = kept([unwell, well], instances=2, unwell=frozenset({unwell.id}), alarm="3 replacements")
    assert decide(made) == ()
    alone = group(1, weight=100, healthy=False, up=False)
    assert decide(kept([alone], unwell=frozenset({alone.id}), alarm="3 replacements")) == ()


def test_somebody_who_asks_gets_one_at_once() -> None:
    assert decide(kept([], failures=None)) == (Plan(1, (1,), "ended"),)
    assert decide(kept([], failures=None, tried=frozenset({(1, "ended")}))) == ()


# age


def test_the_oldest_is_replaced_when_it_is_too_old_and_only_one_at_a_time() -> None:
    old = [group(1, weight=100, serial=1, age_s=HOUR), group(1, weight=100, serial=2, age_s=HOUR + 5)]
    assert decide(kept(old, instances=2)) == (Plan(1, (1,), "old"),)
    new = group(1, healthy=True, weight=0, serial=3)
    assert decide(kept([*old, new], instances=2)) == (Route((old[0].id, new.id)),)
    after = [old[0], group(1, weight=0, serial=2, age_s=HOUR + 5), group(1, weight=100, serial=3)]
    assert decide(kept(after, instances=2)) == (Retire((old[1].id,), "others are in its place"),)
    assert decide(kept(serving(1, 2, age_s=HOUR - 1), instances=2)) == ()


def test_an_old_one_serves_until_its_requests_are_answered() -> None:
    old = group(1, weight=0, sessions=1, age_s=HOUR)
    made = kept([old, group(1, weight=100, serial=2)], quiet_since={old.id: ago(1)})
    assert isinstance(decide(made)[0], Wait)
    late = kept([old, group(1, weight=100, serial=2)], quiet_since={old.id: ago(31)})
    assert decide(late) == (Retire((old.id,), "others are in its place"),)


def test_unwell_ones_come_before_old_ones() -> None:
    old, unwell = group(1, weight=100, age_s=HOUR), group(1, weight=0, healthy=False, up=False, serial=2)
    made = kept([old, unwell], instances=2, unwell=frozenset({unwell.id}))
    assert decide(made) == (Plan(1, (1,), "unwell"),)


def test_a_successor_of_an_old_one_that_fails_goes_and_the_old_one_serves_on() -> None:
    old, failed = group(1, weight=100, age_s=HOUR), group(1, healthy=False, serial=2, age_s=40, replacing="old")
    made = kept([old, failed], unwell=frozenset({failed.id}))
    assert decide(made) == (Retire((failed.id,), "it never got healthy", unwell=True),)


def test_nothing_is_too_old_while_a_rollout_runs_or_somebody_waits() -> None:
    old = group(1, weight=100, age_s=2 * HOUR)
    assert decide(kept([old], failures=None)) == ()
    rolling = kept([old], releases=[release(1, ran_well=True), release(2)], target=2)
    assert decide(rolling) == (Plan(2, (1,)),)


# a volume for itself


def test_with_an_exclusive_volume_the_old_one_stops_first() -> None:
    old = group(1, weight=100, age_s=HOUR)
    assert decide(exclusive([old])) == (Route(()),)
    closed = group(1, weight=0, age_s=HOUR)
    (action,) = decide(exclusive([closed], quiet_since={closed.id: ago(1)}))
    assert isinstance(action, Retire)
    assert decide(exclusive([])) == (Plan(1, (1,), "ended"),)


def test_it_does_not_stop_while_nothing_may_take_its_place() -> None:
    old = group(1, weight=100, age_s=HOUR)
    assert decide(exclusive([old], alarm="3 replacements")) == ()
    assert isinstance(decide(exclusive([old], failures=(ago(0.5),)))[0], Wait)


# the router, and the hot release


def test_a_router_that_died_is_opened_first() -> None:
    groups = [group(1, weight=100, healthy=True, up=False)]
    assert decide(kept(groups, router=False)) == (OpenRouter(1),)


def test_a_hot_copy_that_ended_is_restored_by_the_agent_alone() -> None:
    releases = [release(1, ran_well=True), release(2, ran_well=True, last=60)]
    dead = group(2, "stopped", weight=0)
    both = kept([*serving(1, 1), dead], releases=releases)
    assert decide(both) == (Retire((dead.id,), "it is no longer needed"),)
    assert decide(kept(serving(1, 1), releases=releases)) == (Plan(2, (1,), "hot"),)
    assert decide(kept(serving(1, 1), releases=releases, failures=None)) == ()
    assert decide(kept(serving(1, 1), releases=releases, tried=frozenset({(2, "hot")}))) == ()
    planned = group(2, "absent")
    assert decide(kept([*serving(1, 1), planned], releases=releases)) == (Create((planned.id,), start=True),)


def test_a_hot_release_is_not_waited_for() -> None:
    releases = [release(1, ran_well=True), release(2, ran_well=True, last=60)]
    young = group(2, healthy=False)
    assert decide(kept([*serving(1, 1), young], releases=releases)) == ()


def test_a_release_that_changed_its_service_is_kept_as_it_was() -> None:
    service: Service = dataclasses.replace(DATABASE, volumes=())
    groups = ready(1, 1)
    assert decide(kept(groups, releases=[release(1, service)])) == (Route(names(groups)),)


def test_whoever_answers_is_not_stopped_while_the_active_release_has_nobody() -> None:
    releases = [release(1, ran_well=True), release(2)]
    candidate = group(2, weight=100)
    assert decide(kept([candidate], releases=releases, alarm="3 replacements")) == ()
    assert decide(kept([candidate], releases=releases)) == (Plan(1, (1,), "ended"),)
    assert decide(kept([*ready(1, 1), candidate], releases=releases)) == (Route(("shop-production-1-1",)),)
    quiet = kept([*serving(1, 1), group(2, weight=0)], releases=releases)
    assert decide(quiet) == (Retire((candidate.id,), "it is no longer needed"),)


def test_without_an_active_release_the_door_is_closed_first() -> None:
    served = serving(1, 1)
    assert decide(snapshot([release(1)], served)) == (Route(()),)


def test_replacements_that_fail_slowly_spend_the_budget_too() -> None:
    slow = dataclasses.replace(HTTP, health=Health(kind="http", path="/", deadline_ms=300_000))
    assert counted_for(POLICY, release(1)) == timedelta(seconds=600)
    assert counted_for(POLICY, release(1, slow)) == timedelta(seconds=3 * (300 + 4))


def test_tainted_ones_serve_until_others_do_and_go_together() -> None:
    first, second = (group(1, weight=100, serial=serial, taint=tainted()) for serial in (1, 2))
    left = group(1, weight=100, serial=3)
    assert decide(kept([first, second, left], instances=3)) == (Plan(1, (1,) * 2, "tainted"),)
    young = tuple(group(1, healthy=True, weight=0, serial=serial) for serial in (4, 5))
    assert decide(kept([first, second, left, *young], instances=3)) == (Route(names((left, *young))),)
    drained = [dataclasses.replace(one, routed=None) for one in (first, second)]
    served = [group(1, weight=100, serial=serial) for serial in (3, 4, 5)]
    assert decide(kept([*drained, *served], instances=3)) == (Retire(names(drained), "others are in its place"),)


def test_drifted_ones_go_one_by_one() -> None:
    groups = [group(1, weight=100, serial=serial, taint=tainted("drift")) for serial in (1, 2)]
    assert decide(kept(groups, instances=2)) == (Plan(1, (1,), "drifted"),)


def test_a_taint_waits_until_it_is_due() -> None:
    groups = [group(1, weight=100, taint=tainted("shell", due_in_s=60))]
    assert decide(kept(groups)) == ()


def test_an_isolated_one_loses_its_traffic_to_another_and_stays_until_it_is_due() -> None:
    aside = group(1, weight=100, taint=tainted("shell", due_in_s=60, isolated=True))
    assert decide(kept([aside])) == (Plan(1, (1,), "tainted"),)
    other = group(1, healthy=True, weight=0, serial=2)
    assert decide(kept([aside, other])) == (Route((other.id,)),)
    quiet = group(1, weight=0, taint=tainted("shell", due_in_s=60, isolated=True))
    assert decide(kept([quiet, group(1, weight=100, serial=2)])) == ()
    due = group(1, weight=0, taint=tainted("shell", isolated=True))
    assert decide(kept([due, group(1, weight=100, serial=2)])) == (Retire((due.id,), "others are in its place"),)


def test_a_tainted_worker_goes_when_another_works() -> None:
    releases = [release(1, WORKER, ran_well=True)]
    worker, other = group(1, age_s=60, taint=tainted()), group(1, healthy=True, age_s=60, serial=2)
    assert decide(kept([worker], releases=releases)) == (Plan(1, (1,), "tainted"),)
    assert decide(kept([worker, other], releases=releases)) == (Retire((worker.id,), "others are in its place"),)


def test_a_tainted_one_that_must_be_alone_stops_first_and_is_never_set_aside() -> None:
    lonely = group(1, weight=100, taint=tainted("shell", due_in_s=60, isolated=True))
    assert decide(exclusive([lonely])) == ()
    assert decide(exclusive([group(1, weight=100, taint=tainted())])) == (Route(()),)


def test_a_person_who_deploys_gets_one_replacement_of_what_is_tainted() -> None:
    bad = group(1, weight=100, taint=tainted())
    assert decide(kept([bad], failures=None)) == (Plan(1, (1,), "tainted"),)
    assert decide(kept([bad], failures=None, tried=frozenset({(1, "tainted")}))) == ()


HOT = [release(1, ran_well=True, last=9), release(2, ran_well=True, last=1)]


def test_a_hot_release_s_tainted_copy_goes_when_another_is_ready_and_no_sooner() -> None:
    hot, active = group(1, weight=0, taint=tainted()), group(2, weight=100)

    def after(*groups: GroupView, **fields: Any) -> tuple[Action, ...]:
        made = {"active": 2, "replace": POLICY, "failures": (), **fields}
        return decide(snapshot(HOT, [hot, active, *groups], **made))

    assert after() == (Plan(1, (1,), replacing="hot"),)
    assert after(group(1, "absent", serial=2)) == (Create(("shop-production-1-2",), start=True),)
    assert after(group(1, serial=2, healthy=False)) == ()
    assert after(group(1, serial=2, healthy=True)) == (Retire((hot.id,), "it is no longer needed"),)


def test_nobody_takes_the_way_back_away_who_makes_no_other() -> None:
    hot, active = group(1, weight=0, taint=tainted()), group(2, weight=100)
    assert decide(snapshot(HOT, [hot, active], active=2, replace=POLICY)) == ()


def test_a_sleeping_hot_release_s_tainted_copy_goes_when_another_is_made() -> None:
    releases = [release(1, DATABASE, ran_well=True, last=9), release(2, DATABASE, ran_well=True, last=1)]
    hot, active = group(1, "created", taint=tainted()), group(2, weight=100)
    made: dict[str, Any] = {"active": 2, "replace": POLICY, "failures": ()}
    assert decide(snapshot(releases, [hot, active], **made)) == (Plan(1, (1,), replacing="hot"),)
    other = group(1, "absent", serial=2)
    assert decide(snapshot(releases, [hot, active, other], **made)) == (Create((other.id,), start=False),)
    other = group(1, "created", serial=2)
    assert decide(snapshot(releases, [hot, active, other], **made)) == (Retire((hot.id,), "it is no longer needed"),)


# who takes nobody's place


def test_who_is_wanted_beyond_those_there_were_takes_nobodys_place_and_waits_for_nothing() -> None:
    assert decide(kept(serving(1, 1), instances=3, owed=0, failures=(ago(0.1),))) == (Plan(1, (1,) * 2),)
    assert decide(kept(serving(1, 1), instances=3, owed=0, failures=None)) == (Plan(1, (1,) * 2),)


def test_of_those_that_are_missing_only_who_ended_is_replaced() -> None:
    assert decide(kept(serving(1, 1), instances=4, owed=1)) == (Plan(1, (1,) * 2), Plan(1, (1,), "ended"))
    early = decide(kept(serving(1, 1), instances=4, owed=1, failures=(ago(0.75),)))
    assert early == (Plan(1, (1,) * 2), Wait(0.25))
    assert decide(kept(serving(1, 1), instances=2, owed=5)) == (Plan(1, (1,), "ended"),)


def test_an_alarm_that_holds_lets_nothing_be_launched_and_another_does() -> None:
    made = kept([], owed=0, alarm="3 replacements")
    assert decide(made) == ()
    asked = dataclasses.replace(made, failures=None)
    assert decide(asked) == (Plan(1, (1,)),)
    loose = dataclasses.replace(made, environment=dataclasses.replace(made.environment, alarm_holds=False))
    assert decide(loose) == (Plan(1, (1,)),)
    assert decide(dataclasses.replace(loose, owed=1)) == (Plan(1, (1,), "ended"),)


def test_an_alarm_says_how_the_last_one_ended() -> None:
    ended = Ending(reason="out-of-memory", at=ago(100), why="killed: out of memory", exit_status=137, signal="SIGKILL")
    (action,) = decide(kept([], failures=(ago(300), ago(200), ago(100)), endings=(ended,)))
    assert isinstance(action, Alarm)
    last = "(the last: killed: out of memory): replacement has stopped"
    assert action.reason.startswith(f"3 replacements of release 1 in 600 s {last}")


def test_what_was_decided_to_end_does_not_count_as_there_though_it_runs() -> None:
    ended = Ending(reason="instar", at=ago(1), why="others are in its place")
    going = group(1, weight=0, serial=2)
    going = dataclasses.replace(going, instance=dataclasses.replace(going.instance, ending=ended))
    assert going.state == "dead"
    (action,) = decide(kept([group(1, weight=100), going], instances=2))
    assert action == Retire((going.id,), "it ended")


def test_a_release_that_is_being_ended_still_stands_in_the_way_of_an_exclusive_one() -> None:
    ended = Ending(reason="instar", at=ago(1), why="it holds a volume for itself")
    old, new = group(1, weight=0), group(2, "created")
    old = dataclasses.replace(old, instance=dataclasses.replace(old.instance, ending=ended))
    releases = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    made = snapshot(releases, [old, new], active=1, target=2)
    assert decide(made) == (Retire((old.id,), "it holds a volume for itself"),)
