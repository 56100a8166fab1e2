"""How events of the hour of need read in a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from instar.model.events import KINDS, Event
from instar.model.release import EnvironmentId
from instar.views.events import WIDTH, decisions_table, detail_line, history_page
from instar.views.page import Table
from instar.views.sentences import SENTENCES

EXAMPLES = Path(__file__).with_name("events.json")


def test_taints_and_shells_read_as_sentences() -> None:
    due = "2026-01-01T10:20:30.000000Z"
    taint = {"instance": "web-dev-1-1", "taint": "person", "why": "odd", "due_at": due, "isolated": False}
    assert detail_line("taint", taint) == "web-dev-1-1 (by hand, due 10:20:30): odd"
    assert detail_line("taint", {**taint, "taint": "shell", "isolated": True}) == (
        "web-dev-1-1 (a shell, isolated, due 10:20:30): odd"
    )
    shell = {"instance": "web-dev-1-1", "why": "look", "recording": "r"}
    assert detail_line("shell", shell) == "web-dev-1-1: look"
    assert detail_line("shell", {**shell, "command": "id", "toolbox": True}) == (
        "web-dev-1-1: look, with the toolbox, runs 'id'"
    )
    took = {"seconds": 2.5, "different": "1 difference", "recording": "r", "cause": None}
    ended = {"instance": "web-dev-1-1", "exit_status": 3, **took}
    assert detail_line("shell-ended", ended) == "web-dev-1-1 exit status 3 after 2.5 s, 1 difference"
    assert detail_line("shell-ended", {**ended, "exit_status": None, "cause": "interrupted"}) == (
        "web-dev-1-1 ended after 2.5 s, interrupted, 1 difference"
    )


def test_what_has_no_words_shows_its_fields() -> None:
    kept = {"rollout": 1, "volume": "sha256:1f", "snapshot": 2, "running": True, "of": None}
    assert detail_line("data-kept", kept) == "rollout=1 volume=1f snapshot=2 running=true"
    lists = {"instances": ["a", "b"], "empty": "", "members": {"a": 2}}
    assert detail_line("of-tomorrow", lists) == "(written by another version of Instar) instances=a,b"
    assert len(detail_line("volume-removed", {"volume": "x" * 200})) == WIDTH


def test_a_rollout_reads_as_what_became_of_it() -> None:
    planned = {"instances": ["web-dev-1-3"], "replacing": "ended", "role": "api"}
    assert detail_line("launch", planned) == "web-dev-1-3 (api), since others had ended"
    assert detail_line("launch", {"instances": ["web-dev-1-3"], "task": "before 1"}) == "web-dev-1-3: before 1"
    assert detail_line("rollout", {"rollout": 2, "kind": "deploy", "from": 1}) == "deploy from release 1"
    assert detail_line("rollout", {"rollout": 2, "kind": "deploy", "from": None}) == "deploy"
    back = {"rollout": 2, "kind": "rollback", "from": 3, "forced": "the data has version 2"}
    assert detail_line("rollout", back) == "rollback from release 3: the data has version 2"
    assert detail_line("step", {"rollout": 2, "step": 1, "percent": 20}) == "20 % (step 1)"
    assert detail_line("verdict", {"rollout": 2, "step": 1, "passed": True, "cause": ""}) == "step 1 passed"
    failed = {"rollout": 2, "step": 1, "passed": False, "cause": "it answers in 75.0 ms"}
    assert detail_line("verdict", failed) == "step 1 not passed: it answers in 75.0 ms"
    assert detail_line("rollout-failed", {"rollout": 2, "reason": "aborted"}) == "aborted"
    done = {"rollout": 2, "switch_ms": 0.2, "drained": 3, "cut": 0, "drain_ms": 2100}
    assert detail_line("rollout-done", done) == "moved in 0.2 ms · 3 requests finished, 0 cut"
    assert detail_line("shift", {"from": 2, "instances": ["a"], "reason": None}) == "from release 2"
    assert detail_line("destroyed", {"instance": "a", "reason": "it ended"}) == "a: it ended"
    assert detail_line("created", {"instance": "a"}) == "a" == detail_line("started", {"instance": "a"})


def test_what_another_version_wrote_is_said_to_be_so_and_damage_is_not() -> None:
    assert detail_line("drained", {"a": 1, "b": None, "c": {"d": 1}}) == "(written by another version of Instar) a=1"
    assert detail_line("drained", {}) == "(written by another version of Instar)"
    damage = "(not of the form of such an event: damaged) "
    assert detail_line("taint", {"instance": "web-dev-1-1"}) == f"{damage}instance=web-dev-1-1"
    assert detail_line("taken-over", {"pid": "seven"}) == f"{damage}pid=seven"
    assert detail_line("drift", {"instance": None, "findings": 3, "count": 1}).startswith(damage)


def test_a_drift_tells_the_first_of_what_was_found() -> None:
    found = {"kind": "mount", "path": "/srv", "expected": "nothing", "observed": "tmpfs"}
    one = {"instance": "web-dev-1-1", "findings": [found], "count": 1}
    assert detail_line("drift", one) == "web-dev-1-1: mount /srv: tmpfs"
    more = {**one, "instance": None, "count": 3}
    assert detail_line("drift", more) == "the environment: mount /srv: tmpfs (and 2 more)"
    assert detail_line("drift", {**one, "findings": [], "count": 0}) == "web-dev-1-1"


def test_an_instance_s_end_says_how() -> None:
    ended = {"instance": "web-dev-1-1", "reason": "exited", "why": "exit status 3", "exit_status": 3}
    assert detail_line("ended", ended) == "web-dev-1-1: exit status 3"
    starved = {**ended, "reason": "out-of-memory", "why": "killed: out of memory", "exit_status": 137}
    assert detail_line("ended", starved) == "web-dev-1-1: killed: out of memory (exit status 137)"
    stopped = {"instance": "web-dev-1-1", "reason": "instar", "why": "it is no longer needed"}
    assert detail_line("stopping", stopped) == "web-dev-1-1: it is no longer needed"


def test_a_task_is_told_by_how_it_ended_and_one_that_failed_by_what_it_said_last() -> None:
    ended = {
        "task": "before 1",
        "outcome": "done",
        "last_lines": ["2026-11-30T04:57:04.08+00:00 stdout one", "AT stderr  two"],
    }
    assert detail_line("task", ended) == "before 1 · done"
    assert detail_line("task", {**ended, "outcome": "exit status 3"}) == "before 1 · exit status 3: two"
    assert detail_line("task", {"task": "run 1", "outcome": "exit status 3"}) == "run 1 · exit status 3"


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("rollout", {"rollout": 2, "kind": "deploy", "from": 1}, "ann began the deploy to release 2, from release 1"),
        ("step", {"rollout": 2, "step": 1, "percent": 20}, "release 2 got 20 % of the traffic (step 1)"),
        ("verdict", {"rollout": 2, "step": 1, "passed": True, "cause": ""}, "the analysis of release 2 passed"),
        (
            "verdict",
            {"rollout": 2, "step": 1, "passed": False, "cause": "late"},
            "the analysis of release 2 failed: late",
        ),
        ("paused", {"rollout": 2, "reason": "lunch"}, "ann paused the rollout to release 2: lunch"),
        ("launch", {"instances": ["a"], "replacing": "ended"}, "ann makes a, since others had ended"),
        (
            "data-kept",
            {"rollout": 1, "volume": "v", "snapshot": 2, "running": True, "of": None},
            "snapshot 2 has what the volume 'v' held before the rollout, which instances had meanwhile",
        ),
        ("project", {"project": "db2a"}, "it is of the project whose lock has the id db2a"),
        ("snapshot", {"volume": "v", "snapshot": 1, "running": False}, "ann took snapshot 1 of the volume 'v'"),
        (
            "stopping",
            {"instance": "a", "reason": "instar", "why": "it is no longer needed"},
            "a is told to stop: it is no longer needed",
        ),
        ("shell", {"instance": "a", "why": "look", "recording": "r"}, "ann opened a shell in a: look"),
        (
            "gc",
            {"images": ["sha256:" + "1" * 64], "blobs": 2, "bytes": 2048},
            "ann removed what nothing needs: 1 image, 2 blobs (2.0 KiB)",
        ),
    ],
)
def test_what_was_decided_reads_as_a_sentence(kind: str, detail: dict[str, Any], words: str) -> None:
    event = Event(
        seq=1, at=datetime(2026, 1, 1, tzinfo=UTC), actor="ann", kind=kind, release=2, image=None, detail=detail,
        environment=EnvironmentId(service="shop", name="dev"), hash="",
    )  # fmt: skip
    (row,) = decisions_table([event], width=None).rows
    assert row[0] == "2026-01-01 00:00:00" and row[1].startswith(words), row


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_event_has_a_sentence(kind: str) -> None:
    """And none of them, nor the history's line, shows fields as they are written down."""
    examples = [detail for of, detail in json.loads(EXAMPLES.read_text()) if of == kind]
    assert KINDS[kind] in SENTENCES and examples
    for detail in examples:
        event = Event(
            seq=1, at=datetime(2026, 1, 1, tzinfo=UTC), actor="ann", kind=kind, release=2, image=None, detail=detail,
            environment=EnvironmentId(service="shop", name="dev"), hash="",
        )  # fmt: skip
        (told,), (line,) = decisions_table([event], width=None).rows, history_rows(event)
        assert " " in told[1] and "None" not in told[1], told
        for text in (told[1], line[-1]):
            assert not any(f"{key}={value}" in text for key, value in detail.items() if key != "configuration"), text


def history_rows(event: Event) -> tuple[tuple[str, ...], ...]:
    (table,) = history_page([event], width=None)
    assert isinstance(table, Table)
    return tuple(tuple(row) for row in table.rows)
