"""What others have chosen the characters of reaches the operator's terminal as text and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
import pytest

from instar.cli import screen
from instar.cli.screen import moment
from instar.model.progress import Progress
from instar.views.page import Table

HOSTILE = "a\x1b]0;title\x07b\rc\x9bd\te"
HARMLESS = "a\ufffd]0;title\ufffdb\ufffdc\ufffdd\te"


def test_nothing_that_is_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say(f"{HOSTILE}\nnext")
    screen.show(iter([Table(rows=[[HOSTILE]], header=["head"])]))
    assert capsys.readouterr().out == f"{HARMLESS}\nnext\nhead\n{HARMLESS}\n"
    screen.say_json({"a": HOSTILE})
    said = capsys.readouterr().out
    assert json.loads(said) == {"a": HOSTILE}
    assert "\x9b" not in said
    screen.warn(HOSTILE, HOSTILE, [HOSTILE])
    screen.Screen()(Progress(stage="stage", text=HOSTILE, aside=HOSTILE, detail=(HOSTILE,)))
    shown = capsys.readouterr().err
    assert shown.count(HARMLESS) == 6
    assert not set(shown) & set("\x1b\x07\r\x9b")


def test_progress_still_redraws_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = screen.Screen()
    shown(Progress(stage="bake", text="one", kind="running"))
    shown(Progress(stage="bake", text="two"))
    assert "\r\x1b[K" in capsys.readouterr().err


NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", datetime(2026, 11, 28, 11, 58, 30, tzinfo=UTC)),
        ("10m", datetime(2026, 11, 28, 11, 50, tzinfo=UTC)),
        ("1d", datetime(2026, 11, 27, 12, 0, tzinfo=UTC)),
        ("2026-11-28T11:00:00+01:00", datetime(2026, 11, 28, 10, 0, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "-5m", "1999999999d", "0001-01-01"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not a time: write 10m"):
        moment(text, NOW)
