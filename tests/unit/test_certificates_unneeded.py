"""How long what no name needs any more is kept: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from instar.certificates.record import CertificateRecord
from instar.certificates.unneeded import is_of_no_use
from instar.model.certificate import Certificate

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def held(ends: datetime) -> CertificateRecord:
    begins = ends - 90 * DAY
    one = Certificate(
        names=("shop.example",), issuer="R3", fingerprint="ab" * 32, not_before=begins, not_after=ends, renewal_id="a.b"
    )
    return CertificateRecord(certificate=one)


@pytest.mark.parametrize(
    ("record", "written_at", "gone"),
    [
        (held(NOW + DAY), NOW - 89 * DAY, False),  # whoever takes the name up again needs no order
        (held(NOW), NOW - 90 * DAY, True),
        (held(NOW - DAY), NOW - 7 * DAY, False),  # its renewal was tried, and may be under way
        (held(NOW - DAY), NOW - 8 * DAY, True),
        (CertificateRecord(), NOW, False),
        (CertificateRecord(failures=3, error="refused"), NOW - 7 * DAY, False),
        (CertificateRecord(failures=3, error="refused"), NOW - 8 * DAY, True),
    ],
)
def test_one_of_acme_is_kept_while_a_name_that_came_back_could_use_it(
    record: CertificateRecord, written_at: datetime, gone: bool
) -> None:
    assert is_of_no_use("acme", record, written_at, NOW) is gone


def test_what_a_deploy_brings_again_is_not_kept() -> None:
    assert is_of_no_use("internal", held(NOW + DAY), NOW, NOW)
    assert is_of_no_use("files", held(NOW + DAY), NOW, NOW)
