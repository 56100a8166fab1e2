"""The keys of TLS sessions that clients take up again: three, of which the second encrypts and all decrypt. Pure.

So a session that was begun before a key was changed can still be taken up, and not for ever: whoever got the keys of
today reads no session of last week. Source: HAProxy 2.6 configuration manual, 5.1, "tls-ticket-keys".
"""

from __future__ import annotations

import base64
import os
import re
from typing import Final

ROTATED_AFTER_S: Final = 12 * 3600
_COUNT: Final = 3
_BYTES: Final = 80
SHOW: Final = "show tls-keys #0"
KEY: Final = r"[A-Za-z0-9+/]{107}="
_FILE = re.compile(rf"(?:{KEY}\n){{{_COUNT}}}")


def new() -> str:
    """Return a file of keys that nobody has seen."""
    return "".join(_key() for _ in range(_COUNT))


def usable(text: str | None) -> bool:
    return text is not None and _FILE.fullmatch(text) is not None


def rotated(text: str) -> str:
    """Return the file with one key more, and without the oldest."""
    return "".join(text.splitlines(keepends=True)[1:]) + _key()


def command(text: str) -> str:
    """Return what has HAProxy take the file's last key."""
    return f"set ssl tls-key #0 {text.splitlines()[-1]}"


def shown(text: str) -> list[str]:
    """Read the keys that HAProxy showed."""
    rows = (line.split() for line in text.splitlines())
    return [row[1] for row in rows if len(row) == 2 and row[0].startswith("0.")]


def _key() -> str:
    return base64.b64encode(os.urandom(_BYTES)).decode() + "\n"
