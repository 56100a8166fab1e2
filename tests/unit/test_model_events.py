"""Events as each version has written them read as values, are written as they were, and can be told to people.

``events.json`` has what versions of Instar wrote when their tests ran, one of each form, as kinds and details: a kind
that is new, or says something else than before, gets its examples there. None is ever taken out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from instar.ledger import chain
from instar.model.codec import parse
from instar.model.events import KINDS, Event, detail_of, kind_of, read
from instar.model.happenings import DamagedHappening, UnknownHappening
from instar.model.release import EnvironmentId
from instar.views.events import detail_line, event_json, notice_json, sentence

FILE = Path(__file__).parent / "events.json"
WRITTEN: list[tuple[str, dict[str, Any]]] = [(kind, detail) for kind, detail in json.loads(FILE.read_text())]
NAMES = [f"{kind}-{number}" for number, (kind, _) in enumerate(WRITTEN)]
every_one = pytest.mark.parametrize(("kind", "detail"), WRITTEN, ids=NAMES)


def event(kind: str, detail: Mapping[str, Any]) -> Event:
    where = EnvironmentId(service="guestbook", name="dev")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(
        seq=1, at=at, actor="ann", kind=kind, environment=where, release=7, image=None, detail=detail, hash="0" * 64
    )


def test_each_kind_has_an_example() -> None:
    assert Counter(kind for kind, _ in WRITTEN).keys() == KINDS.keys()


@every_one
def test_what_was_written_reads_as_a_value_and_is_written_as_it_was(kind: str, detail: dict[str, Any]) -> None:
    what = read(kind, detail)
    assert type(what) is KINDS[kind] and kind_of(what) == kind
    assert parse(chain.detail_text(detail_of(what))) == detail


@every_one
def test_what_was_written_is_told_in_a_sentence(kind: str, detail: dict[str, Any]) -> None:
    told = event(kind, detail)
    text = sentence(told)
    assert text.startswith("guestbook/dev") and text.isprintable() and text == text.strip()
    for wrong in ("{", "None", "''", "another version", "not of the form", "  ", "?"):
        assert wrong not in text, wrong
    assert notice_json(told)["text"] == text
    assert event_json(told)["detail"] == detail


@every_one
def test_what_was_written_is_shown_on_a_line(kind: str, detail: dict[str, Any]) -> None:
    line = detail_line(kind, detail, width=None)
    assert line == line.strip() and "not of the form" not in line and "None" not in line.split()


@pytest.mark.parametrize("key", ["", "measured", "figures", "rest"])
def test_what_was_measured_keeps_its_names(key: str) -> None:
    """Also one that is called as the value's field is that holds it."""
    own = {"rollout": 3, "step": 1, "passed": None, "cause": ""}
    for kind in ("rollout-done", "rollout-failed", "verdict"):
        detail = {**own, key: {"a": [1]}}
        assert detail_of(read(kind, detail)) == detail


def test_a_value_of_the_wrong_kind_is_damage_and_a_kind_that_is_new_is_another_version_s() -> None:
    """Whichever key of whichever example: it is read as it stands there, or as damaged, and never as another's."""
    for kind, detail in WRITTEN:
        assert isinstance(read(f"{kind}-anew", detail), UnknownHappening)
        for key in detail:
            for value in (None, 17, "text", [], {}, True):
                what = read(kind, {**detail, key: value})
                assert type(what) in (KINDS[kind], DamagedHappening)
                told = event(kind, {**detail, key: value})
                assert "another version" not in sentence(told) + detail_line(kind, told.detail)
