"""What every ledger keeps, and what it refuses, on each engine."""

from __future__ import annotations

import threading
from datetime import timedelta
from ipaddress import IPv4Network

import pytest
from ledger_benches import LedgerBench

from instar.errors import NotFound, Refused
from instar.ledger import Ledger
from instar.model.environment import Keep, Settings
from instar.model.release import EnvironmentId
from instar.model.roles import UNNAMED_ROLE
from simulated.values import NOTE, OTHER, configuration, image, note, other

DEV = EnvironmentId(service="guestbook", name="dev")
PRODUCTION = EnvironmentId(service="guestbook", name="production")
NETWORK = IPv4Network("10.9.0.0/29")


@pytest.fixture
def released(ledger: Ledger) -> Ledger:
    """With an environment and two releases."""
    ledger.save_settings(DEV, Settings())
    ledger.add_release(DEV, image("one").digest, configuration())
    ledger.add_release(DEV, image("two").digest, configuration({"A": "b"}))
    return ledger


def kinds(ledger: Ledger, environment: EnvironmentId | None = None) -> list[str]:
    return [event.kind for event in ledger.history(environment)]


def test_an_environment_keeps_what_it_was_given(ledger: Ledger) -> None:
    settings = Settings(listen=("127.0.0.1:8080",), instances=3, keep=Keep(hot=2, releases=9))
    made = ledger.save_settings(DEV, settings)
    assert (made.id, made.settings, made.active, made.rollout, made.destroying) == (
        DEV,
        settings,
        None,
        None,
        False,
    )
    assert made.created_at.tzinfo is not None
    assert ledger.get_environment(DEV) == made
    assert ledger.environments() == ledger.environments("guestbook") == (made,)
    assert ledger.environments("other") == ()


def test_settings_are_versioned_when_they_change_and_only_then(ledger: Ledger) -> None:
    ledger.save_settings(DEV, Settings())
    ledger.save_settings(DEV, Settings())
    assert kinds(ledger) == ["environment"]
    assert ledger.save_settings(DEV, Settings(instances=2)).settings.instances == 2
    changed = ledger.history()[-1]
    assert changed.kind == "settings"
    assert (changed.detail["old"]["instances"], changed.detail["new"]["instances"]) == (1, 2)


def test_an_unknown_place_names_the_near_ones(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="cannot find 'guestbook/dev'") as caught:
        ledger.get_environment(DEV)
    assert caught.value.hint == "make it with: instar deploy dev, or instar promote FROM dev"
    ledger.save_settings(DEV, Settings())
    ledger.save_settings(PRODUCTION, Settings())
    with pytest.raises(NotFound) as caught:
        ledger.get_environment(EnvironmentId(service="guestbook", name="produktion"))
    assert caught.value.hint == "did you mean guestbook/production? there are: guestbook/production, guestbook/dev"
    assert ledger.find_environment(EnvironmentId(service="x", name="y")) is None


def test_a_release_keeps_what_it_was_given(released: Ledger) -> None:
    newest, oldest = released.releases(DEV)
    assert (oldest.number, newest.number) == (1, 2)
    assert oldest.image == image("one").digest
    assert newest.configuration == configuration({"A": "b"})
    assert not newest.ran_well and newest.last_active_at is None
    assert released.releases(DEV, last=1) == (newest,)
    assert released.releases(PRODUCTION) == ()
    event = released.history()[-1]
    assert (event.kind, event.release, event.image) == ("release", 2, newest.image)
    assert event.detail == {"configuration": newest.configuration.digest}


def test_an_unknown_release_names_the_known_ones(released: Ledger) -> None:
    with pytest.raises(NotFound, match="cannot find release 9 of 'guestbook/dev'") as caught:
        released.get_release(DEV, 9)
    assert caught.value.hint == "there are: 1, 2"


