"""A line that an instance printed, or a request that a router wrote down."""

from __future__ import annotations

from dataclasses import field
from datetime import UTC, datetime

from instar.frozen import dataclass
from instar.model.codec import ADDED
from instar.model.logged_request import LoggedRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """``written`` is the whole line as providers have it, "TIME STREAM TEXT", of a group with members "TIME
    STREAM@MEMBER TEXT", without which of them (``member``) it came from. ``at`` is None where it has no time,
    ``stream`` is stdout, stderr, access for a ``request``, or instar for what is said of the log itself."""

    instance: str
    written: str
    at: datetime | None
    stream: str
    text: str
    request: LoggedRequest | None = field(default=None, metadata=ADDED)
    member: str | None = field(default=None, metadata=ADDED)

    @property
    def source(self) -> str:
        """What it came from, as its engine calls it where that has names of its own, which begin as the instance's."""
        if self.member is None or self.member.startswith(self.instance):
            return self.member or self.instance
        return f"{self.instance} ({self.member})"

    @classmethod
    def of(cls, instance: str, written: str) -> LogLine:
        time, _, rest = written.partition(" ")
        stream, _, text = rest.partition(" ")
        try:
            at = datetime.fromisoformat(time).astimezone(UTC)
        except (ValueError, OverflowError):
            return cls(instance=instance, written=written, at=None, stream="", text=written)
        stream, _, member = stream.partition("@")
        if member:
            written = f"{time} {stream} {text}"
        return cls(instance=instance, written=written, at=at, stream=stream, text=text, member=member or None)
