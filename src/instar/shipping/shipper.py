"""Ships the logs of this machine: a thread of the agent's, which reads them where they are and gives them to a sink.

Nothing waits for it. A sink that refuses, hangs or is slow has it wait, and what comes meanwhile lies in the logs'
files, until those are full and the oldest goes: what is lost so is counted and told. How far it is is written down
after each batch was taken (``shipped.json``), so that after a kill no more than a batch is shipped again.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from instar.errors import InstarError
from instar.model.log_stream import LogStream
from instar.shipping.progress import Shipped, keep, kept
from instar.shipping.records import Find, record, written
from instar.shipping.sinks import Sink, Undelivered
from instar.shipping.tail import BATCH_BYTES, Piece, Place, read, waiting_bytes

_LOOK_EACH_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_PATIENCE_S: Final = 2.0

Happening = Literal["failing", "again", "lost"]


@dataclass(slots=True)
class _Batch:
    """``places``: how far each of the logs ``streams`` is once ``records`` are taken, ``begins`` before that; ``more``:
    there may be more then."""

    streams: Mapping[str, LogStream]
    places: dict[str, Place]
    begins: dict[str, Place]
    records: list[Mapping[str, Any]] = field(default_factory=list)
    behind_bytes: int = 0
    more: bool = False


@dataclass(slots=True)
class _Around:
    """When the lines were written between which some are gone, of all logs."""

    before: list[str | None]
    after: list[str | None]

    def add(self, piece: Piece) -> None:
        if piece.lost_bytes:
            self.before.append(piece.lost_from)
            self.after.append(piece.lost_to)

    def __str__(self) -> str:
        """Return from when to when at the most, as far as it is known. Times of one form sort as texts."""
        first, last = min(filter(None, self.before), default=""), max(filter(None, self.after), default="")
        since = f" after {first[:19]}" if first else ""
        until = f" before {last[:19]}" if last else ""
        known = " and".join(one for one in (since, until) if one)
        return f", written{known} UTC" if known else ""


class Shipper:
    """``streams`` are the logs that are there now, ``find`` says whose an instance is, ``told`` hears what people
    should know: once when it begins to fail, when it ships again, and when something was lost."""

    def __init__(
        self,
        sink: Sink,
        file: Path,
        streams: Callable[[], Sequence[LogStream]],
        find: Find,
        *,
        told: Callable[[Happening, str], None] = lambda happening, text: None,
        heard: Callable[[Shipped], None] = lambda shipped: None,
    ) -> None:
        self._sink, self._file, self._streams, self._find = sink, file, streams, find
        self._told, self._heard = told, heard
        self._shipped = kept(file)
        self._failures = 0
        self._next = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="shipping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End soon: what is under way just then is shipped by the next, perhaps again."""
        self._stop.set()
        self._thread.join(timeout=_PATIENCE_S)

    def once(self) -> bool:
        """Ship a batch; return whether there may be more. Raises Undelivered."""
        batch = self._gathered()
        before, now = self._shipped, replace(self._shipped, places=batch.places, behind_bytes=batch.behind_bytes)
        if batch.records:
            try:
                self._sink.send(batch.records, meanwhile=functools.partial(self._wait, batch))
            except Exception:
                self._wait(batch)
                raise
            at = datetime.now(UTC).isoformat(timespec="seconds")
            now = replace(now, lines=now.lines + len(batch.records), at=at)
        self._keep(replace(now, cause=None))
        if before.cause is not None:
            self._failures = 0
            self._told("again", f"logs are shipped again; {batch.behind_bytes:,} bytes are waiting")
        return batch.more

    def _gathered(self) -> _Batch:
        """Return what is shipped next. What is lost before it is written down first."""
        streams = {f"{one.kind} {one.name}": one for one in self._streams()}
        places = {key: place for key, place in self._shipped.places.items() if key in streams}
        batch, room = _Batch(streams=streams, places=places, begins=dict(places)), BATCH_BYTES
        gone = [place for key, place in self._shipped.places.items() if key not in streams]
        lost = sum(place.size - place.offset for place in gone)
        around = _Around([place.at for place in gone if place.size > place.offset], [])
        is_full = False
        for key in self._in_turn(list(streams)):
            if room <= 0:
                batch.behind_bytes += waiting_bytes(streams[key], batch.places.get(key))
                if not is_full:
                    batch.more, self._next, is_full = True, key, True
                continue
            piece = read(streams[key], batch.places.get(key))
            if piece.begin is not None and piece.end is not None:
                batch.begins[key], batch.places[key] = piece.begin, piece.end
            lines = (record(streams[key], line, self._find) for line in piece.lines)
            found = [one for one in lines if one is not None]
            batch.records += found
            batch.behind_bytes += piece.behind_bytes
            batch.more |= bool(piece.lines)
            room -= sum(len(written(one)) for one in found)
            lost += piece.lost_bytes
            around.add(piece)
        if lost:
            self._lose(lost, batch.begins, around)
        return batch

    def _wait(self, batch: _Batch) -> None:
        """Write down where a batch begins that is not taken, so that what goes meanwhile is counted, and what waits."""
        waiting = sum(waiting_bytes(one, batch.begins.get(key)) for key, one in batch.streams.items())
        with contextlib.suppress(OSError):  # the disk is full, which may be the cause
            self._keep(replace(self._shipped, places=batch.begins, behind_bytes=waiting))

    def _in_turn(self, keys: Sequence[str]) -> Sequence[str]:
        """Return the logs, first the one that the last batch had no room for: none waits for another that never ends
        to come."""
        first = keys.index(self._next) if self._next in keys else 0
        return (*keys[first:], *keys[:first])

    def _lose(self, lost: int, places: Mapping[str, Place], around: _Around) -> None:
        """Write down what is lost, and where it goes on: it is counted once, however often the rest is tried."""
        self._keep(replace(self._shipped, places=places, lost_bytes=self._shipped.lost_bytes + lost))
        by_now = f"{self._shipped.lost_bytes:,} by now"
        self._told("lost", f"at least {lost:,} bytes of logs were gone before they were shipped{around}: {by_now}")

    def _keep(self, shipped: Shipped) -> None:
        before, self._shipped = self._shipped, shipped
        self._heard(shipped)
        if shipped != before:
            keep(self._file, shipped)

    def _repeat(self) -> None:
        while not self._stop.is_set():
            pause_s = _LOOK_EACH_S
            try:
                pause_s = 0 if self.once() else _LOOK_EACH_S
            except (Undelivered, InstarError, OSError) as error:
                pause_s = self._failed(str(error))
            except Exception as error:  # what nobody foresaw ends no shipping
                pause_s = self._failed(f"{type(error).__name__}: {error}")
            if pause_s:
                self._stop.wait(pause_s)
        self._sink.close()

    def _failed(self, cause: str) -> float:
        """Take note of a failure; return how long to wait."""
        if self._shipped.cause != cause:
            self._told("failing", f"logs are not shipped, and wait in their files: {cause}")
        with contextlib.suppress(OSError):  # the disk is full, which may be the cause
            self._keep(replace(self._shipped, cause=cause))
        self._failures += 1
        return float(min(2.0 ** (self._failures - 1), _LONGEST_PAUSE_S))