def test_numbers_are_not_used_again_after_a_destruction(released: Ledger) -> None:
    released.remove_environment(DEV)
    assert released.environments() == ()
    assert released.releases(DEV) == ()
    released.save_settings(DEV, Settings())
    assert released.add_release(DEV, image().digest, configuration()).number == 3
    assert [release.number for release in released.releases(DEV)] == [3]
    assert kinds(released, DEV)[-4:] == ["destroying", "removed", "environment", "release"]
    released.verify()


def test_traffic_marks_the_release_that_gets_it_and_the_one_that_is_left(released: Ledger) -> None:
    released.set_active(DEV, 1, reason="why")
    first = released.get_release(DEV, 1).last_active_at
    released.set_active(DEV, 2)
    one, two = released.get_release(DEV, 1), released.get_release(DEV, 2)
    assert one.last_active_at == two.last_active_at
    assert first and one.last_active_at and one.last_active_at > first
    assert released.get_environment(DEV).active == 2
    assert [event.detail for event in released.history() if event.kind == "shift"] == [
        {"from": None, "reason": "why"},
        {"from": 1},
    ]


def test_traffic_that_is_there_already_is_no_event(released: Ledger) -> None:
    released.set_active(DEV, 1)
    before = released.get_release(DEV, 1)
    released.set_active(DEV, 1)
    assert released.get_release(DEV, 1) == before
    assert kinds(released).count("shift") == 1
    released.set_active(DEV, None)
    assert released.get_environment(DEV).active is None
    with pytest.raises(NotFound):
        released.set_active(DEV, 7)


def test_a_rollout_that_is_done_has_run_well(released: Ledger) -> None:
    released.set_active(DEV, 1)
    begun = released.begin_rollout(DEV, "deploy", 2)
    assert (begun.source, begun.target, begun.state, begun.actor) == (1, 2, "running", "ann")
    assert released.get_environment(DEV).rollout == begun
    ended = released.end_rollout(begun, "done", {"switch_ms": 0.7})
    assert (ended.state, ended.detail) == ("done", {"switch_ms": 0.7}) and ended.ended_at
    assert released.get_environment(DEV).rollout is None
    assert [release.ran_well for release in released.releases(DEV)] == [True, False]
    assert released.get_rollout(begun.id) == ended
    assert kinds(released)[-2:] == ["rollout", "rollout-done"]


def test_one_rollout_at_a_time(released: Ledger) -> None:
    begun = released.begin_rollout(DEV, "deploy", 1)
    with pytest.raises(Refused, match=r"cannot begin a rollout of 'guestbook/dev'.*deploy to release 1"):
        released.begin_rollout(DEV, "deploy", 2)
    assert not released.releases(DEV)[0].ran_well
    released.end_rollout(begun, "failed", {"reason": "it never answered"})
    with pytest.raises(Refused, match="it is failed already"):
        released.end_rollout(begun, "done", {})
    released.begin_rollout(DEV, "rollback", 2)
    assert not released.get_release(DEV, 1).ran_well


def test_the_recent_ones_ran_well_and_had_the_traffic_last(released: Ledger) -> None:
    for number in (2, 1):
        rollout = released.begin_rollout(DEV, "deploy", number)
        released.set_active(DEV, number)
        released.end_rollout(rollout, "done", {})
    released.add_release(DEV, image().digest, configuration())
    assert [release.number for release in released.recent(DEV, 5)] == [2, 1]  # left and reached at one moment
    assert [release.number for release in released.recent(DEV, 1)] == [2]
    assert released.recent(PRODUCTION, 5) == ()


def test_an_instance_from_its_plan_to_its_end(released: Ledger) -> None:
    one, two = released.add_instances(DEV, 1, 2)
    assert (one.id, two.id) == ("guestbook-dev-1-1", "guestbook-dev-1-2")
    assert one.serial < two.serial and not one.made and one.started_at is None and one.role == UNNAMED_ROLE
    assert released.set_made(one.id).made
    assert released.set_started(one.id).started_at
    assert [instance.id for instance in released.instances(DEV)] == [one.id, two.id]
    released.remove_instance(one.id, "drained")
    assert released.instances() == (two,)
    assert [event.kind for event in released.history()][-4:] == ["launch", "created", "started", "destroyed"]
    assert released.history()[-1].detail == {"instance": one.id, "reason": "drained"}


