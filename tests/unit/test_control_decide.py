"""The decision, one rule a test: worlds are made by hand, actions compared whole."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from control_values import DATABASE, HTTP, NOW, WORKER, ago, group, release, snapshot

from instar.control.actions import (
    Attach,
    CloseRouter,
    Create,
    Cut,
    Fail,
    Finish,
    OpenRouter,
    Plan,
    Retire,
    Route,
    SetNetwork,
    Shift,
    Start,
    Wait,
)
from instar.control.decide import decide
from instar.model.definition import Task
from instar.model.release import Ending, Stage
from instar.providers.traits import Traits

TIDY = Task(command=("tidy",))


def test_a_first_deploy_goes_from_nothing_to_traffic_in_order() -> None:
    new = [release(1)]
    assert decide(snapshot(new, target=1, instances=2)) == (Plan(1, (1,) * 2),)
    planned = [group(1, "absent", serial=1), group(1, "absent", serial=2)]
    names = tuple(one.id for one in planned)
    assert decide(snapshot(new, planned, target=1, instances=2)) == (Create(names, start=True),)
    created = [group(1, "created", serial=1), group(1, "created", serial=2)]
    assert decide(snapshot(new, created, target=1, instances=2)) == (Start(names),)
    half = [group(1, healthy=True, serial=1), group(1, healthy=False, serial=2)]
    assert isinstance(decide(snapshot(new, half, target=1, instances=2))[0], Wait)
    well = [group(1, healthy=True, serial=1), group(1, healthy=True, serial=2)]
    assert decide(snapshot(new, well, target=1, instances=2, router=False)) == (OpenRouter(1),)
    assert decide(snapshot(new, well, target=1, instances=2)) == (Attach(1, names),)
    known = [group(1, healthy=True, weight=0, serial=1), group(1, healthy=True, weight=0, serial=2)]
    assert decide(snapshot(new, known, target=1, instances=2)) == (Shift(1, names),)
    served = [group(1, weight=100, serial=1), group(1, weight=100, serial=2)]
    assert decide(snapshot(new, served, active=1, target=1, instances=2)) == (Finish(),)
    assert decide(snapshot(new, served, active=1, instances=2)) == ()


def test_traffic_does_not_move_while_one_copy_is_not_healthy() -> None:
    served = [group(1, weight=100, serial=1), group(1, weight=100, serial=2)]
    groups = [*served, group(2, healthy=True, serial=1), group(2, healthy=False, serial=2)]
    actions = decide(snapshot([release(1, ran_well=True), release(2)], groups, active=1, target=2, instances=2))
    assert all(isinstance(action, Wait) for action in actions)


def test_a_candidate_that_is_not_healthy_by_its_deadline_fails_with_its_cause() -> None:
    groups = [group(1, weight=100), group(2, healthy=False, age_s=31)]
    (action,) = decide(snapshot([release(1), release(2)], groups, active=1, target=2))
    assert isinstance(action, Fail)
    assert action.reason == "0 of 1 healthy after 30 s: GET /healthz answered 500"
    assert action.instances == (groups[1].id,)


def test_a_candidate_that_ends_fails_at_once() -> None:
    groups = [group(1, weight=100), group(2, "stopped")]
    (action,) = decide(snapshot([release(1), release(2)], groups, active=1, target=2))
    assert isinstance(action, Fail)
    assert "ended" in action.reason


def test_a_crash_between_the_record_and_the_switch_is_repaired_by_routing_again() -> None:
    groups = [group(1, weight=100), group(2, healthy=True, weight=0)]
    assert decide(snapshot([release(1), release(2)], groups, active=2, target=2)) == (Route((groups[1].id,)),)


def test_requests_in_flight_are_waited_for_and_cut_at_the_deadline() -> None:
    releases = [release(1, ran_well=True, last=5), release(2)]
    busy = [group(1, weight=0, sessions=3), group(2, weight=100)]
    assert isinstance(decide(snapshot(releases, busy, active=2, target=2))[0], Wait)
    late = [release(1, ran_well=True, last=31), release(2)]
    assert decide(snapshot(late, busy, active=2, target=2)) == (Cut((busy[0].id,)),)


def test_what_is_ended_after_the_rollout_is_told_so_before_its_streams_are_cut() -> None:
    late, busy = (
        [release(1, ran_well=True, last=31), release(2)],
        [group(1, weight=0, sessions=3), group(2, weight=100)],
    )
    assert decide(snapshot(late, busy, active=2, target=2, hot=0)) == (Finish(),)
    (retired,) = decide(snapshot(late, busy, active=2, hot=0))
    assert isinstance(retired, Retire) and retired.instances == (busy[0].id,)
    tidy = [late[0], release(2, dataclasses.replace(HTTP, after=(TIDY,)))]
    assert decide(snapshot(tidy, busy, active=2, target=2, hot=0)) == (Cut((busy[0].id,)),), "its tasks come then"


def test_a_rollback_waits_for_no_requests_that_nobody_counts_of_a_release_that_stays() -> None:
    releases = [release(1, ran_well=True, last=1), release(2, ran_well=True, last=1)]
    groups = [group(1, weight=100, sessions=None), group(2, weight=0, sessions=None)]
    assert decide(snapshot(releases, groups, active=1, target=1, source=2, kind="rollback")) == (Finish(),)
    assert decide(snapshot(releases, groups, active=1)) == ()
    (wait,) = decide(snapshot(releases, groups, active=1, target=1, source=2, kind="rollback", hot=0))
    assert isinstance(wait, Wait), "what is to be ended has its time"
    (wait,) = decide(snapshot(releases, groups, active=1, hot=0))
    assert isinstance(wait, Wait)
    never_well = [releases[0], release(2, last=1)]
    (wait,) = decide(snapshot(never_well, groups, active=1, target=1, source=2, kind="rollback"))
    assert isinstance(wait, Wait)


@pytest.mark.parametrize(("heals", "tasks", "is_over"), [(True, (), True), (False, (), False), (True, (TIDY,), False)])
def test_a_deploy_that_an_engine_keeps_alive_does_neither_unless_its_last_tasks_come(
    heals: bool, tasks: tuple[Task, ...], is_over: bool
) -> None:
    releases = [release(1, ran_well=True, last=1), release(2, dataclasses.replace(HTTP, after=tasks))]
    groups = [group(1, weight=0, sessions=None), group(2, weight=100, sessions=None)]
    found = decide(snapshot(releases, groups, active=2, target=2, source=1, traits=Traits(heals=heals)))
    assert found == (Finish(),) if is_over else isinstance(found[0], Wait)


def test_what_may_get_requests_by_older_weights_yet_is_not_ended_however_long_it_has_had_none() -> None:
    releases = [release(1, ran_well=True, last=600), release(2, ran_well=True, last=600)]
    groups = [group(1, weight=100, sessions=None), group(2, weight=0, sessions=None)]
    quiet = {one.id: ago(600) for one in groups}
    made = snapshot(releases, groups, active=1, hot=0, quiet_since=quiet)
    assert isinstance(decide(made)[0], Retire)
    (wait,) = decide(dataclasses.replace(made, settled=False))
    assert isinstance(wait, Wait)
    rolled = snapshot(releases, groups, active=1, target=1, source=2, kind="rollback", quiet_since=quiet)
    assert decide(dataclasses.replace(rolled, settled=False)) == (Finish(),), "what stays is not waited for"


def test_one_release_stays_hot_and_the_one_before_it_is_retired() -> None:
    releases = [release(1, ran_well=True, last=60), release(2, ran_well=True, last=5), release(3, ran_well=True)]
    groups = [group(1, weight=0), group(2, weight=0), group(3, weight=100)]
    (action,) = decide(snapshot(releases, groups, active=3))
    assert isinstance(action, Retire)
    assert action.instances == (groups[0].id,)
    assert decide(snapshot(releases, groups[1:], active=3)) == ()


def test_a_release_that_failed_is_never_hot() -> None:
    groups = [group(1, weight=100), group(2, healthy=True)]
    (action,) = decide(snapshot([release(1, ran_well=True), release(2)], groups, active=1))
    assert action == Retire((groups[1].id,), "it is no longer needed")


def test_a_rollback_asks_the_hot_release_first_and_replaces_what_no_longer_answers() -> None:
    releases = [release(1, ran_well=True, last=60), release(2, ran_well=True)]
    old = group(1, healthy=False, weight=0, age_s=600)
    (action,) = decide(snapshot(releases, [old, group(2, weight=100)], active=2, target=1))
    assert isinstance(action, Retire) and action.instances == (old.id,)
    assert decide(snapshot(releases, [group(2, weight=100)], active=2, target=1)) == (Plan(1, (1,)),)


def test_a_copy_that_slept_and_was_started_for_a_rollback_gets_its_time() -> None:
    releases = [release(1, DATABASE, ran_well=True, last=60), release(2, DATABASE, ran_well=True)]
    asleep = group(1, healthy=False, age_s=1)
    made = dataclasses.replace(asleep.instance, created_at=NOW - timedelta(hours=1))
    woken = dataclasses.replace(asleep, instance=made)
    (action,) = decide(snapshot(releases, [woken], active=2, target=1))
    assert isinstance(action, Wait)


def test_two_releases_with_an_exclusive_volume_never_run_at_once() -> None:
    releases = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    old, planned = group(1, weight=100), group(2, "absent")
    assert decide(snapshot(releases, [old, planned], active=1, target=2)) == (Create((planned.id,), start=False),)
    created = group(2, "created")
    assert decide(snapshot(releases, [old, created], active=1, target=2)) == (Route(()),)
    closed = group(1, weight=0)
    (action,) = decide(snapshot(releases, [closed, created], active=1, target=2))
    assert isinstance(action, Retire) and action.instances == (old.id,)
    assert decide(snapshot(releases, [created], active=1, target=2)) == (Start((created.id,)),)


def test_the_hot_release_of_an_exclusive_volume_is_created_and_not_started() -> None:
    releases = [release(1, DATABASE, ran_well=True, last=1), release(2, DATABASE, ran_well=True)]
    new, asleep = group(2, weight=100), group(1, "absent", serial=2)
    assert decide(snapshot(releases, [new], active=2)) == (Plan(1, (1,), replacing="hot"),)
    assert decide(snapshot(releases, [new, asleep], active=2)) == (Create((asleep.id,), start=False),)
    assert decide(snapshot(releases, [new, group(1, "created", serial=2)], active=2)) == ()


def test_after_a_failed_exclusive_rollout_the_source_runs_again() -> None:
    releases = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    failed = group(2, healthy=False)
    assert decide(snapshot(releases, [failed], active=1)) == (Plan(1, (1,), replacing="ended"),)
    (action,) = decide(snapshot(releases, [failed, group(1, "created", serial=2)], active=1))
    assert isinstance(action, Retire) and action.instances == (failed.id,)


def test_a_pause_comes_before_the_gap_of_an_exclusive_volume_and_never_in_it() -> None:
    releases = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    stage = Stage(paused=True)
    before = snapshot(releases, [group(1, weight=100), group(2, "created")], active=1, target=2, stage=stage)
    assert isinstance(decide(before)[0], Wait)
    candidate = group(2, healthy=True, weight=0)
    assert decide(snapshot(releases, [candidate], active=1, target=2, stage=stage)) == (Shift(2, (candidate.id,)),)


def test_a_paused_blue_green_rollout_is_ready_and_waits() -> None:
    groups = [group(1, weight=100), group(2, healthy=True, weight=0)]
    paused = snapshot([release(1), release(2)], groups, active=1, target=2, stage=Stage(paused=True))
    assert isinstance(decide(paused)[0], Wait)
    assert decide(snapshot([release(1), release(2)], groups, active=1, target=2)) == (Shift(2, (groups[1].id,)),)


def test_a_worker_has_no_traffic_and_its_old_release_stops_working() -> None:
    releases = [release(1, WORKER, ran_well=True, last=1), release(2, WORKER)]
    young = [group(1), group(2, healthy=True, age_s=1)]
    assert isinstance(decide(snapshot(releases, young, active=1, target=2, router=False))[0], Wait)
    groups = [group(1), group(2, healthy=True, age_s=3)]
    assert decide(snapshot(releases, groups, active=1, target=2, router=False)) == (Shift(2, ()),)
    after = [release(1, WORKER, ran_well=True, last=1), release(2, WORKER, ran_well=True)]
    (action,) = decide(snapshot(after, groups, active=2, router=False))
    assert isinstance(action, Retire) and action.instances == (groups[0].id,)


def test_a_dead_copy_of_the_active_release_is_replaced_once_and_not_for_ever() -> None:
    releases = [release(1, ran_well=True)]
    dead = group(1, "stopped", weight=0)
    assert decide(snapshot(releases, [dead], active=1)) == (Retire((dead.id,), "it ended"),)
    assert decide(snapshot(releases, [], active=1)) == (Plan(1, (1,), replacing="ended"),)
    assert decide(dataclasses.replace(snapshot(releases, [], active=1), tried=frozenset({(1, "ended")}))) == ()


def test_what_is_well_serves_while_another_copy_is_not() -> None:
    releases = [release(1, ran_well=True)]
    well, unwell = group(1, healthy=True, weight=0, serial=1), group(1, healthy=False, serial=2, age_s=60)
    assert decide(snapshot(releases, [well, unwell], active=1, instances=2)) == (Route((well.id,)),)
    served = group(1, weight=100, serial=1)
    both = snapshot(releases, [served, unwell], active=1, instances=2)
    assert decide(both) == (Retire((unwell.id,), "it no longer answers", unwell=True),)
    assert decide(dataclasses.replace(both, tried=frozenset({(1, "ended")}))) == ()


def test_a_reboot_after_the_traffic_has_moved_does_not_undo_the_rollout() -> None:
    releases = [release(1, ran_well=True, last=5), release(2)]
    gone = group(2, "absent")
    rebooted = dataclasses.replace(gone, instance=dataclasses.replace(gone.instance, made=True))
    assert decide(snapshot(releases, [rebooted], active=2, target=2)) == (Finish(),)


def test_a_reboot_before_it_replaces_the_candidate() -> None:
    releases = [release(1, ran_well=True, last=5), release(2)]
    gone = group(2, "absent")
    rebooted = dataclasses.replace(gone, instance=dataclasses.replace(gone.instance, made=True))
    (action,) = decide(snapshot(releases, [group(1, weight=100), rebooted], active=1, target=2))
    assert isinstance(action, Retire) and action.instances == (gone.id,)


def test_fewer_instances_lose_their_traffic_before_they_go() -> None:
    releases = [release(1, ran_well=True)]
    three = [group(1, weight=100, serial=serial) for serial in (1, 2, 3)]
    assert decide(snapshot(releases, three, active=1, instances=2)) == (Route((three[0].id, three[1].id)),)
    rest = [*three[:2], group(1, weight=0, serial=3)]
    (action,) = decide(snapshot(releases, rest, active=1, instances=2))
    assert isinstance(action, Retire) and action.instances == (rest[2].id,)


def test_destroying_closes_the_door_first_and_forgets_last() -> None:
    releases = [release(1, ran_well=True)]
    served = [group(1, weight=100)]
    assert decide(snapshot(releases, served, active=1, destroying=True)) == (Route(()),)
    (action,) = decide(snapshot(releases, [group(1, weight=0)], active=1, destroying=True))
    assert isinstance(action, Retire)
    assert decide(snapshot(releases, [], active=1, destroying=True)) == (CloseRouter(),)
    assert decide(snapshot(releases, [], active=1, destroying=True, router=False)) == ()


def test_a_failed_first_deploy_leaves_nothing() -> None:
    (action,) = decide(snapshot([release(1)], [group(1, healthy=False)]))
    assert isinstance(action, Retire)
    assert decide(snapshot([release(1)], [])) == (CloseRouter(),)
    assert decide(snapshot([release(1)], [], router=False)) == ()


def test_what_has_had_its_time_to_end_is_ended_though_a_rollout_waits() -> None:
    going = group(1, "ending")
    ending = Ending(reason="instar", at=NOW, why="it is no longer needed")
    going = dataclasses.replace(going, instance=dataclasses.replace(going.instance, ending=ending))
    over = dataclasses.replace(going, observed=dataclasses.replace(going.observed, state="running"))
    releases = [release(1, ran_well=True), release(2, ran_well=True), release(3)]
    others = [group(2, weight=100), group(3, healthy=False, age_s=5)]
    (waits,) = decide(snapshot(releases, [going, *others], active=2, target=3, source=2))
    assert isinstance(waits, Wait) and not waits.ends
    (retires,) = decide(snapshot(releases, [over, *others], active=2, target=3, source=2))
    assert isinstance(retires, Retire) and retires.instances == (going.id,)
    (waits,) = decide(snapshot(releases, [going, others[0]], active=2))
    assert isinstance(waits, Wait) and waits.ends and waits.last


def test_traffic_and_the_way_back_do_not_wait_for_the_network_s_rules() -> None:
    releases = [release(1, ran_well=True, last=60), release(2, ran_well=True)]
    back = snapshot(releases, [group(1, healthy=True, weight=0), group(2, weight=100)], active=2, target=1)
    unset = dataclasses.replace(back, network_is_set=False)
    assert decide(unset) == decide(back) != ()
    first = dataclasses.replace(snapshot([release(1)], target=1, router=False), network_is_set=False)
    assert decide(first) == (SetNetwork(),), "it comes before anything is made"
    calm = dataclasses.replace(
        snapshot([release(1)], [group(1, healthy=True, weight=100)], active=1), network_is_set=False
    )
    assert decide(calm) == (SetNetwork(),), "and in the end"
