"""What simulated instances use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from instar.model.usage import Measured, MemberUsage, Usage
from instar.providers.base import Observed


def measured(
    seen: Sequence[Observed], began: Mapping[str, datetime | None], now: datetime, uses: Mapping[str, Usage]
) -> Measured:
    """Return what those of ``seen`` use that run: what ``uses`` says, or else a tenth of a processor since they
    ``began``, and a little memory."""
    running = [one.id for one in seen if one.state in ("created", "running", "ending")]
    return Measured(
        members=tuple(
            MemberUsage(name=name, group=name, usage=uses.get(name) or _usual(began[name], now)) for name in running
        )
    )


def _usual(began_at: datetime | None, now: datetime) -> Usage:
    age_s = (now - began_at).total_seconds() if began_at is not None else 0.0
    return Usage(
        processor_us=round(age_s * 100_000),
        memory_bytes=1 << 20,
        cache_bytes=0,
        limit_bytes=64 << 20,
        processes=1,
        received_bytes=0,
        sent_bytes=0,
    )
