"""A line that an instance printed."""

from __future__ import annotations

from datetime import UTC, datetime

from instar.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """``written`` is the whole line as providers have it: "TIME STREAM TEXT". ``at`` is None where it has no time,
    ``stream`` is stdout, stderr, or instar for what is said of the log itself."""

    instance: str
    written: str
    at: datetime | None
    stream: str
    text: str

    @classmethod
    def of(cls, instance: str, written: str) -> LogLine:
        time, _, rest = written.partition(" ")
        stream, _, text = rest.partition(" ")
        try:
            at = datetime.fromisoformat(time).astimezone(UTC)
        except (ValueError, OverflowError):
            return cls(instance=instance, written=written, at=None, stream="", text=written)
        return cls(instance=instance, written=written, at=at, stream=stream, text=text)
