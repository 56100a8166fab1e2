"""What a provider did not answer, or not now: asked again after a while, and for how long at most."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from instar.errors import InstarError

LONGEST_S = 10.0


@dataclass(kw_only=True)
class Retries:
    """Transient errors in a row: how many, and ``since`` when."""

    since: datetime | None = None
    count: int = 0

    def pause_s(self, error: InstarError | OSError, now: datetime, patience: timedelta) -> float | None:
        """Return for how long to wait before it is tried again, longer each time; None: it is given up.

        That is so for a permanent error, and when nothing but transient ones came for as long as ``patience``.
        """
        first_s = error.retry_after_s if isinstance(error, InstarError) else None
        if first_s is None:
            return None
        self.since = self.since if self.since is not None and self.since <= now else now  # the clock may be set back
        left_s = (self.since + patience - now).total_seconds()
        if left_s <= 0:
            return None
        self.count += 1
        return min(first_s * 2.0 ** min(self.count - 1, 10), max(LONGEST_S, first_s), left_s)

    def succeeded(self) -> None:
        """Take note that it went well: the next error is the first again."""
        self.since, self.count = None, 0
