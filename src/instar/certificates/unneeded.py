"""How long what no name needs any more is kept: pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from instar.certificates.record import CertificateRecord
from instar.model.certificate import Source

_UNDER_WAY: Final = timedelta(days=8)  # an order can be gone on with no longer, nor does an authority bar others longer


def is_of_no_use(source: Source, record: CertificateRecord, written_at: datetime, now: datetime) -> bool:
    """Tell whether a certificate that no name needs would be of use to none that came back.

    One of ACME's would until it ends: authorities allow few orders. So would an order that is under way, and what
    is known of a refusal. What this machine's own authority issued, and copies of files, are there again with the
    deploy that asks for them.
    """
    if source != "acme":
        return True
    held = record.certificate
    return (held is None or held.not_after <= now) and written_at + _UNDER_WAY <= now
