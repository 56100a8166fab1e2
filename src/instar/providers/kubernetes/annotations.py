"""What objects say of themselves in annotations: anybody who may write to an object may have written that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def annotation_json(text: object) -> Mapping[str, Any]:
    """Return the JSON object that an annotation holds, by its names, of values that can be written as JSON again; none
    of them where it holds anything else."""
    try:
        found = json.loads(text) if isinstance(text, str) else {}
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # half a surrogate is no text, NaN no number
    except (ValueError, RecursionError, OverflowError):
        return {}
    return found if isinstance(found, dict) else {}


def whole(value: object, most: int) -> int | None:
    """Return a whole number from 0 to ``most``; None: it is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    return None
