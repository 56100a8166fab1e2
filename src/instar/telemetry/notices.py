"""Notices: what happened, told to a command or a webhook, in order and at least once.

The ledger's events are the source. A file keeps the number of the last one that was handled; where there is none it
begins with what happens next. One that cannot be delivered is tried again with growing pauses, then given up, which is
an event itself (``notification-lost``): nobody waits for a webhook that doesn't answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from instar import process
from instar.errors import CommandFailed, InstarError, UsageError
from instar.ledger import Ledger
from instar.model.codec import to_json
from instar.model.release import Event

TOLD = frozenset({"rollout-done", "rollout-failed", "verdict", "alarm", "alarm-over", "taken-over", "drift", "taint"})
LOST = "notification-lost"
_TRIES = 6
_FIRST_PAUSE_S = 1.0
_TIMEOUT_S = 10.0
_LOOK_EACH_S = 1.0
_AT_A_TIME = 200


class Undelivered(Exception):
    """Its text is the cause."""


class Channel(Protocol):
    """Where notices go."""

    def send(self, body: bytes) -> None:
        """Raises Undelivered."""


class Command:
    """Runs a program with the notice on its standard input; it must exit with 0 within ten seconds."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = tuple(argv)

    def send(self, body: bytes) -> None:
        try:
            process.run(self._argv, input=body, timeout_s=_TIMEOUT_S, alone=True)
        except (CommandFailed, InstarError, OSError) as error:
            raise Undelivered(str(error)) from error


class Webhook:
    """POSTs the notice as JSON; an answer of 2xx means delivered. No redirect is followed."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for what is no http or https address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"cannot notify '{url}': it is no http or https address")
        self._parts = parts

    def send(self, body: bytes) -> None:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        parts, host = self._parts, self._parts.hostname or ""
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(host, parts.port, timeout=_TIMEOUT_S)
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", "User-Agent": "instar"})
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise Undelivered(f"{host}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if status not in range(200, 300):
            raise Undelivered(f"{host} answered {status}")


class Notices:
    """A thread that follows the ledger. ``told`` hears what became of each notice: "sent" or "lost"."""

    def __init__(
        self,
        ledger: Ledger,
        cursor: Path,
        channels: Sequence[Channel],
        *,
        heard: Callable[[Event], None] = lambda event: None,
        told: Callable[[str], None] = lambda outcome: None,
        tries: int = _TRIES,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._channels = tuple(channels)
        self._heard, self._told = heard, told
        self._tries, self._first_pause_s = tries, first_pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End at once; what was not delivered is tried by the next."""
        self._stop.set()
        self._thread.join(timeout=_TIMEOUT_S + 1)

    def deliver(self) -> int:
        """Handle what happened since the last time; return how many events that were."""
        last = self._read()
        if last is None:
            newest = self._ledger.history(last=1)
            self._write(newest[-1].seq if newest else 0)
            return 0
        events = self._ledger.events_after(last, _AT_A_TIME)
        for event in events:
            self._heard(event)
            if _worth_telling(event):
                for channel in self._channels:
                    if not self._deliver(channel, event):
                        return 0  # it was told to stop
            self._write(event.seq)
        return len(events)

    def _run(self) -> None:
        while not self._stop.is_set():
            more = 0
            with contextlib.suppress(InstarError, OSError):  # the disk is full, the ledger busy: next time
                more = self.deliver()
            if not more:
                self._stop.wait(_LOOK_EACH_S)

    def _deliver(self, channel: Channel, event: Event) -> bool:
        body, cause = json.dumps(notice(event)).encode(), ""
        for attempt in range(self._tries):
            try:
                channel.send(body)
                self._told("sent")
                return True
            except Undelivered as error:
                cause = str(error)
            if self._stop.wait(self._first_pause_s * 2**attempt if attempt + 1 < self._tries else 0):
                return False
        self._told("lost")
        self._ledger.record(LOST, event.place, event.release, of=event.seq, cause=cause, tries=self._tries)
        return True

    def _read(self) -> int | None:
        try:
            return int(self._cursor.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, seq: int) -> None:
        self._cursor.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._cursor.with_name(f".{self._cursor.name}.new")
        with temporary.open("w") as file:
            file.write(f"{seq}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._cursor)


def notice(event: Event) -> dict[str, Any]:
    """Return what is sent. ``text`` is one sentence for people."""
    place = event.place
    told: dict[str, Any] = to_json(event)
    told["service"], told["environment"] = (place.service, place.environment) if place else (None, None)
    del told["place"], told["hash"]
    told["text"] = _sentence(event)
    return told


def _worth_telling(event: Event) -> bool:
    return event.kind in TOLD and not (event.kind == "verdict" and event.detail.get("passed"))


def _sentence(event: Event) -> str:
    where, reason = str(event.place or "this machine"), event.detail.get("reason") or event.detail.get("cause") or ""
    match event.kind:
        case "rollout-done":
            return f"{where} runs release {event.release}"
        case "rollout-failed":
            return f"{where}: the rollout to release {event.release} was undone: {reason}"
        case "verdict":
            return f"{where}: the analysis of release {event.release} failed: {reason}"
        case "alarm":
            return f"{where} needs somebody: {reason}"
        case "alarm-over":
            return f"{where}: somebody came; instances are replaced again"
        case _:
            return f"{where}: {event.kind}" + (f": {reason}" if reason else "")
