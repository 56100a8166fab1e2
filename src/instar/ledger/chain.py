"""How events are chained: the form of an event's line, and its hash.

The hash is the SHA-256, in lower-case hexadecimal, of these bytes::

    PREVIOUS|SEQ|AT|ACTOR|KIND|PLACE|RELEASE|IMAGE|DETAIL\\n

PREVIOUS is the hash of the event before in its chain. Each environment has a chain, and so has what is about none; they
begin with 64 zeros, or with the hash of the event that closed the one chain that there was (``chain-closed``). What is
missing is empty. DETAIL is JSON in ASCII without line breaks; no other field has a ``|`` or a control character in it
(the schema checks that). From SEQ on, it is what ``sqlite3`` prints for the row, which is how a person can recompute it
(docs/ledger.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from instar.model.codec import to_json

START = "0" * 64
_SEPARATORS = re.compile(r"[|\x00-\x1f]")


def link(previous: str, *fields: object) -> str:
    """Return the hash of an event: ``fields`` are its columns from seq to detail, as stored."""
    words = ("" if field is None else str(field) for field in fields)
    return hashlib.sha256(("|".join((previous, *words)) + "\n").encode()).hexdigest()


def detail_text(detail: Mapping[str, Any]) -> str:
    """Return the JSON of an event's detail, as it is stored. Raises ValueError for NaN and infinity."""
    return json.dumps(to_json(detail), sort_keys=True, separators=(",", ":"), allow_nan=False)


def word(text: str) -> str:
    """Return ``text`` as it can stand in a line: separators and what is not Unicode become question marks."""
    return _SEPARATORS.sub("?", text).encode("utf-8", "replace").decode() or "?"
