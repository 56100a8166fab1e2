"""A pattern is looked for by who asks; no more lines are asked of the agent than that is likely to take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.cli.looking import _matching
from instar.model.log_line import LogLine
from instar.model.progress import Progress
from instar.reading import client
from instar.reading.questions import Logs, Question

MANY = [LogLine.of("shop-dev-1-1", f"2026-01-01T00:00:00+00:00 stdout line {number}") for number in range(50_000)]
ENDED = Progress(stage="ended", text="shop-dev-1-1: gone")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    found = list[int | None]()

    def ask(path: Path, question: Question) -> Iterator[LogLine | Progress]:
        assert isinstance(question, Logs)
        found.append(question.last)
        yield from MANY if question.last is None else MANY[-question.last :]
        yield ENDED

    monkeypatch.setattr(client, "ask", ask)
    return found


def looked_for(pattern: str, last: int | None) -> list[str]:
    question = Logs(environments=("shop/dev",), last=last)
    *lines, note = _matching(Path("socket"), question, re.compile(pattern))
    assert note is ENDED
    return [line.text for line in lines if isinstance(line, LogLine)]


def test_what_is_found_among_the_last_lines_takes_no_more(asked: list[int | None]) -> None:
    assert looked_for("0$", 2) == ["line 49980", "line 49990"]
    assert asked == [1_000]


def test_what_is_rare_is_looked_for_among_more_and_then_among_all(asked: list[int | None]) -> None:
    assert looked_for("line 30000$", 1) == ["line 30000"]
    assert asked == [1_000, 30_000]
    assert looked_for("line 7$", 1) == ["line 7"]
    assert asked[2:] == [1_000, 30_000, None]
    assert looked_for("line 7$", None) == ["line 7"]
    assert asked[5:] == [None]


def test_more_lines_than_it_would_be_looked_among_are_asked_for_at_once(asked: list[int | None]) -> None:
    assert len(looked_for("line", 40_000)) == 40_000
    assert asked == [40_000]
