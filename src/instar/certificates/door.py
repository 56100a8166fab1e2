"""What certificates are shown by, and what answers for the names meanwhile: a port of this room's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Door(Protocol):
    """The machine's door for https. Each raises RouterError."""

    def serve(self, names: Sequence[str], chain: bytes, key: bytes) -> None:
        """Show a certificate to whoever asks for one of ``names``, in place of what was shown for them."""

    def withdraw(self, names: Sequence[str]) -> None: ...

    def served(self) -> Mapping[str, str]:
        """Return the fingerprint of what is shown, by name."""

    def answer_challenges(self, thumbprint: str | None) -> None:
        """Answer every challenge of http-01 with the account key's thumbprint."""

    def answer_nonce(self, nonce: str | None) -> None:
        """Answer ``GET /.well-known/instar/NONCE`` with the nonce, whatever the name."""
