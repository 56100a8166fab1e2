"""What others have chosen the characters of reaches the operator's terminal as text and nothing else."""

from __future__ import annotations

import json

import pytest

from instar.cli import screen
from instar.model.progress import Progress

HOSTILE = "a\x1b]0;title\x07b\rc\x9bd\te"
HARMLESS = "a\ufffd]0;title\ufffdb\ufffdc\ufffdd\te"


def test_nothing_that_is_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say(f"{HOSTILE}\nnext")
    screen.table([[HOSTILE]], header=["head"])
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
