"""A digest names bytes. It is a type, so that no tag or file name can pass for one."""

from __future__ import annotations

import hashlib
import re

_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Digest(str):
    """``sha256:`` and 64 lower-case hexadecimal digits. Source: OCI image-spec 1.1, descriptor.md, Digests."""

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        """Raises ValueError when ``text`` is not of that form."""
        if not _FORM.match(text):
            raise ValueError(f"not a digest: {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, hexadecimal: str) -> Digest:
        return cls("sha256:" + hexadecimal)

    @property
    def hex(self) -> str:
        return self[7:]

    @property
    def short(self) -> str:
        """The form for people: the first 12 hexadecimal digits."""
        return self[7:19]
