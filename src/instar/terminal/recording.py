"""Recordings of terminals: asciicast v2, a header and then an event a line. Written as it goes, read as far as it goes.

What was typed is not in one: passwords are typed. Source: https://docs.asciinema.org/manual/asciicast/v2/
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instar import durable
from instar.errors import HostError
from instar.frozen import dataclass
from instar.model.codec import parse

LIMIT_BYTES = 256 << 20
_END_BYTES = 1 << 20  # how far from its end the last whole line is looked for
_LINE_BYTES = 16 << 20
_NO_SHELL = "no shell without a record"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a recording says of itself. ``timestamp`` is in seconds since 1970."""

    width: int
    height: int
    timestamp: int
    title: str
    term: str = ""
    command: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvent:
    """``kind`` "o": ``text`` was shown; "r": the terminal became as large as ``text`` says ("120x40")."""

    at_s: float
    kind: str
    text: str


class Recorder:
    """Writes a recording. Every event is in the file when its call returns. Raises HostError when one can't be."""

    def __init__(self, path: Path, header: Header) -> None:
        """Make the file, with its header on the disk: whoever has a recorder has a place to record to."""
        self.path = path
        self._began = time.monotonic()
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._size_bytes = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._write(_header(header))
            os.fsync(self._file)
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def output(self, data: bytes, *, stream: str = "", cooked: bool = True) -> None:
        """Record what was shown. Each ``stream`` may end in the middle of a character. Not ``cooked``: no terminal
        was between, so that lines still end with a bare newline."""
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        if text:
            self._event("o", text if cooked else text.replace("\n", "\r\n"))

    def resize(self, columns: int, rows: int) -> None:
        self._event("r", f"{columns}x{rows}")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def discard(self) -> None:
        """Remove it: nothing came of what it was for."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _event(self, kind: str, text: str) -> None:
        self._write([round(time.monotonic() - self._began, 6), kind, text])

    def _write(self, value: Any) -> None:
        data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        self._size_bytes += len(data)
        if self._size_bytes > LIMIT_BYTES:
            raise HostError(f"cannot record any more: '{self.path}' has {LIMIT_BYTES >> 20} MiB, {_NO_SHELL}")
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> HostError:
        return HostError(
            f"cannot record to '{self.path}': {error.strerror}; {_NO_SHELL}",
            hint="df -h shows whether the disk is full",
        )


def read_header(path: Path) -> Header:
    """Return what a recording says of itself. Raises HostError when it is none."""
    with _opened(path) as file:
        line = file.readline(_LINE_BYTES)
    try:
        found = parse(line)
        if not line.endswith(b"\n") or found["version"] != 2:
            raise ValueError
        env, command = found.get("env") or {}, found.get("command")
        return Header(
            width=int(found["width"]),
            height=int(found["height"]),
            timestamp=int(found.get("timestamp") or 0),
            title=str(found.get("title") or ""),
            term=str(env.get("TERM", "")),
            command=None if command is None else str(command),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise HostError(
            f"cannot read '{path}': it does not begin as a recording does (asciicast, version 2)"
        ) from error


def read_events(path: Path) -> Iterator[RecordedEvent]:
    """Yield the events of a recording. One whose last line was cut off ends before that; so does one that still goes
    on. Raises HostError at a line in its middle that is none."""
    with _opened(path) as file:
        file.readline(_LINE_BYTES)
        number = 1
        while line := file.readline(_LINE_BYTES):
            number += 1
            if not line.endswith(b"\n"):
                return
            event = _event_of(line)
            if event is None:
                raise HostError(f"cannot read '{path}' any further: line {number} is not an event of a recording")
            yield event


def last_event_s(path: Path) -> float:
    """Return when the last whole event came, in seconds; 0.0 where there is none. Raises HostError."""
    with _opened(path) as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        lines = file.read().split(b"\n")[:-1]
    found = (_event_of(line) for line in reversed(lines))
    return next((event.at_s for event in found if event is not None), 0.0)


def _header(header: Header) -> Mapping[str, Any]:
    command = {} if header.command is None else {"command": _printable(header.command)}
    return {
        "version": 2,
        "width": header.width,
        "height": header.height,
        "timestamp": header.timestamp,
        **command,
        "title": _printable(header.title),
        "env": {"TERM": _printable(header.term), "SHELL": "/bin/sh"},
    }


def _printable(text: str) -> str:
    """Return ``text`` with an escape for each byte of an argument that is not UTF-8: JSON is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _event_of(line: bytes) -> RecordedEvent | None:
    try:
        at_s, kind, text = parse(line)
        if not (isinstance(kind, str) and isinstance(text, str) and math.isfinite(at_s) and at_s >= 0):
            return None
        return RecordedEvent(at_s=float(at_s), kind=kind, text=text)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with durable.reader(path) as file:
            yield file
    except OSError as error:
        raise HostError(f"cannot read '{path}': {error.strerror}") from error
