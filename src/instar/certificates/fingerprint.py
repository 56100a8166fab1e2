"""The fingerprint of a certificate in PEM, without importing what reads certificates."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.+?)-----END CERTIFICATE-----", re.DOTALL)


def fingerprint_of(pem: bytes) -> str | None:
    """Return the SHA-256 of the first certificate in ``pem``, in hexadecimal digits; None where there is none."""
    found = _CERTIFICATE.search(pem)
    if found is None:
        return None
    try:
        return hashlib.sha256(base64.b64decode(b"".join(found[1].split()), validate=True)).hexdigest()
    except binascii.Error:
        return None