def test_instances_are_as_whoever_changed_them_last_wrote_them(released: Ledger, bench: LedgerBench) -> None:
    (one,) = released.add_instances(DEV, 1, 1)
    assert released.instances(DEV) == released.instances(DEV) == (one,)
    with bench.open("bob") as other:
        made = other.set_made(one.id)
        assert released.instances(DEV) == (made,) != (one,)
        (two,) = other.add_instances(DEV, 1, 1)
    assert released.instances(DEV) == (made, two)
    begun = released.set_started(one.id)
    assert released.instances(DEV) == (begun, two)
    released.remove_instance(two.id, "drained")
    assert released.instances(DEV) == (begun,)


def test_what_was_read_in_a_transaction_that_failed_is_not_remembered(released: Ledger) -> None:
    (one,) = released.add_instances(DEV, 1, 1)
    with pytest.raises(RuntimeError), released.transaction():
        released.set_made(one.id)
        assert released.instances(DEV)[0].made
        raise RuntimeError
    assert released.instances(DEV) == (one,)


def test_names_and_serials_are_not_used_again(released: Ledger) -> None:
    (one,) = released.add_instances(DEV, 1, 1)
    released.remove_instance(one.id, "it ended")
    (two,) = released.add_instances(DEV, 1, 1)
    assert two.id == "guestbook-dev-1-2" and two.serial > one.serial


def test_a_group_is_of_a_role_of_its_release(released: Ledger) -> None:
    released.add_instances(DEV, 1, 1, role="worker")
    assert [one.role for one in released.instances(DEV)] == ["worker"]
    assert released.history()[-1].detail == {"instances": ["guestbook-dev-1-1"], "role": "worker"}
    released.verify()


def test_two_places_whose_names_look_alike_get_different_ids(ledger: Ledger) -> None:
    places = (EnvironmentId(service="a", name="b-c"), EnvironmentId(service="a-b", name="c"))
    for environment in places:
        ledger.save_settings(environment, Settings())
        ledger.add_release(environment, image().digest, configuration())
    names = [ledger.add_instances(environment, 1, 1)[0].id for environment in places]
    assert names == ["a-b-c-1-1", "a-b-c-1-2"]
    assert [len(ledger.instances(environment)) for environment in places] == [1, 1]


def test_what_is_said_twice_is_written_once(released: Ledger) -> None:
    (one,) = released.add_instances(DEV, 1, 1)
    for _ in range(2):
        released.set_made(one.id)
        released.set_started(one.id)
    started = released.instances()[0].started_at
    for _ in range(2):
        released.remove_instance(one.id, "x")
    assert started and kinds(released)[-4:] == ["launch", "created", "started", "destroyed"]


def test_a_removed_instance_cannot_come_back(released: Ledger) -> None:
    (one,) = released.add_instances(DEV, 1, 1)
    released.remove_instance(one.id, "x")
    with pytest.raises(NotFound, match="was destroyed at"):
        released.set_made(one.id)
    with pytest.raises(NotFound, match="no such instance"):
        released.set_started("nobody-1-1")


