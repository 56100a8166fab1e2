"""Volumes, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instar.model.sizes import size_text
from instar.model.volume import KeptVolume
from instar.views.page import Page, Table


def volumes_json(volumes: Sequence[KeptVolume]) -> list[dict[str, Any]]:
    return [
        {
            "service": one.environment.service,
            "environment": one.environment.name,
            "name": one.name,
            "path": one.where,
            "bytes": one.used_bytes,
            "environment_exists": one.environment_exists,
            "instances": one.instances,
        }
        for one in volumes
    ]


def volumes_page(volumes: Sequence[KeptVolume]) -> Page:
    rows = [
        (
            str(one.environment),
            one.name,
            "?" if one.used_bytes is None else size_text(one.used_bytes),
            ", ".join(one.instances)
            or ("nothing now" if one.environment_exists else "nothing: the environment is gone"),
            one.where,
        )
        for one in volumes
    ]
    if rows:
        yield Table(rows=rows, header=("ENVIRONMENT", "VOLUME", "SIZE", "USED BY", "WHERE"))
    else:
        yield "no volume is kept here"
