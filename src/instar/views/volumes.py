"""Volumes, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instar.model.sizes import size_text
from instar.model.volume import KeptVolume, VolumeSnapshot
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


def snapshots_json(snapshots: Sequence[VolumeSnapshot]) -> list[dict[str, Any]]:
    return [
        {
            "service": one.environment.service,
            "environment": one.environment.name,
            "volume": one.volume,
            "number": one.number,
            "at": one.at,
            "running": one.running,
            "path": one.where,
            "bytes": one.used_bytes,
        }
        for one in snapshots
    ]


def snapshots_page(snapshots: Sequence[VolumeSnapshot]) -> Page:
    rows = [
        (
            str(one.environment),
            one.volume,
            str(one.number),
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            "?" if one.used_bytes is None else size_text(one.used_bytes),
            "of a running service" if one.running else "of nothing that ran",
            one.where,
        )
        for one in snapshots
    ]
    if rows:
        yield Table(rows=rows, header=("ENVIRONMENT", "VOLUME", "SNAPSHOT", "AT (UTC)", "SIZE", "TAKEN", "WHERE"))
    else:
        yield "no snapshot of a volume is kept here: instar volumes snapshot SERVICE/ENV NAME"
