"""How an event reads in a line of ``instar history``; ``--json`` has it whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

WIDTH = 80
_KINDS = {"person": "by hand", "shell": "a shell", "drift": "drift"}


def brief(kind: str, detail: Mapping[str, Any]) -> str:
    """Return what fits on a line: in words where the kind of event has some, else its fields one by one."""
    words = _WORDS.get(kind, _fields)
    try:
        text = words(detail)
    except (KeyError, TypeError, ValueError):  # written by another version
        text = _fields(detail)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def clock(time: str) -> str:
    """Return the time of day of a time in the ledger, as a history shows it (UTC)."""
    return datetime.fromisoformat(time).strftime("%H:%M:%S")


def _taint(detail: Mapping[str, Any]) -> str:
    aside = ", isolated" if detail["isolated"] else ""
    how = f"{_KINDS.get(detail['taint'], detail['taint'])}{aside}, due {clock(detail['due_at'])}"
    return f"{detail['instance']} ({how}): {detail['why']}"


def _shell(detail: Mapping[str, Any]) -> str:
    command = detail.get("command")
    did = f", runs '{command}'" if command is not None else ""
    tools = ", with the toolbox" if detail.get("toolbox") else ""
    return f"{detail['instance']}: {detail['why']}{tools}{did}"


def _ended(detail: Mapping[str, Any]) -> str:
    status = detail.get("exit_status")
    how = f"exit status {status}" if status is not None else "ended"
    cause = f", {detail['cause']}" if detail.get("cause") else ""
    return f"{detail['instance']} {how} after {detail['seconds']:g} s{cause}, {detail['different']}"


def _instance_ended(detail: Mapping[str, Any]) -> str:
    status = f" (exit status {detail['exit_status']})" if detail.get("exit_status", 0) > 128 else ""
    return f"{detail['instance']}: {detail['why']}{status}"


def _drift(detail: Mapping[str, Any]) -> str:
    first = detail["findings"][0]
    more = f" (and {detail['count'] - 1} more)" if detail["count"] > 1 else ""
    return f"{detail['instance'] or 'the environment'}: {first['kind']} {first['path']}: {first['observed']}{more}"


def _fields(detail: Mapping[str, Any]) -> str:
    words = [f"{key}={value}" for key, value in detail.items() if value is not None and not isinstance(value, dict)]
    return " ".join(word.replace("sha256:", "") for word in words)


_WORDS = {
    "taint": _taint,
    "shell": _shell,
    "shell-ended": _ended,
    "drift": _drift,
    "ended": _instance_ended,
    "stopping": _instance_ended,
}
