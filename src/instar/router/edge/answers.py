"""What the edge itself answers, in the place of a service: two lines of a map of HAProxy's. Pure.

Of http-01, ``/.well-known/acme-challenge/TOKEN`` is answered with TOKEN and the thumbprint of the account's key,
whatever the token is, so nothing has to be kept of an order. Source: RFC 8555, 8.1 and 8.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from instar.errors import RouterError

ANSWERS: Final = "answers.map"
VALUE: Final = r"[A-Za-z0-9_-]{8,128}"
Kind = Literal["thumbprint", "nonce"]


def changed(text: str, kind: Kind, value: str | None) -> str:
    """Return the file with another answer of one kind; None: with none."""
    if value is not None and not re.fullmatch(VALUE, value, re.ASCII):
        raise RouterError(f"cannot answer with {value!r}: only letters, digits, '-' and '_' can be in a {kind}")
    found = {**read(text), kind: value}
    return "".join(f"{name} {one}\n" for name, one in sorted(found.items()) if one is not None)


def read(text: str) -> Mapping[str, str]:
    """Read the file."""
    rows = (line.split(" ") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}