def test_a_place_that_is_being_destroyed_takes_nothing_new(released: Ledger) -> None:
    rollout = released.begin_rollout(DEV, "deploy", 1)
    (one,) = released.add_instances(DEV, 1, 1)
    released.set_destroying(DEV)
    released.set_destroying(DEV)
    assert released.get_environment(DEV).destroying
    assert released.get_rollout(rollout.id).state == "failed"
    for refused in (
        lambda: released.add_release(DEV, image().digest, configuration()),
        lambda: released.begin_rollout(DEV, "deploy", 1),
        lambda: released.add_instances(DEV, 1, 1),
        lambda: released.save_settings(DEV, Settings(instances=5)),
    ):
        with pytest.raises(Refused, match="it is being destroyed"):
            refused()
    with pytest.raises(Refused, match="'guestbook-dev-1-1' is not destroyed yet"):
        released.remove_environment(DEV)
    released.remove_instance(one.id, "x")
    released.remove_environment(DEV)
    assert kinds(released)[-4:] == ["rollout-failed", "destroying", "destroyed", "removed"]


def test_history_is_of_a_place_or_of_everything(released: Ledger) -> None:
    released.record(other())
    released.record(note("any word"), environment=PRODUCTION)
    assert [event.seq for event in released.history()] == [1, 2, 3, 4, 5]
    assert kinds(released, DEV) == ["environment", "release", "release"]
    assert kinds(released, PRODUCTION) == [NOTE]
    assert [event.seq for event in released.history(last=2)] == [4, 5]
    assert released.history()[-1].detail == {"what": "any word", "cause": ""}
    assert released.history()[3].environment is None


def test_grouped_writes_are_kept_or_dropped_together(released: Ledger) -> None:
    before = released.history()
    with pytest.raises(RuntimeError), released.transaction():
        released.set_active(DEV, 1)
        released.add_instances(DEV, 1, 1)
        raise RuntimeError
    assert released.history() == before and released.instances() == ()
    with released.transaction():
        released.set_active(DEV, 1)
        with pytest.raises(NotFound), released.transaction():
            released.record(note())
            released.set_active(DEV, 77)
        released.record(other())
    assert kinds(released)[len(before) :] == ["shift", OTHER]
    released.verify()


def test_threads_can_share_it(released: Ledger) -> None:
    def work() -> None:
        for _ in range(10):
            with released.transaction():
                released.record(note())
                released.record(other())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds(released)[3:] == [NOTE, OTHER] * 40
    released.verify()


def test_everything_is_there_for_the_next_process(released: Ledger, bench: LedgerBench) -> None:
    released.set_active(DEV, 1)
    released.begin_rollout(DEV, "deploy", 2)
    released.add_instances(DEV, 2, 2)
    with bench.open("bob") as other:
        assert other.environments() == released.environments()
        assert other.releases(DEV) == released.releases(DEV)
        assert other.instances() == released.instances()
        assert other.history() == released.history()
        assert other.record(note()).actor == "bob"


def test_an_actor_with_a_strange_name_breaks_no_line(bench: LedgerBench) -> None:
    with bench.open("eve|\n9") as ledger:
        assert ledger.record(note()).actor == "eve??9"
        ledger.verify()


def test_time_never_goes_back_and_goes_on_when_the_clock_was_set_back(bench: LedgerBench) -> None:
    clock = bench.clock
    with bench.open() as before:
        clock.sleep(3600)
        newest = before.record(note()).at
    with bench.open(clock=lambda: clock.now() - timedelta(hours=2)) as ledger:
        first = ledger.now()
        assert first >= newest
        clock.sleep(5)
        assert ledger.now() - first >= timedelta(seconds=5)
        assert ledger.record(note()).at > first


def test_the_names_of_a_place_s_instances_are_known_for_ever_and_are_not_its_twin_s(ledger: Ledger) -> None:
    twins = [EnvironmentId(service="a-b", name="c"), EnvironmentId(service="a", name="b-c")]
    for environment in twins:
        ledger.save_settings(environment, Settings())
        ledger.add_release(environment, image("one").digest, configuration())
        ledger.add_instances(environment, 1, 1)
    ledger.remove_instance("a-b-c-1-1", "over")
    ledger.remove_environment(twins[0])
    assert [ledger.instance_names(environment) for environment in twins] == [("a-b-c-1-1",), ("a-b-c-1-2",)]
