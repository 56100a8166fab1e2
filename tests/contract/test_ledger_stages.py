"""What the ledger keeps of a rollout on its way, of tasks, pins, alarms and replacements."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest

from instar.errors import LedgerError, NotFound, Refused
from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.release import Ending, Rollout, Served, Stage
from instar.model.rollout_happenings import RolloutPaused, StepTaken
from simulated.values import ENV, configuration, image

NETWORK = IPv4Network("10.9.0.0/28")


def running_rollout(ledger: Ledger) -> Rollout:
    ledger.save_settings(ENV, Settings())
    release = ledger.add_release(ENV, image().digest, configuration())
    return ledger.begin_rollout(ENV, "deploy", release.number)


def test_a_stage_is_changed_field_by_field_and_told_of(ledger: Ledger) -> None:
    rollout = running_rollout(ledger)
    at = ledger.now()
    counted = {"guestbook-dev-1-1": Served(requests=7, failed=1, response_ms=40)}
    ledger.change_stage(RolloutPaused(rollout=rollout.id, reason="a look"))
    changed = ledger.change_stage(StepTaken(rollout=rollout.id, step=1, percent=5, counted=counted))
    assert changed.stage.step_at is not None and changed.stage.step_at > at
    assert changed.stage == Stage(step=1, step_at=changed.stage.step_at, counted=counted, paused=True, percent=5)
    assert ledger.get_environment(ENV).rollout == changed
    assert [event.kind for event in ledger.history(ENV)][-2:] == ["paused", "step"]
    ledger.end_rollout(changed, "done")
    with pytest.raises(Refused, match="done already"):
        ledger.change_stage(StepTaken(rollout=rollout.id, step=2, percent=50))


def test_a_task_is_begun_once_whatever_comes_of_it(ledger: Ledger) -> None:
    running_rollout(ledger)
    assert not ledger.may_have_written(ENV, 1)
    instance = ledger.begin_task(ENV, 1, "before 1")
    assert instance.task == "before 1"
    with pytest.raises(Refused, match="begun before"):
        ledger.begin_task(ENV, 1, "before 1")
    ledger.end_task(ENV, 1, "before 1", "exit status 3", {})
    ledger.end_task(ENV, 1, "before 1", "done", {})
    (task,) = ledger.tasks(ENV, 1)
    assert (task.outcome, task.instance) == ("exit status 3", instance.id)
    assert ledger.may_have_written(ENV, 1)
    with pytest.raises(NotFound):
        ledger.end_task(ENV, 1, "after 1", "done", {})


def test_an_alarm_and_a_pin_are_written_once(ledger: Ledger) -> None:
    running_rollout(ledger)
    for _ in range(2):
        ledger.set_alarm(ENV, "5 replacements in 10 minutes")
        ledger.set_pinned(ENV, 1, True)
    assert ledger.get_environment(ENV).alarm == "5 replacements in 10 minutes"
    assert ledger.get_release(ENV, 1).pinned
    ledger.set_alarm(ENV, None)
    ledger.set_pinned(ENV, 1, False)
    kinds = [event.kind for event in ledger.history(ENV)]
    assert kinds[-4:] == ["alarm", "pinned", "alarm-over", "unpinned"]


def test_replacements_made_together_count_once_and_aged_ones_only_when_they_did_not_last(ledger: Ledger) -> None:
    running_rollout(ledger)
    since = ledger.now()
    ledger.add_instances(ENV, 1, 2)
    ledger.add_instances(ENV, 1, 2, replacing="ended")
    (old,) = ledger.add_instances(ENV, 1, 1, replacing="old")
    assert len(ledger.replacements(ENV, 1, since, 60_000)) == 1
    ledger.remove_instance(old.id, "it never got healthy")
    found = ledger.replacements(ENV, 1, since, 60_000)
    assert len(found) == 2
    assert len(ledger.replacements(ENV, 1, since, 0)) == 1, "it had grown old"
    assert ledger.replacements(ENV, 1, found[-1]) == ()


def test_a_taint_keeps_its_first_reason_and_its_earliest_time(ledger: Ledger) -> None:
    running_rollout(ledger)
    (instance,) = ledger.add_instances(ENV, 1, 1)
    assert instance.taint is None
    first = ledger.taint(instance.id, "shell", "a look", after_ms=60_000)
    second = ledger.taint(instance.id, "person", "it is slow", isolated=True, command="id")
    (tainted,) = ledger.instances(ENV)
    assert tainted.taint == second and (second.kind, second.why, second.at) == ("shell", "a look", first.at)
    assert second.isolated and second.due_at < first.due_at
    told = [event.detail for event in ledger.history(ENV) if event.kind == "taint"]
    assert [one["why"] for one in told] == ["a look", "it is slow"] and told[1]["command"] == "id"
    ledger.remove_instance(instance.id, "replaced")
    with pytest.raises(NotFound, match="was destroyed"):
        ledger.taint(instance.id, "person", "too late")


def test_what_took_a_tainted_one_s_place_counts_when_it_is_gone_too(ledger: Ledger) -> None:
    running_rollout(ledger)
    since = ledger.now() - timedelta(hours=1)
    (successor,) = ledger.add_instances(ENV, 1, 1, replacing="tainted")
    assert ledger.replacements(ENV, 1, since) == ()
    ledger.remove_instance(successor.id, "it never got healthy")
    assert len(ledger.replacements(ENV, 1, since)) == 1
    ledger.add_instances(ENV, 1, 1, replacing="drifted")
    assert len(ledger.replacements(ENV, 1, since)) == 2


STARVED = Ending(
    reason="out-of-memory", at=datetime(2026, 1, 1, tzinfo=UTC), why="killed: out of memory", exit_status=137
)
STOPPED = Ending(reason="instar", at=datetime(2026, 1, 1, tzinfo=UTC), why="it is no longer needed")


def test_how_an_instance_ended_is_written_once_and_stays_known_when_it_is_gone(ledger: Ledger) -> None:
    running_rollout(ledger)
    first, second = ledger.add_instances(ENV, 1, 2)
    before = ledger.now()
    ledger.set_ending(first.id, STARVED)
    ledger.set_ending(first.id, STOPPED)
    ledger.set_ending(second.id, STOPPED)
    found = ledger.instances(ENV)[0].ending
    assert found is not None
    assert (found.reason, found.why, found.exit_status, found.signal) == (*("out-of-memory", STARVED.why), 137, None)
    assert found.at > before, "the ledger's own time"
    ledger.remove_instance(first.id, "it ended")
    assert ledger.find_ending(first.id) == found
    assert [one.reason for one in ledger.endings(ENV, 1, before)] == ["out-of-memory", "instar"]
    assert ledger.endings(ENV, 1, ledger.now()) == ()
    told = [(event.kind, event.detail) for event in ledger.history(ENV) if event.kind in ("ended", "stopping")]
    assert told == [
        ("ended", {"instance": first.id, "reason": "out-of-memory", "why": STARVED.why, "exit_status": 137}),
        ("stopping", {"instance": second.id, "reason": "instar", "why": STOPPED.why}),
    ]
    with pytest.raises(NotFound, match="was destroyed"):
        ledger.set_ending(first.id, STOPPED)
    ledger.verify()


def test_an_ending_cannot_be_changed_by_hand(ledger: Ledger) -> None:
    running_rollout(ledger)
    (one,) = ledger.add_instances(ENV, 1, 1)
    ledger.set_ending(one.id, STARVED)
    for words in ("ending = '{}'", "ending = NULL, ended_at = NULL", "ended_at = '2020-01-01T00:00:00.000000Z'"):
        with pytest.raises(LedgerError, match="how an instance ended is never changed"):
            ledger.session.engine.execute(f"UPDATE instances SET {words}", {}, "write")


def test_who_ended_since_the_last_were_planned_is_owed_a_successor(ledger: Ledger) -> None:
    running_rollout(ledger)
    assert ledger.owed(ENV, 1) == 0
    one, two, three = ledger.add_instances(ENV, 1, 3)
    task = ledger.begin_task(ENV, 1, "before 1")
    for instance, ending in ((one, STARVED), (two, STOPPED), (task, STARVED)):
        ledger.set_ending(instance.id, ending)
    assert ledger.owed(ENV, 1) == 1
    ledger.remove_instance(one.id, "it ended")
    ledger.set_ending(three.id, dataclasses.replace(STOPPED, reason="unwell"))
    assert ledger.owed(ENV, 1) == 2
    ledger.add_instances(ENV, 1, 2, replacing="ended")
    assert ledger.owed(ENV, 1) == 0


def test_each_role_is_owed_its_own_successors(ledger: Ledger) -> None:
    running_rollout(ledger)
    (web,) = ledger.add_instances(ENV, 1, 1, role="web")
    (worker,) = ledger.add_instances(ENV, 1, 1, role="worker")
    for instance in (web, worker):
        ledger.set_ending(instance.id, STARVED)
    ledger.add_instances(ENV, 1, 1, role="web", replacing="ended")
    assert (ledger.owed(ENV, 1, "web"), ledger.owed(ENV, 1, "worker"), ledger.owed(ENV, 1)) == (0, 1, 0)
    task = ledger.begin_task(ENV, 1, "before 1 of worker", role="worker")
    assert task.role == "worker"
    assert set(ledger.instance_roles(ENV).values()) == {"web", "worker"}


def test_an_alarm_that_holds_takes_the_place_of_one_that_does_not(ledger: Ledger) -> None:
    running_rollout(ledger)
    ledger.set_alarm(ENV, "look at it", holds=False)
    ledger.set_alarm(ENV, "look at it again", holds=False)
    state = ledger.get_environment(ENV)
    assert (state.alarm, state.alarm_holds) == ("look at it", False)
    ledger.set_alarm(ENV, "5 replacements")
    ledger.set_alarm(ENV, "look at it", holds=False)
    state = ledger.get_environment(ENV)
    assert (state.alarm, state.alarm_holds) == ("5 replacements", True)
    ledger.set_alarm(ENV, None)
    assert ledger.get_environment(ENV).alarm is None
