"""Lines of several instances as one log."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from instar.errors import NotFound
from instar.model.environment import Settings
from instar.model.log_line import LogLine
from instar.model.release import EnvironmentId, EnvironmentState
from instar.operations.logs import Wanted, endings, logs
from instar.views.logs import log_json, log_text

ENV = EnvironmentId(service="web", name="dev")
STATE = EnvironmentState(id=ENV, settings=Settings(), active=1, created_at=datetime(2026, 1, 1, tzinfo=UTC))
KEPT = {
    "web-dev-1-1": ["2026-01-01T00:00:01.0+00:00 stdout one", "2026-01-01T00:00:03.0+00:00 stdout three"],
    "web-dev-1-2": ["2026-01-01T02:00:02.0+02:00 stdout two", "2026-01-01T00:00:04.123456789+00:00 stdout four"],
}


def log_lines(name: str, *, last: int | None = None, follow: bool = False) -> Iterator[str]:
    return iter(KEPT[name][-last if last else None :] if last != 0 else [])


def words(**asked: Any) -> list[str]:
    provider = SimpleNamespace(log_lines=log_lines, has_log=lambda name: name in KEPT)
    instances = [SimpleNamespace(id=name, release=1, role="") for name in KEPT]
    ledger = SimpleNamespace(
        instances=lambda environment: instances,
        instance_names=lambda environment: list(KEPT),
        get_release=lambda environment, number: None,
        instance_releases=lambda environment: [("web-dev-1-2", 1), ("web-dev-2-1", 2)],
    )
    workspace: Any = SimpleNamespace(provider=lambda name: provider, ledger=ledger)
    return [line.text for line in logs(workspace, STATE, Wanted(**asked))]


def test_lines_come_in_the_order_of_their_times() -> None:
    assert words() == ["one", "two", "three", "four"]


@pytest.mark.parametrize("follow", [False, True])
def test_lines_of_several_environments_are_one_log(follow: bool) -> None:
    other = dataclasses.replace(STATE, id=EnvironmentId(service="db", name="dev"))
    provider = SimpleNamespace(log_lines=log_lines)
    names = {ENV: "web-dev-1-1", other.id: "web-dev-1-2"}
    ledger = SimpleNamespace(instances=lambda id: [SimpleNamespace(id=names[id], release=1, role="")])
    workspace: Any = SimpleNamespace(provider=lambda name: provider, ledger=ledger)
    found = [line.text for line in logs(workspace, STATE, Wanted(), beside=[other], follow=follow)]
    assert sorted(found) == ["four", "one", "three", "two"]
    assert follow or found == ["one", "two", "three", "four"]


def test_the_last_lines_are_the_last_of_all_together() -> None:
    assert words(last=1) == ["four"]
    assert words(last=3) == ["two", "three", "four"]
    assert words(last=0) == []


def test_who_asks_for_a_pod_is_told_which_instance_it_is_of() -> None:
    with pytest.raises(NotFound) as caught:
        words(instance="web-dev-1-2-7d9f8c-x2x4z")
    assert "with those of its instance, 'web-dev-1-2'" in caught.value.message
    assert caught.value.hint == "instar logs web/dev web-dev-1-2"
    with pytest.raises(NotFound, match="never had such an instance"):
        words(instance="web-dev-1-22")


def test_only_what_came_since() -> None:
    assert words(since=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)) == ["three", "four"]
    assert words(since=datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC), instance="web-dev-1-2") == ["four"]


def test_only_what_came_until_and_what_a_pattern_finds() -> None:
    assert words(until=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)) == ["one", "two"]
    assert words(until=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC), last=1) == ["three"]
    assert words(matching=re.compile("o.e|tw")) == ["one", "two"]
    assert words(matching=re.compile("stdout")) == [], "the stream and the time are no text"


def test_the_instances_of_a_release_are_those_with_a_log() -> None:
    assert words(release=1) == ["two", "four"]
    with pytest.raises(NotFound, match="none is kept"):
        words(release=2)


def test_a_line_is_shown_whole_off_a_terminal_and_as_an_object_for_programs() -> None:
    line = LogLine.of("web-dev-1-1", "2026-01-01T02:00:02.5+02:00 stderr \x1b[31m\u2028x")
    assert log_text(line, named=True, short=False) == f"web-dev-1-1  {line.written}"
    assert log_text(line, named=False, short=True).endswith(".500 stderr \x1b[31m\u2028x")
    shown = log_json(line)
    assert "\x1b" not in shown and len(shown.splitlines()) == 1
    assert json.loads(shown) == {
        "instance": "web-dev-1-1",
        "at": "2026-01-01T00:00:02.500000Z",
        "stream": "stderr",
        "line": "\x1b[31m\u2028x",
    }
    assert json.loads(log_json(LogLine.of("web-dev-1-1", "no time")))["at"] is None


def endings_told(shown: set[str], **asked: Any) -> list[str]:
    ended = SimpleNamespace(at=datetime(2026, 1, 1, tzinfo=UTC))
    ledger = SimpleNamespace(
        instances=lambda environment: [SimpleNamespace(id="web-dev-1-3", release=1, role="")],
        instance_names=lambda environment: list(KEPT),
        get_release=lambda environment, number: None,
        instance_releases=lambda environment: [(f"web-dev-1-{number}", 1) for number in range(1, 4)],
        find_ending=lambda name: ended,
    )
    workspace: Any = SimpleNamespace(provider=lambda name: SimpleNamespace(has_log=lambda name: True), ledger=ledger)
    return [name for name, _ in endings(workspace, STATE, Wanted(release=1, **asked), shown)]


def test_a_few_lines_bring_no_word_of_every_instance_that_a_release_had() -> None:
    assert endings_told(set()) == ["web-dev-1-1", "web-dev-1-2", "web-dev-1-3"]
    assert endings_told({"web-dev-1-2"}, last=3) == ["web-dev-1-2", "web-dev-1-3"], "one that is there still is told of"
    assert endings_told(set(), matching=re.compile("x")) == ["web-dev-1-3"]
