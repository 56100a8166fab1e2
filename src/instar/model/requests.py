"""What an author writes about the requests that an environment takes, each key declared with its field.

It is its door's business and no instance's: a change makes no release. Units are as in ``model.definition``.
"""

from __future__ import annotations

from dataclasses import field

from instar.frozen import dataclass
from instar.model.declaration import key

# A key reads as a paragraph: its type, its default, its words.
# fmt: off


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """What the router takes from clients of http. None: there is no such limit."""

    largest_body_bytes: int | None = field(default=None, metadata=key(
        "The largest body of a request. A larger one is answered with 413: where its length is said beforehand, no "
        "instance hears of it; else when so many bytes have come, and the instance gets no more.", low=1 << 10,
        default_about="any size", added=True))
