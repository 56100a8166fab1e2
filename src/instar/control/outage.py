"""A shared ledger that does not answer for a while: how long it is waited for, and what is said of that.

Whoever waits looks again afterwards and decides by what it finds: what was to be written when the connection was lost
is there by then, or it is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from instar.cancellation import Cancellation
from instar.control.retries import Retries
from instar.errors import LedgerUnreachable
from instar.model.progress import Progress, Report

PATIENCE = timedelta(seconds=30)  # where no release says how long
_FOR_EVER = timedelta(days=36_500)
_START = datetime.fromtimestamp(0, UTC)

T = TypeVar("T")


@dataclass(kw_only=True)
class Outage:
    """Times are of this process's clock: the ledger's, by which all else is measured, is away too."""

    report: Report
    retries: Retries = field(default_factory=Retries)
    began: float | None = None  # of the monotonic clock
    paused_s: float = 0.0

    def pause_s(self, error: LedgerUnreachable, patience: timedelta | None) -> float:
        """Return for how long to wait before it is asked again, and say once that it is. Raises ``error`` when that was
        so for as long as ``patience``; None: it is waited for without an end."""
        if self.began is None:
            self.began, self.paused_s = time.monotonic(), 0.0
            at_most = "" if patience is None else f" ({patience.total_seconds():.0f} s at most)"
            self.report(Progress(stage="wait", text=f"for the ledger{at_most}: {error.message}", kind="warning"))
        since_s = max(time.monotonic() - self.began, self.paused_s)
        pause_s = self.retries.pause_s(error, _START + timedelta(seconds=since_s), patience or _FOR_EVER)
        if pause_s is None:
            raise error
        self.paused_s += pause_s
        return pause_s

    def is_over(self) -> None:
        """Take note that it has answered, and say so where it was waited for."""
        if self.began is None:
            return
        away_s = max(time.monotonic() - self.began, self.paused_s)
        self.report(Progress(stage="wait", text=f"is over: the ledger answers again, after {away_s:.1f} s"))
        self.began = None
        self.retries.succeeded()


def riding_out(act: Callable[[], T], report: Report, cancellation: Cancellation) -> T:
    """Do ``act``, and do it again where a shared ledger went away in it: it reads, or decides by what it reads anew
    each time. Raises Cancelled meanwhile."""
    outage = Outage(report=report)
    while True:
        try:
            done = act()
        except LedgerUnreachable as error:
            cancellation.pause(outage.pause_s(error, PATIENCE))
            cancellation.check()
        else:
            outage.is_over()
            return done
