"""What is known of a certificate besides its bytes, and of an order that is under way."""

from __future__ import annotations

from datetime import datetime

from instar.frozen import dataclass
from instar.model.certificate import Certificate


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRecord:
    """What is known of a certificate besides its bytes.

    ``authority`` is whom it is from. ``failures`` came in a row, the last because of ``error``; nothing is tried before
    ``retry_at`` unless somebody asks for it, and not even then before ``barred_until``, which the authority has set.
    ``renew_at`` is the moment that the authority's renewal information gave, which is asked for again at
    ``ask_at``. ``recorded`` is the fingerprint that the ledger knows of, ``warned`` that of which it was told that it
    ends soon.
    """

    certificate: Certificate | None = None
    authority: str | None = None
    failures: int = 0
    error: str | None = None
    retry_at: datetime | None = None
    barred_until: datetime | None = None
    renew_at: datetime | None = None
    ask_at: datetime | None = None
    recorded: str | None = None
    warned: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """An order that is under way at ``authority``. ``url`` is None until it was placed. ``hooked``: the values that a
    command has put into the DNS for it, and that have to go again."""

    authority: str
    names: tuple[str, ...]
    url: str | None = None
    hooked: tuple[str, ...] = ()
