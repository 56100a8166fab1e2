"""Taints, shells and their recordings, as JSON and as pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from instar.model.break_glass import ListedRecording, ShellResult, Tainted
from instar.model.progress import Progress
from instar.views.page import Page, Table

_SHOWN: Final = 20  # differences on leaving


def tainted_json(tainted: Tainted) -> dict[str, Any]:
    environment, taint = tainted.instance.environment, tainted.taint
    return {
        "service": environment.service,
        "environment": environment.name,
        "instance": tainted.instance.id,
        "release": tainted.instance.release,
        "taint": {"kind": taint.kind, "why": taint.why, "due_at": taint.due_at, "isolated": taint.isolated},
        "agent": tainted.agent,
        **({} if tainted.member is None else {"member": tainted.member}),
    }


def tainted_page(tainted: Tainted) -> Page:
    name = tainted.member or tainted.instance.id
    if tainted.in_charge is not None:
        yield f"{name} is tainted; {tainted.in_charge} replaces it, the new one first"
    else:
        yield f"{name} is tainted, and no agent runs here: it is replaced by instar agent --once"


def shell_line(left: ShellResult) -> Progress:
    """Return how a shell was left, and what differs since it was opened."""
    found = left.differences or ()
    words = {"started": "process"}
    rows = [f"{words.get(one.kind, one.kind):<8} {one.name}  {one.what}".rstrip() for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        rows.append(f"… and {len(found) - _SHOWN} more: instar history --json has them")
    status = f"exit status {left.exit_status} · {left.seconds:.1f} s · {left.summary}"
    return Progress(stage="left", text=status, detail=(*rows, f"see it again with: instar replay {left.recording}"))


def recordings_json(recordings: Sequence[ListedRecording]) -> list[dict[str, Any]]:
    return [
        {
            "recording": one.name,
            "instance": one.instance,
            "at": one.at,
            "seconds": one.seconds,
            "title": one.title,
            "command": one.command,
            "file": str(one.path),
        }
        for one in recordings
    ]


def recordings_page(recordings: Sequence[ListedRecording]) -> Page:
    rows = [
        (
            one.name,
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            f"{one.seconds:.0f} s" if one.title is not None else "—",
            one.title.partition(" by ")[2] if one.title is not None else "cannot be read: it is not a recording",
        )
        for one in recordings
    ]
    yield Table(rows=rows, header=("RECORDING", "AT (UTC)", "LENGTH", "BY, AND WHY"))
