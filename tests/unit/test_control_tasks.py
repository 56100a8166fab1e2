"""Tasks of a release, one rule a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from control_values import DATABASE, HTTP, NOW, ago, group, ready, release, serving, snapshot

from instar.control.actions import BeginTask, Create, EndTask, Fail, Finish, Plan, Retire, Route, Start, Wait
from instar.control.decide import decide
from instar.control.report import RolloutReport
from instar.control.snapshot import GroupView, Snapshot
from instar.control.tasks import GIVEN_UP, runs_alone
from instar.model.definition import Task, Volume
from instar.model.progress import Progress
from instar.model.release import Command, Ending, TaskRun

MIGRATE, TIDY = Task(command=("migrate", "--all"), timeout_ms=60_000), Task(command=("tidy",))
BEFORE = dataclasses.replace(HTTP, before=(MIGRATE, TIDY))
AFTER = dataclasses.replace(HTTP, after=(TIDY,))


def run(name: str, outcome: str | None = None, serial: int = 9) -> TaskRun:
    return TaskRun(name=name, instance=f"shop-production-2-{serial}", began_at=ago(5), outcome=outcome)


def tasking(
    tasks: Sequence[TaskRun] = (),
    task_groups: Sequence[GroupView] = (),
    groups: Sequence[GroupView] = (),
    **fields: Any,
) -> Snapshot:
    service = fields.pop("service", BEFORE)
    releases = [
        release(1, dataclasses.replace(service, before=(), after=()), ran_well=True, last=5),
        release(2, service),
    ]
    fields = {"active": 1, "source": 1, "target": 2} | fields
    return snapshot(releases, groups or serving(1, 1), tasks=tuple(tasks), task_groups=tuple(task_groups), **fields)


def runner(state: str = "running", **fields: Any) -> GroupView:
    return group(2, state, serial=9, task="before 1", **fields)


def test_a_task_goes_from_its_record_to_its_end_before_any_copy_is_planned() -> None:
    begun = [run("before 1")]
    assert decide(tasking()) == (BeginTask(2, "before 1"),)
    planned, created = runner("absent"), runner("created")
    assert decide(tasking(begun, [planned])) == (Create((planned.id,), start=True),)
    assert decide(tasking(begun, [created])) == (Start((created.id,)),)
    assert isinstance(decide(tasking(begun, [runner()]))[0], Wait)
    ended = runner("stopped", exit_status=0)
    assert decide(tasking(begun, [ended])) == (EndTask(2, "before 1", ended.id, "done"),)


def test_the_next_task_comes_after_the_one_before_and_the_copies_after_all() -> None:
    assert decide(tasking([run("before 1", "done")])) == (BeginTask(2, "before 2"),)
    both = [run("before 1", "done"), run("before 2", "done", serial=8)]
    assert decide(tasking(both)) == (Plan(2, (1,)),)


def test_a_task_that_fails_before_fails_the_rollout_and_touches_no_traffic() -> None:
    failed = runner("stopped", exit_status=3)
    assert decide(tasking([run("before 1")], [failed])) == (EndTask(2, "before 1", failed.id, "exit status 3"),)
    (action,) = decide(tasking([run("before 1", "exit status 3")]))
    assert action == Fail("task 'before 1' (migrate --all): exit status 3", (failed.id,))


def test_a_task_has_its_time_and_no_more() -> None:
    assert isinstance(decide(tasking([run("before 1")], [runner(age_s=59.95)]))[0], Wait)
    late = runner(age_s=60)
    (action,) = decide(tasking([run("before 1")], [late]))
    assert action == EndTask(2, "before 1", late.id, "it did not end within 60 s")


def test_a_task_that_does_not_begin_ends_when_groups_would_have_to_be_well() -> None:
    def held_up(age_s: float, ready: int = 0) -> GroupView:
        one = runner(age_s=age_s)
        return dataclasses.replace(
            one, observed=dataclasses.replace(one.observed, ready=ready, reason="exceeded quota")
        )

    limit_s = BEFORE.health.deadline_ms / 1000
    assert limit_s < MIGRATE.timeout_ms / 1000
    assert isinstance(decide(tasking([run("before 1")], [held_up(limit_s - 1)]))[0], Wait)
    assert isinstance(decide(tasking([run("before 1")], [held_up(limit_s, ready=1)]))[0], Wait)
    late = held_up(limit_s)
    why = f"it had not begun after {limit_s:g} s: exceeded quota"
    assert decide(tasking([run("before 1")], [late])) == (EndTask(2, "before 1", late.id, why),)


def test_why_a_task_does_not_begin_is_told_once_for_good_and_then_on_a_line_that_changes() -> None:
    told: list[Progress] = []
    one = runner()
    seen = dataclasses.replace(one.observed, ready=0, reason="exceeded quota")
    report = RolloutReport(report=told.append)
    waits = tasking([run("before 1")], [dataclasses.replace(one, observed=seen)])
    report.waiting(waits)
    report.waiting(waits)
    assert [(line.text, line.kind) for line in told] == [
        ("before 1 · exceeded quota", "warning"),
        ("before 1 · exceeded quota", "running"),
    ]


def test_a_task_whose_instance_is_gone_is_not_begun_again() -> None:
    gone = run("before 1")
    assert decide(tasking([gone])) == (EndTask(2, "before 1", gone.instance, "its instance is gone"),)
    rebooted = runner("absent")
    lost = dataclasses.replace(rebooted, instance=dataclasses.replace(rebooted.instance, made=True))
    (action,) = decide(tasking([gone], [lost]))
    assert action == EndTask(2, "before 1", lost.id, "nobody saw how")


@pytest.mark.parametrize("word", ["before", "after"])
def test_a_rollback_runs_none(word: str) -> None:
    service = BEFORE if word == "before" else AFTER
    groups = [group(1, weight=0), *serving(2, 1)] if word == "after" else [*serving(1, 1), *ready(2, 1)]
    active = 2 if word == "after" else 1
    actions = decide(tasking(groups=groups, service=service, kind="rollback", active=active))
    assert not any(isinstance(action, BeginTask) for action in actions)
    assert actions


def test_the_last_tasks_come_when_all_traffic_has_moved_and_drained() -> None:
    busy = [group(1, weight=0, sessions=1), *serving(2, 1)]
    assert isinstance(decide(tasking(groups=busy, service=AFTER, active=2))[0], Wait)
    quiet = [group(1, weight=0), *serving(2, 1)]
    assert decide(tasking(groups=quiet, service=AFTER, active=2)) == (BeginTask(2, "after 1"),)
    done = [run("after 1", "done")]
    assert decide(tasking(done, groups=quiet, service=AFTER, active=2)) == (Finish(),)


def test_a_last_task_that_fails_is_a_warning() -> None:
    quiet = [group(1, weight=0), *serving(2, 1)]
    failed = [run("after 1", "exit status 1")]
    (action,) = decide(tasking(failed, groups=quiet, service=AFTER, active=2))
    assert action == Finish("task 'after 1' (tidy): exit status 1")


def test_with_an_exclusive_volume_tasks_run_when_the_source_has_stopped() -> None:
    service = dataclasses.replace(DATABASE, before=(MIGRATE,))
    assert decide(tasking(service=service)) == (Plan(2, (1,)),)
    stopped = decide(tasking(groups=[group(2, "created")], service=service))
    assert stopped == (BeginTask(2, "before 1"),)


def test_a_task_without_the_exclusive_volume_runs_beside_the_old_release() -> None:
    beside = dataclasses.replace(MIGRATE, volumes=())
    service = dataclasses.replace(DATABASE, before=(beside, MIGRATE, beside))
    assert decide(tasking(service=service)) == (BeginTask(2, "before 1"),)
    planned = runner("absent")
    assert decide(tasking([run("before 1")], [planned], service=service)) == (Create((planned.id,), start=True),)
    done = [run("before 1", "done")]
    assert decide(tasking(done, service=service)) == (Plan(2, (1,)),)
    created = [*serving(1, 1), group(2, "created")]
    assert decide(tasking(done, groups=created, service=service)) == (Route(()),)
    alone = [group(2, "created")]
    assert decide(tasking(done, groups=alone, service=service)) == (BeginTask(2, "before 2"),)
    two = [*done, run("before 2", "done", serial=8)]
    assert decide(tasking(two, groups=alone, service=service)) == (BeginTask(2, "before 3"),)


def test_one_that_fails_beside_the_old_release_leaves_it_as_it_is() -> None:
    service = dataclasses.replace(DATABASE, before=(dataclasses.replace(MIGRATE, volumes=()),))
    (action,) = decide(tasking([run("before 1", "exit status 3")], service=service))
    assert isinstance(action, Fail)


def test_a_task_gets_the_volumes_that_it_names() -> None:
    data, logs = DATABASE.volumes[0], Volume(name="logs", path="/logs", access="shared")
    service = dataclasses.replace(DATABASE, volumes=(data, logs))
    assert service.volumes_of(None) == service.volumes_of(MIGRATE) == (data, logs)
    assert service.volumes_of(dataclasses.replace(MIGRATE, volumes=("logs",))) == (logs,)
    assert service.volumes_of(dataclasses.replace(MIGRATE, volumes=())) == ()
    assert runs_alone(service, MIGRATE)
    assert not runs_alone(service, dataclasses.replace(MIGRATE, volumes=("logs",)))


def test_an_abort_ends_what_its_task_was_doing() -> None:
    rest = snapshot([release(1, ran_well=True), release(2, BEFORE)], serving(1, 1), active=1, task_groups=(runner(),))
    assert decide(rest) == (EndTask(2, "before 1", runner().id, "given up with its rollout"),)


def test_what_is_left_of_an_ended_task_is_removed() -> None:
    (action,) = decide(tasking([run("before 1", "done")], [runner("stopped")]))
    assert action == Retire((runner().id,), "its task: done"), "how it ended was told by whoever wrote it down"


def test_a_task_is_no_copy_that_serves() -> None:
    made = snapshot([release(1, ran_well=True)], serving(1, 1), active=1, destroying=True, task_groups=(runner(),))
    assert isinstance(decide(made)[0], EndTask)
    assert not any(isinstance(action, Retire) for action in decide(made))


def test_an_environment_is_not_destroyed_before_a_task_of_it_has_ended() -> None:
    """Which has its time to end; what the ledger still knows cannot be removed from it."""
    left = runner("ending")
    ending = Ending(reason="instar", at=NOW, why="its task: it did not end within 1 s")
    left = dataclasses.replace(left, instance=dataclasses.replace(left.instance, ending=ending))
    last = snapshot([release(1)], [], active=1, destroying=True, router=False, task_groups=(left,))
    (action,) = decide(last)
    assert isinstance(action, Wait) and action.ends and not action.last


def given(outcome: str | None = None, *, attended: bool = True, number: int = 1, **fields: Any) -> Snapshot:
    """Return an environment whose active release 1, or ``number``, runs somebody's command."""
    made = group(number, "running", serial=9, task="run 1")
    of = dataclasses.replace(made.instance, command=Command(argv=("console",)))
    runs = TaskRun(name="run 1", instance=of.id, began_at=ago(5), outcome=outcome)
    fields = {"releases": [release(1, ran_well=True)], "groups": serving(1, 1), "active": 1} | fields
    return snapshot(
        fields.pop("releases"),
        fields.pop("groups"),
        task_groups=(dataclasses.replace(made, instance=of),),
        given_tasks=(runs,),
        attended=frozenset({of.id} if attended else ()),
        **fields,
    )


def test_what_somebody_runs_is_left_alone_until_it_is_over_or_nobody_waits_for_it() -> None:
    name = "shop-production-1-9"
    assert decide(given()) == ()
    assert decide(given("done")) == decide(given("done", destroying=True)) == (Retire((name,), "its task: done"),)
    assert decide(given(attended=False)) == (EndTask(1, "run 1", name, GIVEN_UP),)
    assert decide(given(destroying=True)) == (EndTask(1, "run 1", name, "the environment is destroyed"),)


def test_a_release_waits_for_a_command_that_has_its_exclusive_volume() -> None:
    both = [release(1, DATABASE, ran_well=True), release(2, DATABASE)]
    created = [*serving(1, 1), group(2, "created")]
    (action,) = decide(given(releases=both, groups=created, source=1, target=2))
    assert isinstance(action, Wait)
    beside = [release(1, ran_well=True), release(2)]
    waiting = decide(given(releases=beside, groups=[*serving(1, 1), group(2, "absent")], source=1, target=2))
    assert isinstance(waiting[0], Create)
