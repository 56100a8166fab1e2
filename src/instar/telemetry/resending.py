"""Tells channels of what is no event of the ledger's, again with growing pauses where they do not take it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from instar.telemetry.channels import Channel, Undelivered

_TRIES: Final = 6
_FIRST_PAUSE_S: Final = 1.0
_PATIENCE_S: Final = 2.0


class Resending:
    """A thread, so that nobody waits for a channel. Of what is told while a channel does not answer the newest is told
    next: it says more than those before it. ``lost`` hears why one was given up."""

    def __init__(
        self,
        channels: Sequence[Channel],
        lost: Callable[[str], None],
        *,
        tries: int = _TRIES,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._channels, self._lost = tuple(channels), lost
        self._tries, self._first_pause_s = tries, first_pause_s
        self._body: bytes | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="resending", daemon=True)

    def start(self) -> None:
        if self._channels:
            self._thread.start()

    def stop(self) -> None:
        """End soon; what was not delivered by then is told by nobody."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=_PATIENCE_S)

    def tell(self, body: bytes) -> None:
        with self._changed:
            self._body = body
            self._changed.notify_all()

    def _repeat(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._body is not None or self._stop.is_set())
                body, self._body = self._body, None
            if body is not None:
                for channel in self._channels:
                    self._deliver(channel, body)

    def _deliver(self, channel: Channel, body: bytes) -> None:
        cause = ""
        for attempt in range(self._tries):
            if attempt and self._stop.wait(self._first_pause_s * 2 ** (attempt - 1)):
                return
            try:
                channel.send(body)
            except Undelivered as error:
                cause = str(error)
            else:
                return
        self._lost(f"a notice was given up after {self._tries} tries: {cause}")
