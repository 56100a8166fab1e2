"""When certificates are ordered and renewed: pure functions of what is wanted, what is held, and now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.certificates import schedule
from instar.certificates.record import CertificateRecord
from instar.model.certificate import Certificate, WantedCertificate, matches
from instar.model.release import EnvironmentId

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
WANTED = WantedCertificate(
    environment=EnvironmentId(service="shop", name="production"), source="acme", names=("shop.example",)
)
LIVES = st.timedeltas(min_value=timedelta(minutes=10), max_value=timedelta(days=3650))
PRINTS = st.text("0123456789abcdef", min_size=64, max_size=64)


def held(
    *, life: timedelta = 90 * DAY, fingerprint: str = "ab" * 32, names: tuple[str, ...] = ("shop.example",)
) -> Certificate:
    return Certificate(
        names=names,
        issuer="R3",
        fingerprint=fingerprint,
        not_before=NOW,
        not_after=NOW + life,
        renewal_id="a.b",
    )


def at(record: CertificateRecord, *, authority: str = "A", now: datetime = NOW) -> datetime:
    return schedule.order_at(WANTED, record, authority, now)


def test_what_is_missing_or_not_as_wanted_is_ordered_now() -> None:
    assert at(CertificateRecord()) == NOW
    assert at(CertificateRecord(certificate=held(), authority="B")) == NOW
    assert at(CertificateRecord(certificate=held())) > NOW + 50 * DAY  # its record was damaged
    assert at(CertificateRecord(certificate=held(names=("other.example",)), authority="A")) == NOW
    assert at(CertificateRecord(certificate=held(names=("*.example", "shop.example")), authority="A")) > NOW + 50 * DAY


def test_nothing_is_tried_before_its_pause_is_over() -> None:
    assert at(CertificateRecord(retry_at=NOW + DAY)) == NOW + DAY
    assert at(CertificateRecord(certificate=held(), authority="A", retry_at=NOW + DAY)) > NOW + 50 * DAY


@given(LIVES, PRINTS)
def test_it_is_renewed_a_little_before_two_thirds_of_any_life(life: timedelta, fingerprint: str) -> None:
    one = held(life=life, fingerprint=fingerprint)
    renewed = at(CertificateRecord(certificate=one, authority="A")) - NOW
    assert life * 0.63 <= renewed <= life * (2 / 3) + timedelta(seconds=1)


@given(LIVES, PRINTS, st.timedeltas(min_value=-DAY, max_value=4000 * DAY))
def test_what_the_authority_says_counts_but_never_so_long_that_it_would_end(
    life: timedelta, fingerprint: str, said: timedelta
) -> None:
    one = held(life=life, fingerprint=fingerprint)
    moment = at(CertificateRecord(certificate=one, authority="A", renew_at=NOW + said))
    assert moment <= NOW + max(said, timedelta(0)) or said < timedelta(0)
    assert moment < one.not_after


@given(PRINTS, st.timedeltas(min_value=-DAY, max_value=30 * DAY))
def test_a_certificates_moment_in_a_window_is_its_own_and_stays(fingerprint: str, width: timedelta) -> None:
    found = schedule.moment_between(NOW, NOW + width, fingerprint)
    assert NOW <= found <= max(NOW, NOW + width)
    assert found == schedule.moment_between(NOW, NOW + width, fingerprint)


@given(st.integers(min_value=1, max_value=10_000), st.text(max_size=50))
def test_pauses_grow_and_keep_within_what_authorities_allow(failures: int, key: str) -> None:
    pause = schedule.pause_after(failures, key)
    assert timedelta(minutes=1) <= pause <= timedelta(hours=6.6)
    assert schedule.pause_after(failures + 1, key) >= pause
    assert schedule.pause_after(failures, key, unreachable=True) <= timedelta(minutes=11)


def test_five_tries_an_hour_are_never_exceeded() -> None:
    moments, moment = [NOW], NOW
    for failures in range(1, 20):
        moment += schedule.pause_after(failures, "shop.example")
        moments.append(moment)
    for first in moments:
        assert sum(first <= one < first + timedelta(hours=1) for one in moments) <= 5


def test_a_pause_that_the_authority_asks_for_is_kept_but_not_for_ever() -> None:
    assert schedule.pause_after(1, "k", timedelta(hours=40)) == timedelta(hours=40)
    assert schedule.pause_after(1, "k", timedelta(days=4000)) == timedelta(days=8)


@pytest.mark.parametrize(("life", "late_after"), [(90 * DAY, 75 * DAY), (6 * DAY, 5 * DAY), (398 * DAY, 377 * DAY)])
def test_it_is_late_when_little_of_its_life_is_left(life: timedelta, late_after: timedelta) -> None:
    assert not schedule.is_late(held(life=life), NOW + late_after - timedelta(hours=1))
    assert schedule.is_late(held(life=life), NOW + late_after)
    renewed = at(CertificateRecord(certificate=held(life=life), authority="A"))
    assert not schedule.is_late(held(life=life), renewed)


@pytest.mark.parametrize(
    ("own", "name", "fits"),
    [
        ("shop.example", "shop.example", True),
        ("Shop.example", "shop.EXAMPLE", True),
        ("*.shop.example", "a.shop.example", True),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", "a.b.shop.example", False),
        ("*.shop.example", "*.shop.example", True),
        ("a.shop.example", "*.shop.example", False),
        ("shop.example", "www.shop.example", False),
        ("*", "example", False),
    ],
)
def test_wildcards_stand_for_one_label(own: str, name: str, fits: bool) -> None:
    assert matches(own, name) is fits
