"""How things look on a terminal, and off it: no colour and no redrawing there, or with NO_COLOR."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import click

from instar.model.codec import to_json
from instar.model.progress import Progress

_STAGE_WIDTH = 9
_COLOURS = {"failed": "red", "warning": "yellow"}
_PLAIN_WIDTH = 100
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def say(text: str = "") -> None:
    """Print a line of data to stdout."""
    _out(printable(text))


def printable(text: str) -> str:
    """Return ``text`` without what would steer a terminal: a service chooses what it prints, and what it answers."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def say_json(value: Any) -> None:
    """Print ``value`` (of frozen values, times, scalars) as JSON to stdout."""
    text = json.dumps(to_json(value), default=_plain, ensure_ascii=False, indent=1)
    _out(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


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


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] | None = None) -> None:
    """Print rows in columns as wide as their widest cell."""
    lines = [list(header)] if header else []
    lines += [list(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    for position, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        _out(_bold(printable(text)) if header and position == 0 else printable(text))


def size(size_bytes: int) -> str:
    """Return a size for people: 12 kB, 3.4 MB (decimal)."""
    value, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"


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
        raise click.UsageError(f"'{text}' is no time: write 10m, 2h, 1d, or 2026-11-28T14:05") from None


def age(since: datetime | None) -> str:
    """Return how long ago ``since`` was, in its largest unit."""
    if since is None:
        return "—"
    passed = datetime.now(UTC) - since
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if passed >= length:
            return f"{passed // length} {unit}"
    return f"{max(int(passed.total_seconds()), 0)} s"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _PLAIN_WIDTH
    except OSError:
        return _PLAIN_WIDTH


def _out(text: str) -> None:
    click.echo(text)


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
