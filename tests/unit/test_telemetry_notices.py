"""Notices: in order, at least once, and never for ever."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from instar.ledger import Ledger
from instar.model.events import Event
from instar.model.happenings import AlarmOver, AlarmRaised, OccurrencesMissed
from instar.model.instance_happenings import InstancesPlanned
from instar.model.rollout_happenings import RolloutDone, StepJudged, TaskEnded
from instar.telemetry.notices import LOST, Notices, Undelivered
from instar.views.events import notice_json, sentence
from simulated.values import ENV

PATIENCE_S = 10


class Channel:
    """Takes notices, but refuses the first ``deaf`` of them; ``got`` is set by each that it takes."""

    def __init__(self, deaf: int = 0) -> None:
        self.deaf = deaf
        self.asked = 0
        self.bodies: list[dict[str, Any]] = []
        self.got = threading.Event()

    def send(self, body: bytes) -> None:
        self.asked += 1
        if self.asked <= self.deaf:
            raise Undelivered("it answered 500")
        self.bodies.append(json.loads(body))
        self.got.set()


class Stuck:
    """Takes a notice and does not come back until it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def send(self, body: bytes) -> None:
        self.entered.set()
        self.released.wait(PATIENCE_S)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "instar.db", actor="tester") as opened:
        yield opened


ALARM, DONE = AlarmRaised(reason="why"), RolloutDone(rollout=1)
LAUNCH = InstancesPlanned(instances={})


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    return tmp_path / "state" / "notified"


def following(ledger: Ledger, cursor: Path, *channels: Channel | Stuck, **options: Any) -> Notices:
    """Notices that have had their first look already."""
    made = Notices(ledger, cursor, channels, first_pause_s=0, **options, machine="here", render=notice_json)
    assert made.deliver() == 0
    return made


def test_without_a_cursor_it_begins_with_what_happens_next(ledger: Ledger, cursor: Path) -> None:
    ledger.record(ALARM, ENV, 1)
    channel = Channel()
    notices = following(ledger, cursor, channel)
    ledger.record(AlarmOver(), ENV, 1)
    assert notices.deliver() == 1
    assert [body["kind"] for body in channel.bodies] == ["alarm-over"]


def test_what_happened_while_nobody_followed_is_told_in_order_and_once(ledger: Ledger, cursor: Path) -> None:
    following(ledger, cursor)
    for number in range(1, 4):
        ledger.record(LAUNCH, ENV, number)
        ledger.record(DONE, ENV, number)
    first, second = Channel(), Channel()
    assert Notices(ledger, cursor, [first], machine="here", render=notice_json).deliver() == 6
    assert [body["release"] for body in first.bodies] == [1, 2, 3]
    assert Notices(ledger, cursor, [second], machine="here", render=notice_json).deliver() == 0
    assert second.bodies == []


def test_the_cursor_is_past_what_is_not_worth_telling_too(ledger: Ledger, cursor: Path) -> None:
    notices = following(ledger, cursor, Channel())
    seq = [ledger.record(what, ENV, 1).seq for what in (DONE, LAUNCH)][-1]
    notices.deliver()
    assert int(cursor.read_text()) == seq
    assert [path.name for path in cursor.parent.iterdir()] == [cursor.name]


@pytest.mark.parametrize("content", ["", "many\n", "999999\n", "\udcff"])
def test_a_cursor_that_means_nothing_here_begins_anew(ledger: Ledger, cursor: Path, content: str) -> None:
    ledger.record(ALARM, ENV, 1)
    cursor.parent.mkdir()
    cursor.write_bytes(content.encode("utf-8", "surrogateescape"))
    channel = Channel()
    notices = following(ledger, cursor, channel)
    ledger.record(AlarmOver(), ENV, 1)
    notices.deliver()
    assert [body["kind"] for body in channel.bodies] == ["alarm-over"]


