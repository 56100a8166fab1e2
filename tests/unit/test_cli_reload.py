"""What signals an agent takes while it is to be started again: whoever ends it has it end."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.cli.reload import Reload
from instar.telemetry.log import Log

_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


class Asked:
    """A reload, and how often it has told the agent to stop."""

    def __init__(self, home: Path) -> None:
        self.stops = 0
        self.reload = Reload({"INSTAR_HOME": str(home)}, Log("text", io.StringIO(), stamped=False), self._stop)
        self.reload.install()

    def _stop(self) -> None:
        self.stops += 1


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    yield Asked(tmp_path)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_is_started_again_where_that_is_asked_for(asked: Asked) -> None:
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 0)
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (True, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_is_not_started_again(asked: Asked, number: signal.Signals) -> None:
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    signal.raise_signal(number)
    assert (asked.reload.accepted, asked.stops) == (False, 2)
    signal.raise_signal(signal.SIGHUP)
    asked.reload.look()
    assert (asked.reload.accepted, asked.stops) == (False, 2)
