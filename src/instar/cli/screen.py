"""How things look on a terminal, and off it: no colour and no redrawing there, or with NO_COLOR."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TextIO

import click

from instar.model.progress import Progress
from instar.views.encoding import CONTROLS, json_text
from instar.views.page import Page

_STAGE_WIDTH = 9
_COLOURS = {"failed": "red", "warning": "yellow"}
_PLAIN_WIDTH, _PLAIN_HEIGHT = 100, 24


def say(text: str = "") -> None:
    """Print a line of data to stdout."""
    _out(printable(text))


def printable(text: str) -> str:
    """Return ``text`` without what would steer a terminal: a service chooses what it prints, and what it answers."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def say_json(value: Any) -> None:
    """Print ``value`` (of frozen values, times, scalars) as JSON to stdout."""
    _out(json_text(value))


def show(page: Page) -> None:
    """Print the lines and tables of ``page`` to stdout."""
    for line in _lines(page):
        _out(line)


class LivePage:
    """A page on a terminal that is drawn again and again, from its upper left corner on. What is on it stays there."""

    def __init__(self) -> None:
        self._begins = "\x1b[2J"

    @staticmethod
    def is_possible() -> bool:
        """Tell whether there is a terminal that such a page can be drawn on."""
        return _is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"

    def draw(self, page: Callable[[int, int], Page]) -> None:
        """Draw what ``page`` is for a terminal of so many columns and lines; what does not fit is cut."""
        width, height = _size(sys.stdout)
        lines = list(_lines(page(width, height - 1), width))[: height - 1]
        _out(f"{self._begins}\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", newline=False)
        self._begins = ""


def _lines(page: Page, width: int | None = None) -> Iterator[str]:
    """Yield each line as it is printed, as much as has room in ``width``."""
    for one in page:
        if isinstance(one, str):
            yield from (line[:width] for line in printable(one).split("\n"))
            continue
        for position, line in enumerate(one.lines()):
            text = printable(line)[:width]
            yield _bold(text) if one.header and position == 0 else text


def warn(message: str, hint: str | None = None, detail: Sequence[str] = ()) -> None:
    """Print an error to stderr: what happened, what was seen, what to do."""
    first, *rest = printable(message).split("\n")
    _err(f"{_paint('instar:', 'red')} {first}")
    for line in (*rest, *(f"  {line}" for line in detail)):
        _err(printable(line))
    if hint:
        _err(f"  → {printable(hint)}")


class Screen:
    """Shows progress on stderr: one line a stage, redrawn while it goes on where that is possible."""

    def __init__(self) -> None:
        self._redraws = _is_terminal(sys.stderr)
        self._open = False

    def __call__(self, progress: Progress) -> None:
        if progress.kind == "running" and not self._redraws:
            return
        line = f" {progress.stage:<{_STAGE_WIDTH}}{progress.text}"
        if progress.aside:
            width = max(min(_width(), _PLAIN_WIDTH) - len(progress.aside) - 1, len(line) + 2)
            line = f"{line:<{width}}{progress.aside}"
        line = printable(line)
        start = "\r\x1b[K" if self._open else ""
        self._open = progress.kind == "running"
        if self._open:
            line = line[: _width() - 1]
        _err(start + _paint(line, _COLOURS.get(progress.kind)), newline=not self._open)
        for more in progress.detail:
            _err(" " * (_STAGE_WIDTH + 1) + printable(more))


def moment(text: str, now: datetime) -> datetime:
    """Return the time that ``text`` means: "10m" ago, or an ISO time, of this machine's zone where it names none.

    Raises click.UsageError.
    """
    found = re.fullmatch(r"([0-9]{1,6})(s|m|min|h|d)", text)
    if found:
        unit = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}[found[2]]
        return now - timedelta(**{unit: int(found[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.UsageError(f"'{text}' is not a time: write 10m, 2h, 1d, or 2026-11-28T14:05") from None


def _width() -> int:
    return _size(sys.stderr)[0]


def _size(stream: TextIO) -> tuple[int, int]:
    """Return how many columns and lines a terminal has."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except OSError:
        return _PLAIN_WIDTH, _PLAIN_HEIGHT
    return found.columns or _PLAIN_WIDTH, found.lines or _PLAIN_HEIGHT


def _out(text: str, *, newline: bool = True) -> None:
    click.echo(text, nl=newline)


def _err(text: str, *, newline: bool = True) -> None:
    """Print to stderr, or to nobody: what is under way goes on when its terminal or its reader is gone."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=newline)


def _is_terminal(stream: TextIO | None) -> bool:
    """Tell whether colours and redrawing make sense there. (A stream that was closed is None.)"""
    return stream is not None and stream.isatty() and "NO_COLOR" not in os.environ


def _paint(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour is not None and _is_terminal(sys.stderr) else text


def _bold(text: str) -> str:
    return click.style(text, bold=True) if _is_terminal(sys.stdout) else text
