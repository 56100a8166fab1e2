"""What Instar stands on, as JSON and as a page."""

from __future__ import annotations

from typing import Any

from instar.model.codec import to_json
from instar.model.component import Diagnosis
from instar.views.page import Page, Table


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"complete": diagnosis.complete, **to_json(diagnosis)}


def diagnosis_page(diagnosis: Diagnosis) -> Page:
    rows = [
        (
            one.name,
            one.found or ("MISSING" if one.required else one.instead),
            one.purpose,
            "" if one.found else one.get,
        )
        for one in diagnosis.components
    ]
    yield Table(rows=rows, header=("COMPONENT", "FOUND", "WHAT FOR", "HOW TO GET IT"))
