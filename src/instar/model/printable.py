"""Words of others as they can be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text of somebody else's with "?" in the place of whatever would steer a terminal or break a line."""
    return "".join(one if one.isprintable() else "?" for one in text)
