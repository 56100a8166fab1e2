"""Certificates of an environment's https names: what one is, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from instar.frozen import dataclass
from instar.model.release import EnvironmentId

Source = Literal["acme", "internal", "files"]
SOURCES: Final[tuple[Source, ...]] = ("acme", "internal", "files")


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What stands in a certificate that can be told anybody. ``fingerprint``: SHA-256 of its DER form, in hexadecimal
    digits; ``renewal_id``: what its authority's renewal information calls it, None where it has not what that needs."""

    names: tuple[str, ...]
    issuer: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    renewal_id: str | None = None

    @property
    def life(self) -> timedelta:
        return self.not_after - self.not_before

    def covers(self, names: Sequence[str]) -> bool:
        """Tell whether a client that asks for any of ``names`` finds it here."""
        return all(any(matches(own, name) for own in self.names) for name in names)


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedCertificate:
    """A certificate that an environment's names need. Those of files have as many names as the files cover."""

    environment: EnvironmentId
    source: Source
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """What it is called among those of its source: a path's part, the same for as long as it is wanted."""
        if self.source == "files":
            return f"{self.environment.service}--{self.environment.name}"
        return self.names[0].replace("*", "_")


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateStatus:
    """A wanted certificate as ``instar certificates`` shows it. ``held`` is None while there is none; ``renew_at`` is
    when it is renewed, or tried again. ``served``: the edge has it; None where nobody could be asked."""

    wanted: WantedCertificate
    held: Certificate | None
    served: bool | None
    renew_at: datetime | None
    error: str | None
    failures: int


def matches(own: str, name: str) -> bool:
    """Tell whether a certificate's name is that of a host, or of one label before the same rest (RFC 6125)."""
    own, name = own.lower(), name.lower()
    if own == name:
        return True
    return own.startswith("*.") and not name.startswith("*.") and name.partition(".")[2] == own[2:]
