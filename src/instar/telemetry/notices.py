"""Notices: what happened, told to a command or a webhook, in order and at least once.

The ledger's events are the source. A file keeps the number of the last one that was handled; where there is none it
begins with what happens next. One that cannot be delivered is tried again with growing pauses, then given up, which is
an event itself (``notification-lost``): nobody waits for a webhook that doesn't answer. That event is told to nobody.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instar import durable
from instar.errors import InstarError
from instar.ledger import Ledger
from instar.model.events import Event
from instar.model.happenings import NoticeLost
from instar.model.occurrence import SCHEDULED
from instar.model.rollout_happenings import StepJudged, TaskEnded
from instar.telemetry.channels import Channel, Command, Undelivered, Webhook

__all__ = ["LOST", "TOLD", "Channel", "Command", "Notices", "Undelivered", "Webhook"]

TOLD = frozenset(
    {
        "rollout-done",
        "rollout-failed",
        "verdict",
        "alarm",
        "alarm-over",
        "taken-over",
        "name-adopted",
        "drift",
        "taint",
        "damaged",
        "ended",
        "task",
        "missed",
        "watch-failed",
        "certificate-failed",
        "certificate-expiring",
    }
)
LOST = "notification-lost"
_TRIES = 6
_NUMBER = re.compile(rb"[0-9]{1,18}\s*")
_FIRST_PAUSE_S = 1.0
_LOOK_EACH_S = 1.0
_AT_A_TIME = 200
_KNOWN = 1000  # so many events before the first look are heard too: they may have the last verdicts
_PATIENCE_S = 2.0


class Notices:
    """Two threads that follow the ledger. One tells; the other lets ``heard`` have every event soon, whatever the
    channels do. Of a ledger that several share they follow what is of ``machine``, and of none. ``render`` gives what
    is sent of an event; ``told`` hears what became of it: "sent" or "lost"."""

    def __init__(
        self,
        ledger: Ledger,
        cursor: Path,
        channels: Sequence[Channel],
        *,
        machine: str,
        render: Callable[[Event], Mapping[str, Any]],
        heard: Callable[[Event], None] = lambda event: None,
        told: Callable[[str], None] = lambda outcome: None,
        tries: int = _TRIES,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._channels = tuple(channels)
        self._machine = machine
        self._render = render
        self._heard, self._told = heard, told
        self._tries, self._first_pause_s = tries, first_pause_s
        self._heard_to: int | None = None
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(do,), name=f"notices-{do.__name__}", daemon=True)
            for do in (self.deliver, self.listen)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End soon; what is under way just then, or was not delivered, is told by the next."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=_PATIENCE_S)

    def deliver(self) -> int:
        """Tell what happened since the last time; return how many events that were."""
        newest = self._newest()
        last = self._read()
        if last is None or last > newest:  # there is none, or it is of another ledger
            self._write(newest)
            return 0
        events = self._ledger.events_after(last, _AT_A_TIME)
        for event in events:
            if self._channels and _worth_telling(event) and self._ledger.notices.is_to_tell(event, self._machine):
                if not all(self._deliver(channel, event) for channel in self._channels):
                    return 0  # it was told to stop
                last = event.seq
                self._write(last)
        if events and last != events[-1].seq:
            self._write(events[-1].seq)
        return len(events)

    def listen(self) -> int:
        """Let ``heard`` have what happened since the last time; return how many events that were."""
        if self._heard_to is None:
            self._heard_to = max(self._newest() - _KNOWN, 0)
        events = self._ledger.events_after(self._heard_to, _AT_A_TIME)
        for event in events:
            if self._ledger.notices.concerns(event, self._machine):
                self._heard(event)
            self._heard_to = event.seq
        return len(events)

    def _repeat(self, do: Callable[[], int]) -> None:
        while not self._stop.is_set():
            more = 0
            with contextlib.suppress(InstarError, OSError):  # the disk is full, the ledger busy: next time
                more = do()
            if not more:
                self._stop.wait(_LOOK_EACH_S)

    def _deliver(self, channel: Channel, event: Event) -> bool:
        """Tell ``event``, or give it up; False when it was told to stop first."""
        body, cause = json.dumps(self._render(event)).encode(), ""
        for attempt in range(self._tries):
            if attempt and self._stop.wait(self._first_pause_s * 2 ** (attempt - 1)):
                return False
            try:
                channel.send(body)
            except Undelivered as error:
                cause = str(error)
            else:
                self._told("sent")
                return True
        if self._stop.is_set():
            return False
        lost = NoticeLost(of=event.seq, cause=cause, tries=self._tries)
        self._ledger.record(lost, event.environment, event.release)
        self._told("lost")
        return True

    def _newest(self) -> int:
        newest = self._ledger.history(last=1)
        return newest[-1].seq if newest else 0

    def _read(self) -> int | None:
        """Return the number of the last event that was told; None where there is none that can be.

        That what came after it is not told is told itself where the number is damaged.
        """
        try:
            text = durable.read(self._cursor)
        except FileNotFoundError:
            return None
        except OSError:
            text = b""
        if _NUMBER.fullmatch(text):
            return int(text)
        cause = f"'{self._cursor.name}' was damaged: events before this one were not sent"
        self._ledger.record(NoticeLost(of=None, cause=cause, tries=0))
        return None

    def _write(self, seq: int) -> None:
        self._cursor.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(self._cursor, f"{seq}\n".encode(), mode=0o644)


def _worth_telling(event: Event) -> bool:
    what = event.what
    if isinstance(what, TaskEnded):  # a rollout's are part of how that ended, and who runs one sees to it
        return what.outcome != "done" and what.task.startswith(f"{SCHEDULED} ")
    return event.kind in TOLD and not (isinstance(what, StepJudged) and what.passed)
