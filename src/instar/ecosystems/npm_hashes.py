"""npm's hashes of files: ``sha512-`` and base64, as in ``integrity``. Source: W3C, Subresource Integrity."""

from __future__ import annotations

import base64
import binascii
from typing import Final

STRONG: Final = {"sha512": 64, "sha384": 48, "sha256": 32}  # and how many bytes each has; the best first


def best_hash(integrity: str) -> str | None:
    """Return the strongest of several hashes, None where there is none that anybody can rely on."""
    given = [one.partition("?")[0] for one in integrity.split()]
    for kind in STRONG:
        for one in given:
            if one.startswith(f"{kind}-") and _bytes(one) is not None:
                return one
    return None


def digest(known: str) -> tuple[str, bytes]:
    """Return a hash's kind, as hashlib calls it, and its bytes. Raises ValueError."""
    found = _bytes(known)
    if found is None:
        raise ValueError(f"'{known}' is no hash of npm's")
    return known.partition("-")[0], found


def content_path(known: str) -> str:
    """Return where npm's cache has the file with that hash. Source: cacache 16, lib/content/path.js."""
    kind, found = digest(known)
    text = found.hex()
    return f"content-v2/{kind}/{text[:2]}/{text[2:4]}/{text[4:]}"


def _bytes(known: str) -> bytes | None:
    kind, _, text = known.partition("-")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == STRONG.get(kind) else None
