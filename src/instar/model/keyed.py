"""Digests of secrets: keyed, so that who sees one can't try guesses against it."""

from __future__ import annotations

import hmac

from instar.model.digest import Digest


def keyed_digest(key: bytes, content: bytes) -> Digest:
    return Digest.from_hex(hmac.new(key, content, "sha256").hexdigest())