def test_what_is_refused_is_tried_again_and_then_sent(ledger: Ledger, cursor: Path) -> None:
    outcomes: list[str] = []
    channel = Channel(deaf=5)
    notices = following(ledger, cursor, channel, told=outcomes.append)
    ledger.record(DONE, ENV, 1)
    notices.deliver()
    assert (channel.asked, len(channel.bodies), outcomes) == (6, 1, ["sent"])
    assert ledger.history()[-1].kind == "rollout-done"


def test_what_cannot_be_sent_is_given_up_written_down_and_told_to_nobody(ledger: Ledger, cursor: Path) -> None:
    outcomes: list[str] = []
    channel = Channel(deaf=3)
    notices = following(ledger, cursor, channel, told=outcomes.append, tries=3)
    lost = ledger.record(ALARM, ENV, 4)
    ledger.record(AlarmOver(), ENV, 4)
    notices.deliver()
    event = ledger.history()[-1]
    assert (event.kind, event.environment, event.release) == (LOST, ENV, 4)
    assert event.detail == {"of": lost.seq, "cause": "it answered 500", "tries": 3}
    assert [body["kind"] for body in channel.bodies] == ["alarm-over"], "it goes on with the next"
    assert outcomes == ["lost", "sent"]
    while notices.deliver():
        pass
    assert (channel.asked, [event.kind for event in ledger.history()].count(LOST)) == (4, 1)


def test_pauses_grow(ledger: Ledger, cursor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = Notices(ledger, cursor, [Channel(deaf=99)], tries=5, machine="here", render=notice_json)
    notices.deliver()
    ledger.record(DONE, ENV, 1)
    pauses: list[float] = []
    monkeypatch.setattr(notices._stop, "wait", pauses.append)
    notices.deliver()
    assert pauses == [1, 2, 4, 8]


def test_whatever_a_channel_does_events_are_heard_and_stopping_is_prompt(ledger: Ledger, cursor: Path) -> None:
    heard: list[str] = []
    enough = threading.Event()

    def hear(event: Event) -> None:
        heard.append(event.kind)
        if event.kind == "verdict":
            enough.set()

    stuck = Stuck()
    notices = following(ledger, cursor, stuck, heard=hear)
    ledger.record(DONE, ENV, 1)
    notices.start()
    assert stuck.entered.wait(PATIENCE_S)
    ledger.record(StepJudged(rollout=1, step=1, passed=True), ENV, 2)
    assert enough.wait(PATIENCE_S)
    before = datetime.now(UTC)
    notices.stop()
    assert (datetime.now(UTC) - before).total_seconds() < 5
    stuck.released.set()
    assert heard == ["rollout-done", "verdict"]


def test_a_pause_ends_when_it_is_told_to_stop_and_the_next_one_tells(ledger: Ledger, cursor: Path) -> None:
    deaf = Channel(deaf=1)
    asked = threading.Event()
    notices = Notices(ledger, cursor, [deaf], first_pause_s=3600, machine="here", render=notice_json)
    notices.deliver()
    seq = ledger.record(ALARM, ENV, 1).seq
    send = deaf.send

    def noted(body: bytes) -> None:
        asked.set()
        send(body)

    deaf.send = noted  # type: ignore[method-assign]
    notices.start()
    assert asked.wait(PATIENCE_S)
    notices.stop()
    assert not any(thread.is_alive() for thread in notices._threads)
    assert [event.seq for event in ledger.history()][-1] == seq, "it is not lost"
    channel = Channel()
    Notices(ledger, cursor, [channel], machine="here", render=notice_json).deliver()
    assert [body["seq"] for body in channel.bodies] == [seq]


def event(kind: str, release: int | None = 7, **detail: Any) -> Event:
    at = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    return Event(
        seq=3,
        at=at,
        actor="me",
        kind=kind,
        environment=ENV,
        release=release,
        image=None,
        detail=detail,
        hash="0" * 64,
    )


def test_the_body_has_stable_keys() -> None:
    assert notice_json(event("rollout-done", rollout=3, switch_ms=1.5)) == {
        "seq": 3,
        "at": "2026-01-01T12:00:00Z",
        "actor": "me",
        "kind": "rollout-done",
        "service": "guestbook",
        "environment": "dev",
        "release": 7,
        "image": None,
        "detail": {"rollout": 3, "switch_ms": 1.5},
        "text": "guestbook/dev runs release 7",
    }


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            event("rollout-failed", rollout=3, reason="0 of 3 healthy"),
            "the rollout to release 7 was undone: 0 of 3 healthy",
        ),
        (
            event("verdict", rollout=3, step=1, passed=False, cause="too slow"),
            "the analysis of release 7 failed: too slow",
        ),
        (event("taken-over", None, pid=42), "me took over from process 42"),
        (
            event(
                "drift", instance="a-1-1", count=3, findings=[{"kind": "mount", "path": "/srv", "observed": "tmpfs"}]
            ),
            "a-1-1 has drifted: mount /srv: tmpfs (and 2 more)",
        ),
        (event("drift", instance=None, findings=[], count=0), "what its instances share has drifted"),
        (
            event("taint", instance="a-1-1", taint="person", why="it is slow", due_at="", isolated=False),
            "me tainted a-1-1, which will be replaced: it is slow",
        ),
        (event("damaged", what="layer sha256:1", cause="other bytes"), "layer sha256:1 is damaged: other bytes"),
        (
            event("ended", instance="a-1-1", reason="out-of-memory", why="killed: out of memory"),
            "a-1-1 ended unexpectedly: killed: out of memory",
        ),
        (event("started", instance="a-1-1"), "a-1-1 is started"),
        (event("drained", reason="why"), "drained: why (written by another version of Instar)"),
        (event("taint", reason="why"), "taint: why (not of the form of such an event: damaged)"),
    ],
)
def test_the_text_is_a_sentence(told: Event, text: str) -> None:
    assert sentence(told) == f"guestbook/dev: {text}"


