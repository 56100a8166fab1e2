"""What an author writes about the requests that an environment takes, each key declared with its field.

It is its door's business and no instance's: a change makes no release. Units are as in ``model.definition``.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from instar.frozen import dataclass
from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


USUAL_TYPES: Final = ("text/html", "text/css", "text/plain", "text/javascript", "application/javascript",
    "application/json", "application/xml", "image/svg+xml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How many requests one client may send. Who asks from one address, of IPv6 from one network /64, is one client."""

    requests: int = field(metadata=key(
        "How many requests one client's address may send in `within`; all of them may come at once. More are answered "
        "with 429, and count for nothing. Of IPv6, a network /64 is one client.", low=1, high=1_000_000))
    within_ms: int = field(default=1_000, metadata=key("In what time.", low=1_000, high=24 * 3_600_000))


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """What the router takes from clients of http. None: there is no such limit."""

    largest_body_bytes: int | None = field(default=None, metadata=key(
        "The largest body of a request. A larger one is answered with 413: where its length is said beforehand, no "
        "instance hears of it; else when so many bytes have come, and the instance gets no more.", low=1 << 10,
        default_about="any size", added=True))
    body_within_ms: int | None = field(default=None, metadata=key(
        "How long a client may take to send the body of a request; then it is answered with 408. What fits into the "
        "router's buffer, about 32 kB, goes to no instance before it is whole.", low=1_000,
        default_about="as long as it sends something", added=True))
    rate: Rate | None = field(default=None, metadata=key(
        "How many requests one client may send.", default_about="any number", added=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """Which answers are compressed, by gzip, for clients that take it."""

    types: tuple[str, ...] = field(default=USUAL_TYPES, metadata=key(
        "Answers of these types are compressed, whatever follows the type (`; charset=…`).", "media type", minimum=1,
        unique=True, expected="a list of types, such as [text/html, application/json]",
        default_about="text/html, text/css, text/plain, text/javascript, application/javascript, application/json, "
        "application/xml, image/svg+xml"))
