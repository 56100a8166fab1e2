"""Two machines' agents on one real PostgreSQL: each tells of what is its own, and each event is told once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.ledger import Ledger
from instar.ledger.copying import move
from instar.model.environment import Settings
from instar.model.happenings import AlarmOver, AlarmRaised, DamageFound
from instar.model.progress import silent
from instar.model.release import EnvironmentId
from instar.model.rollout_happenings import WatchFailed
from instar.telemetry.notices import Notices, Undelivered
from instar.views.events import notice_json
from instar.workspace import MachineWorkspace
from postgres import PostgresServer

ONES, OTHERS, NOBODYS = (EnvironmentId(service="shop", name=name) for name in ("one", "other", "nobodys"))
ALARM = AlarmRaised(reason="why")


class Agent:
    """What of a machine's agent tells: with the cursor of its own state directory. ``told`` is what was sent."""

    def __init__(self, home: Path, address: str) -> None:
        self.home, self.address = home, address
        self.told: list[tuple[int, str | None]] = []
        self.heard: list[int] = []
        self.deaf = False
        self.start()

    def start(self) -> None:
        self.workspace = MachineWorkspace({"INSTAR_HOME": str(self.home), "INSTAR_LEDGER": self.address}, silent)
        self.notices = Notices(
            self.workspace.ledger,
            self.workspace.state.notified,
            [self],
            machine=self.workspace.machine,
            render=notice_json,
            heard=lambda event: self.heard.append(event.seq),
            tries=2,
            first_pause_s=0,
        )

    def send(self, body: bytes) -> None:
        if self.deaf:
            raise Undelivered("nobody is there")
        said: dict[str, Any] = json.loads(body)
        self.told.append((said["seq"], said["environment"]))

    @property
    def machine(self) -> str:
        return self.workspace.machine

    def stop(self) -> None:
        self.workspace.ledger.close()

    def look(self) -> None:
        while self.notices.deliver():
            pass
        while self.notices.listen():
            pass


@pytest.fixture
def agents(tmp_path: Path, postgres: PostgresServer) -> Iterator[tuple[Agent, Agent]]:
    address = postgres.address(postgres.wiped())
    one, other = (Agent(tmp_path / name, address) for name in ("one", "other"))
    ledger = one.workspace.ledger
    for environment, machine in ((ONES, one.machine), (OTHERS, other.machine), (NOBODYS, None)):
        ledger.save_settings(environment, Settings())
        if machine is not None:
            ledger.set_machine(environment, machine)
    one.look()
    other.look()
    one.heard.clear()
    other.heard.clear()
    yield one, other
    one.stop()
    other.stop()


def test_each_tells_of_its_own_environments_and_each_event_once(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    ledger = other.workspace.ledger
    for what in (ALARM, AlarmOver()):
        for environment in (ONES, OTHERS):
            ledger.record(what, environment, 1)
    for agent in (one, other, one):
        agent.look()
    first = ledger.history()[-4].seq
    assert one.told == [(first, ONES.name), (first + 2, ONES.name)]
    assert other.told == [(first + 1, OTHERS.name), (first + 3, OTHERS.name)]
    assert (one.heard, other.heard) == ([first, first + 2], [first + 1, first + 3])


def test_what_happened_while_its_agent_was_away_is_told_by_it_and_by_no_other(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    one.stop()
    event = other.workspace.ledger.record(ALARM, ONES, 1)
    other.look()
    other.stop()
    other.start()
    other.look()
    one.start()
    one.look()
    assert (one.told, other.told) == ([(event.seq, ONES.name)], [])


def test_what_is_of_no_machine_is_told_by_one_of_them(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    ledger = one.workspace.ledger
    seqs = [ledger.record(WatchFailed(back_to=1, reason="why"), NOBODYS, 2).seq for _ in range(40)]
    threads = [threading.Thread(target=agent.look) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seq for seq, _ in one.told + other.told) == seqs
    assert one.heard == other.heard == seqs, "metrics and logs are of both"


def test_who_began_to_tell_of_it_tells_it_after_a_restart(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    event = one.workspace.ledger.record(ALARM, NOBODYS, 1)
    assert one.workspace.ledger.notices.is_to_tell(event, one.machine)  # killed here
    other.look()
    one.stop()
    one.start()
    one.look()
    assert (one.told, other.told) == ([(event.seq, NOBODYS.name)], [])


def test_one_that_nobody_listens_to_keeps_nothing_from_the_other(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    one.deaf = True
    ledger = one.workspace.ledger
    lost, told = ledger.record(ALARM, ONES, 1), ledger.record(ALARM, OTHERS, 1)
    one.look()
    other.look()
    assert other.told == [(told.seq, OTHERS.name)]
    given_up = [event for event in ledger.history() if event.kind == "notification-lost"]
    assert [event.detail["of"] for event in given_up] == [lost.seq]


def test_a_damaged_layer_is_told_by_the_machine_that_has_it(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    found = DamageFound(what="layer", cause="it differs", machine=other.machine)
    event = other.workspace.ledger.record(found)
    one.look()
    other.look()
    assert (one.told, other.told) == ([], [(event.seq, None)])


def test_an_environment_that_was_made_again_elsewhere_is_told_by_who_had_it_then(agents: tuple[Agent, Agent]) -> None:
    one, other = agents
    ledger = one.workspace.ledger
    before = ledger.record(ALARM, ONES, 1)
    ledger.remove_environment(ONES)
    ledger.save_settings(ONES, Settings())
    ledger.set_machine(ONES, other.machine)
    after = ledger.record(ALARM, ONES, 1)
    other.look()
    one.look()
    assert (one.told, other.told) == ([(before.seq, ONES.name)], [(after.seq, ONES.name)])


def test_a_machine_whose_ledger_is_moved_goes_on_where_it_was(tmp_path: Path, postgres: PostgresServer) -> None:
    address = postgres.address(postgres.wiped())
    mine = Agent(tmp_path / "one", address)
    with Ledger(mine.workspace.state.ledger, actor="ann") as own:
        own.save_settings(ONES, Settings())
        alone = Notices(own, mine.workspace.state.notified, [mine], machine=mine.machine, render=notice_json)
        alone.deliver()
        event = own.record(WatchFailed(back_to=1, reason="why"), ONES, 2)
        move(own, mine.workspace.ledger, {"local": mine.machine})
    mine.look()
    assert mine.told == [(event.seq, ONES.name)]
    mine.stop()
