"""Agents that meet at what is due: of those that begin it at one moment one does, on each engine."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from ledger_benches import LedgerBench

from instar.ledger import Ledger
from instar.model.environment import Settings
from instar.model.occurrence import Occurrence
from instar.model.release import Command, EnvironmentId
from simulated.values import configuration, image

DEV = EnvironmentId(service="guestbook", name="dev")
AGENTS, TIMES = 3, 12
FIRST = datetime(2026, 11, 30, 3, tzinfo=UTC)


def test_of_agents_that_begin_what_is_due_at_one_moment_one_does_in_whichever_release(bench: LedgerBench) -> None:
    ledger = bench.open()
    ledger.save_settings(DEV, Settings())
    for word in ("one", "two"):
        ledger.add_release(DEV, image(word).digest, configuration())
    due = [Occurrence(entry="report", due_at=FIRST + timedelta(hours=number)) for number in range(TIMES)]
    meeting, begun, failed = threading.Barrier(AGENTS), list[tuple[str, str]](), list[Exception]()

    def act(number: int) -> None:
        try:
            with Ledger(bench.address, actor=f"agent {number}") as own:
                for one in due:
                    meeting.wait(60)
                    made = own.schedules.begin(DEV, 1 + number % 2, one, Command(argv=("report",)))
                    if made is not None:
                        begun.append((one.name, made.id))
        except Exception as error:
            failed.append(error)
            meeting.abort()

    agents = [threading.Thread(target=act, args=(number,)) for number in range(AGENTS)]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    assert not failed
    assert sorted(name for name, _ in begun) == [one.name for one in due], "each by one of them, and once"
    assert {one.id for one in ledger.instances(DEV)} == {instance for _, instance in begun}
    launched = [one.detail["task"] for one in ledger.history(DEV) if one.kind == "launch"]
    assert sorted(launched) == [one.name for one in due]
    ledger.verify()
