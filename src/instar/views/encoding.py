"""JSON as it is printed: for programs, and harmless on a terminal."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

from instar.model.codec import to_json

CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would steer a terminal: a service chooses what it prints, and what it answers."""


def json_text(value: Any) -> str:
    """Return ``value`` (of frozen values, times, scalars) as JSON."""
    return _escaped(json.dumps(to_json(value), default=_plain, ensure_ascii=False, indent=1))


def json_line(value: Any) -> str:
    """Return ``value`` as JSON on a line of its own."""
    return _escaped(json.dumps(to_json(value), default=_plain, ensure_ascii=False))


def _escaped(text: str) -> str:
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
