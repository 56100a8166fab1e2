"""A ledger that moves from a file into PostgreSQL and back: all of it, with its chains, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.errors import LedgerDamaged, Refused
from instar.ledger import Ledger
from instar.ledger.copying import move
from instar.model.environment import Settings
from instar.model.release import EnvironmentId
from postgres import PostgresServer
from simulated.values import NOTE, configuration, image, note

DEV = EnvironmentId(service="guestbook", name="dev")
GONE = EnvironmentId(service="guestbook", name="gone")
MACHINES = {"local": "web1 (0a1b2c)"}


def write_something(ledger: Ledger) -> None:
    for _ in range(2):  # made, destroyed, and made again with the same addresses
        ledger.save_settings(GONE, Settings())
        number = ledger.add_release(GONE, image().digest, configuration()).number
        for one in ledger.add_instances(GONE, number, 3):
            ledger.remove_instance(one.id, "over")
        ledger.remove_environment(GONE)
    ledger.save_settings(DEV, Settings())
    ledger.save_settings(DEV, Settings(instances=2))
    ledger.add_release(DEV, image().digest, configuration({"TEXT": "ä|\n"}))
    ledger.set_active(DEV, 1)
    ledger.end_rollout(ledger.begin_rollout(DEV, "deploy", 1), "done", {"switch_ms": 0.5})
    first, second = ledger.add_instances(DEV, 1, 2)
    ledger.taint(first.id, "drift", "changed")
    ledger.remove_instance(second.id, "over")
    ledger.begin_task(DEV, 1, "before 1")
    ledger.set_alarm(DEV, "look")
    ledger.begin_rollout(DEV, "deploy", 1)
    ledger.record(note())


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "old" / "instar.db", actor="ann") as opened:
        write_something(opened)
        yield opened


@pytest.fixture
def target(postgres: PostgresServer) -> Iterator[Ledger]:
    with Ledger(postgres.address(postgres.wiped()), actor="ann") as opened:
        yield opened


def test_all_of_it_moves_with_its_chains_and_back_again(source: Ledger, target: Ledger, tmp_path: Path) -> None:
    key = source.signing_key()
    events, heads = source.history(), source.verify().heads
    assert move(source, target, MACHINES) == len(events)
    assert target.history()[: len(events)] == events
    assert [event.kind for event in target.history()[len(events) :]] == ["ledger-copied", "machine"]
    assert target.get_environment(DEV).machine == "web1 (0a1b2c)"
    assert target.instances() == source.instances() and target.releases(DEV) == source.releases(DEV)
    assert target.tasks(DEV, 1) == source.tasks(DEV, 1)
    assert target.find_signing_key() == key
    target.record(note(), DEV)
    assert target.verify().heads.keys() == heads.keys() | {"-"}
    with Ledger(tmp_path / "new" / "instar.db", actor="ann") as back:
        move(target, back, {})
        assert back.history()[: len(events)] == events
        assert back.instances() == source.instances()
        assert back.signing_key() == key == target.signing_key(), "what was signed is known wherever it goes on"
        back.save_settings(DEV, Settings(instances=5))
        back.verify()


def test_the_old_one_is_read_and_no_longer_written_and_not_moved_twice(
    source: Ledger, target: Ledger, tmp_path: Path
) -> None:
    move(source, target, MACHINES)
    assert source.history()[-1].kind == "ledger-moved"
    with pytest.raises(Refused, match="this ledger was moved, and goes on at postgresql://") as caught:
        source.save_settings(DEV, Settings(instances=7))
    assert caught.value.hint and "INSTAR_LEDGER=postgresql://" in caught.value.hint
    with Ledger(tmp_path / "other.db", actor="ann") as other:
        with pytest.raises(Refused, match="this ledger was moved"):
            move(source, other, {})
        assert other.history() == ()
    source.verify()


def test_a_target_with_events_of_its_own_is_left_alone(source: Ledger, target: Ledger) -> None:
    target.record(note())
    with pytest.raises(Refused, match="there is a ledger with events of its own"):
        move(source, target, MACHINES)
    assert len(target.history()) == 1 and source.history()[-1].kind == NOTE


def test_who_was_killed_between_the_two_goes_on(
    source: Ledger, target: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(source, "record", die)
        move(source, target, MACHINES)
    written = target.history()
    assert source.history()[-1].kind == NOTE
    move(source, target, MACHINES)
    assert target.history() == written and source.history()[-1].kind == "ledger-moved"


def test_a_copy_that_fails_in_the_middle_leaves_nothing(
    source: Ledger, target: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine: Callable[..., int] = target.session.write

    def fails(statement: str, **values: object) -> int:
        if "INTO events" in statement and values["seq"] == 7:
            raise RuntimeError
        return genuine(statement, **values)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(target.session, "write", fails)
        move(source, target, MACHINES)
    assert target.history() == () and target.environments() == ()
    assert move(source, target, MACHINES)


def test_one_that_is_not_what_was_written_is_not_moved(source: Ledger, target: Ledger) -> None:
    engine = source.session.engine
    with source.session.transaction(), engine.without_rules():
        source.session.write("UPDATE events SET actor = 'eve' WHERE seq = 3")
    with pytest.raises(LedgerDamaged, match="event 3 is not what was written"):
        move(source, target, MACHINES)
    assert target.history() == ()