def test_the_text_is_one_plain_line_of_bounded_length() -> None:
    text = notice_json(event("alarm", reason="one\ntwo\x1b[31m three" + " four" * 1000))["text"]
    assert text.startswith("guestbook/dev needs attention: one two?[31m three four")
    assert len(text) < 600 and text.isprintable()


def test_what_an_instance_printed_goes_nowhere() -> None:
    told = notice_json(event("rollout-failed", rollout=3, reason="it ended", last_lines={"one": ["TOKEN=hunter2"]}))
    assert told["detail"] == {"rollout": 3, "reason": "it ended"}
    assert "hunter2" not in json.dumps(told)


def test_a_verdict_that_passed_is_no_news(ledger: Ledger, cursor: Path) -> None:
    channel = Channel()
    notices = following(ledger, cursor, channel)
    ledger.record(StepJudged(rollout=1, step=1, passed=True), ENV, 1)
    ledger.record(StepJudged(rollout=1, step=1, passed=False), ENV, 2)
    notices.deliver()
    assert [body["release"] for body in channel.bodies] == [2]


def test_of_tasks_only_one_by_the_clock_that_failed_is_news(ledger: Ledger, cursor: Path) -> None:
    channel = Channel()
    notices = following(ledger, cursor, channel)
    nightly = "schedule nightly 2026-11-30T03:00:00Z"
    for number, (task, outcome) in enumerate(
        [("before 1", "exit status 1"), ("run 1", "exit status 1"), (nightly, "done"), (nightly, "exit status 1")], 1
    ):
        ledger.record(TaskEnded(task=task, outcome=outcome), ENV, number)
    notices.deliver()
    (body,) = channel.bodies
    assert body["release"] == 4
    assert body["text"] == f"guestbook/dev: task '{nightly}' of release 4 ended: exit status 1"


def test_what_was_due_and_did_not_begin_is_news(ledger: Ledger, cursor: Path) -> None:
    channel = Channel()
    notices = following(ledger, cursor, channel)
    missed = OccurrencesMissed(entry="nightly", count=1, first="2026-11-30T03:00:00Z", last="2026-11-30T03:00:00Z")
    ledger.record(missed, ENV, 1)
    notices.deliver()
    (body,) = channel.bodies
    assert body["kind"] == "missed"
    assert body["text"].endswith("'nightly' of the schedule did not begin when it was due, at 2026-11-30T03:00:00Z")
