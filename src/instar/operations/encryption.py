"""How the value of a secret is encrypted in a ledger that several share.

AES-256-GCM under a key that is derived from the one of the digests of secrets, bound to what the value is of: in the
place of another one it cannot be read. The text is ``1:`` and the base64 of nonce, ciphertext and tag; how long a value
is can be seen.
"""

from __future__ import annotations

import base64
import hmac
import os

_FORM = "1:"
_NONCE_BYTES = 12
_DERIVED = b"instar: the values of a ledger's secrets, 1"


def encrypt(key: bytes, value: bytes, bound_to: bytes) -> str:
    """Return ``value`` as only somebody with ``key`` can read it, and only for what it is ``bound_to``."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # its import is slow, and most have no use for it

    nonce = os.urandom(_NONCE_BYTES)
    return _FORM + base64.b64encode(nonce + AESGCM(_derived(key)).encrypt(nonce, value, bound_to)).decode()


def decrypt(key: bytes, text: str, bound_to: bytes) -> bytes:
    """Return what was encrypted. Raises ValueError for another key, what it is not bound to, and what was damaged."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not text.startswith(_FORM):
        raise ValueError("it is of a form that is not known here")
    try:
        sealed = base64.b64decode(text.removeprefix(_FORM), validate=True)
        return AESGCM(_derived(key)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise ValueError("it is not what was put in there") from error


def _derived(key: bytes) -> bytes:
    """Return the key of values. It is no digest by that key: of what those are made an author chooses, and they can be
    seen. Source: RFC 5869, 2.2, with a salt of our own"""
    return hmac.digest(_DERIVED, key, "sha256")
