"""Certificates, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from instar.model.certificate import CertificateStatus
from instar.views.page import Page, Table

if TYPE_CHECKING:
    from instar.certificates.renewals import Renewal

_SOURCES = {"acme": "ACME", "internal": "this machine", "files": "files"}


def certificates_json(found: Sequence[CertificateStatus], now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "environment": str(one.wanted.environment),
            "names": list(one.wanted.names),
            "source": one.wanted.source,
            "issuer": one.held.issuer if one.held is not None else None,
            "fingerprint": one.held.fingerprint if one.held is not None else None,
            "not_before": one.held.not_before if one.held is not None else None,
            "not_after": one.held.not_after if one.held is not None else None,
            "days_left": _days_left(one, now),
            "served": one.served,
            "renew_at": one.renew_at,
            "failures": one.failures,
            "error": one.error,
        }
        for one in found
    ]


def renewals_json(done: Sequence[Renewal]) -> list[dict[str, Any]]:
    return [
        {
            "environment": str(one.wanted.environment),
            "names": list(one.wanted.names),
            "outcome": one.outcome,
            "fingerprint": one.held.fingerprint if one.held is not None else None,
            "not_after": one.held.not_after if one.held is not None else None,
            "error": one.error.message if one.error is not None else None,
        }
        for one in done
    ]


def certificates_page(found: Sequence[CertificateStatus], now: datetime) -> Page:
    rows = [
        (
            ", ".join(one.wanted.names),
            str(one.wanted.environment),
            _SOURCES[one.wanted.source],
            one.held.issuer if one.held is not None else "",
            _left(one, now),
            _next(one, now),
        )
        for one in found
    ]
    if not rows:
        yield "no environment here has names of https: listen: {https: [shop.example]} in a definition asks for one"
        return
    yield Table(rows=rows, header=("NAMES", "ENVIRONMENT", "FROM", "ISSUER", "LEFT", "NEXT"))
    yield from _causes(found)


def _causes(found: Sequence[CertificateStatus]) -> Iterator[str]:
    for one in found:
        if one.error is not None:
            yield f"{', '.join(one.wanted.names)}: {one.error}"
        if one.held is not None and one.served is False:
            yield f"{', '.join(one.wanted.names)}: the edge does not show it; the agent, or a deploy, puts that right"


def _days_left(one: CertificateStatus, now: datetime) -> float | None:
    return None if one.held is None else round((one.held.not_after - now).total_seconds() / 86_400, 2)


def _left(one: CertificateStatus, now: datetime) -> str:
    if one.held is None:
        return "none yet"
    seconds = (one.held.not_after - now).total_seconds()
    return "expired" if seconds <= 0 else _duration(seconds)


def _next(one: CertificateStatus, now: datetime) -> str:
    if one.renew_at is None:
        return "newer files, and a deploy"
    what = "order" if one.held is None else "renewal"
    seconds = (one.renew_at - now).total_seconds()
    again = " again" if one.failures else ""
    return f"{what}{again} now" if seconds <= 0 else f"{what}{again} in {_duration(seconds)}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
