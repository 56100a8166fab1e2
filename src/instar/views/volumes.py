"""Volumes, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from instar.model.release import EnvironmentId
from instar.model.sizes import size_text
from instar.model.volume import DataBack, KeptVolume, VolumeSnapshot
from instar.providers.base import StoredVolume
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


def staying_lines(
    environment: EnvironmentId, volumes: Sequence[StoredVolume] | None, snapshots: int = 0
) -> Iterator[str]:
    """Yield which volumes of an environment stay that is gone, and what removes them (None: nobody can tell), and how
    many ``snapshots`` of them do."""
    if volumes is None:
        yield f"volumes of {environment} may stay: which, cannot be told now; instar volumes shows those that it finds"
    for one in volumes or ():
        removed = one.removed_by or f"instar volumes remove {environment} {one.name}"
        what = "the claim " if one.removed_by else "in "
        yield f"the volume '{one.name}' stays, {what}{one.where}, with all its data; remove it by: {removed}"
    if snapshots:
        yield f"{snapshots} snapshots of its volumes stay: instar volumes snapshots"


def data_back_lines(back: DataBack) -> Iterator[str]:
    """Yield what a rollback with data does, and what that costs, a line each."""
    for one in back.snapshots:
        taken = ", taken while it was written" if one.running else ""
        size = f", {size_text(one.used_bytes)}" if one.used_bytes is not None else ""
        what = "what it held before" if back.target is None else f"what release {back.target} left in it"
        yield (
            f"the volume '{one.volume}' gets {what}: snapshot {one.number} of "
            f"{one.at:%Y-%m-%d %H:%M:%S} UTC{size}{taken}; what it holds now is kept as another snapshot"
        )
    stops = ", ".join(back.instances) or "nothing that runs"
    copied = "" if back.copied_bytes is None else f", and {size_text(back.copied_bytes)} are copied first"
    again = (
        f"release {back.target} does"
        if back.target is not None
        else f"release {back.active} starts again, as another release"
    )
    yield f"stops {stops}: nothing that has it answers until {again}{copied}"


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
            "release": one.cause.release if one.cause is not None else None,
            "before": one.cause.before if one.cause is not None else None,
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
            "while instances ran" if one.running else "at rest",
            "somebody asked" if one.cause is None else f"left by release {one.cause.release} before {one.cause.before}",
            one.where,
        )
        for one in snapshots
    ]
    if rows:
        header = ("ENVIRONMENT", "VOLUME", "SNAPSHOT", "AT (UTC)", "SIZE", "DATA", "WHY", "WHERE")
        yield Table(rows=rows, header=header)
    else:
        yield "no snapshot of a volume is kept here: instar volumes snapshot SERVICE/ENV NAME"
