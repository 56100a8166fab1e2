"""When a certificate is ordered, and when it is renewed: pure functions of what is wanted, what is held, and now.

By the renewal information of its authority (ARI), else at two thirds of its life: lives get shorter, so that no number
of days is right. What failed is tried again with growing pauses, which keep within what authorities allow.

Source: RFC 9773, section 4.2; Let's Encrypt, "Rate Limits" (5 failed validations a name and hour).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from instar.certificates.record import CertificateRecord
from instar.model.certificate import Certificate, WantedCertificate

_JITTER: Final = 1 / 30  # of the life: certificates of one day are not all renewed in one minute
_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(hours=6)
_GROWTH: Final = 4
_UNREACHABLE_PAUSES: Final = (timedelta(seconds=10), timedelta(minutes=10))  # the first, doubled, and the longest
_LONGEST_ASKED_FOR: Final = timedelta(days=8)  # of pauses that an authority asks for
_LATE: Final = 1 / 6  # of a life is left, but no more than _LATE_AT_MOST, and it is not renewed: somebody has to look
_LATE_AT_MOST: Final = timedelta(days=21)
ASK_EVERY: Final = timedelta(hours=6)


def order_at(wanted: WantedCertificate, record: CertificateRecord, authority: str, now: datetime) -> datetime:
    """Return when ``wanted`` is ordered (of ``authority``), or tried again: ``now`` or before when it is time."""
    due = needed_at(wanted, record, authority, now)
    return max(due, record.retry_at) if record.retry_at is not None else due


def needed_at(wanted: WantedCertificate, record: CertificateRecord, authority: str, now: datetime) -> datetime:
    """Return the same, whatever has failed before."""
    held = record.certificate
    if held is None or record.authority not in (None, authority) or not held.covers(wanted.names):
        return now
    return renewal_at(held, record)


def renewal_at(held: Certificate, record: CertificateRecord) -> datetime:
    """Return when a certificate that is held is renewed."""
    latest = held.not_after - held.life * _LATE
    if record.renew_at is not None:
        return min(record.renew_at, latest)
    return held.not_before + held.life * (2 / 3 - _JITTER * share(held.fingerprint))


def moment_between(start: datetime, end: datetime, fingerprint: str) -> datetime:
    """Return the moment of a suggested window that is this certificate's: the same whenever it is asked."""
    return start + max(end - start, timedelta(0)) * share(fingerprint)


def share(fingerprint: str) -> float:
    """Return a number from 0 to 1 that is a certificate's own."""
    return int(fingerprint[:8], 16) / 0xFFFFFFFF


def asks_at(record: CertificateRecord) -> datetime | None:
    """Return when renewal information is asked for; None of a certificate that has none."""
    if record.certificate is None or record.certificate.renewal_id is None:
        return None
    return record.ask_at or record.certificate.not_before


def pause_after(failures: int, key: str, asked_for: timedelta | None = None, *, unreachable: bool = False) -> timedelta:
    """Return how long nothing is tried after so many failures in a row. ``asked_for`` is what the authority said;
    ``unreachable``: the name does not lead here yet, so that no authority was asked."""
    spread = 1 + 0.1 * (sum(key.encode()) % 11) / 10
    if unreachable:
        first, longest = _UNREACHABLE_PAUSES
        pause = min(first * float(2 ** min(failures - 1, 16)), longest)
    else:
        pause = min(_FIRST_PAUSE * float(_GROWTH ** min(failures - 1, 8)), _LONGEST_PAUSE)
    return max(pause * spread, bounded(asked_for or timedelta(0)))


def bounded(asked_for: timedelta) -> timedelta:
    """Return a pause that an authority asks for, but none that would never end."""
    return min(asked_for, _LONGEST_ASKED_FOR)


def is_late(held: Certificate, now: datetime) -> bool:
    """Tell whether so little of a certificate's life is left that its renewal should long have been there."""
    return now >= held.not_after - min(held.life * _LATE, _LATE_AT_MOST)
