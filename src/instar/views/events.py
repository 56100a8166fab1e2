"""Events of the history, as JSON, as a line, and as the sentence of a notice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from instar.model.codec import to_json
from instar.model.release import Event
from instar.views.page import Page, Table

WIDTH: Final = 80
_REASON_LENGTH: Final = 500
_NOT_NOTIFIED: Final = ("last_lines",)  # what an instance printed may hold anything
_TAINTED_BY: Final = {"person": "by hand", "shell": "a shell", "drift": "drift"}


def event_json(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at,
        "actor": event.actor,
        "kind": event.kind,
        "release": event.release,
        "image": event.image,
        "detail": event.detail,
        "hash": event.hash,
        "environment": str(event.environment) if event.environment else None,
    }


def history_page(events: Sequence[Event], *, width: int | None = WIDTH) -> Page:
    """Yield a table of ``events``; no detail is wider than ``width`` (None: each is whole)."""
    rows = [
        (
            event.at.strftime("%Y-%m-%d %H:%M:%S"),
            event.actor,
            str(event.environment or ""),
            event.kind,
            str(event.release or ""),
            detail_line(event.kind, event.detail, width=width),
        )
        for event in events
    ]
    yield Table(rows=rows, header=("AT (UTC)", "ACTOR", "ENVIRONMENT", "WHAT", "RELEASE", "DETAIL"))


def notice_json(event: Event) -> dict[str, Any]:
    """Return what is sent. ``text`` is one sentence for people. What an instance printed is left out."""
    told: dict[str, Any] = to_json(event)
    where = event.environment
    told["service"], told["environment"] = (where.service, where.name) if where else (None, None)
    told["detail"] = {key: value for key, value in told["detail"].items() if key not in _NOT_NOTIFIED}
    del told["hash"]
    told["text"] = sentence(event)
    return told


def sentence(event: Event) -> str:
    """Return what happened, in one sentence for people."""
    where, reason = str(event.environment or "this machine"), _reason(event)
    match event.kind:
        case "rollout-done":
            return f"{where} runs release {event.release}"
        case "rollout-failed":
            return f"{where}: the rollout to release {event.release} was undone{reason}"
        case "verdict":
            return f"{where}: the analysis of release {event.release} failed{reason}"
        case "alarm":
            return f"{where} needs attention{reason}"
        case "taken-over":
            return f"{where}: {event.actor} took over from process {event.detail.get('pid')}"
        case "names":
            return f"{where}: {_names(event)}"
        case "name-adopted":
            return f"{where}: {event.actor} took the environment over for another project of that name"
        case "taint":
            return f"{where}: {event.actor} tainted {event.detail.get('instance')}, which will be replaced{reason}"
        case "drift":
            what = event.detail.get("instance") or "what its instances share"
            return f"{where}: {what} has drifted{_first_finding(event)}"
        case "damaged":
            return f"{where}: {event.detail.get('what')} is damaged{reason}"
        case "watch-failed":
            return f"{where} rolls back to release {event.detail.get('back_to')} automatically{reason}"
        case "ended":
            instance, why = event.detail.get("instance"), _cause(str(event.detail.get("why", "")))
            return f"{where}: {instance} ended unexpectedly{why}"
        case "destroyed":
            return f"{where}: {event.detail.get('instance')} is destroyed{reason}"
        case "maintenance":
            on = "on" if event.detail.get("on") else "off"
            return f"{where}: {event.actor} turned maintenance {on}"
        case "notification-lost":
            return f"{where}: {_lost(event)}{reason}"
        case _:
            return f"{where}: {_SENTENCES.get(event.kind) or _of_certificate(event) or event.kind}{reason}"


def detail_line(kind: str, detail: Mapping[str, Any], *, width: int | None = WIDTH) -> str:
    """Return a kind of event's detail on a line: in words where it has some, else its fields one by one."""
    words = _WORDS.get(kind, _fields)
    try:
        text = words(detail)
    except (KeyError, TypeError, ValueError):  # written by another version
        text = _fields(detail)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _taint(detail: Mapping[str, Any]) -> str:
    aside = ", isolated" if detail["isolated"] else ""
    how = f"{_TAINTED_BY.get(detail['taint'], detail['taint'])}{aside}, due {_clock(detail['due_at'])}"
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


def _clock(time: str) -> str:
    return datetime.fromisoformat(time).strftime("%H:%M:%S")


def _names(event: Event) -> str:
    """Say which names an environment has now."""
    held = ", ".join(event.detail.get("held", ())) or "no name"
    expected, to = ", ".join(event.detail.get("expected", ())), event.detail.get("to")
    more = f", and will be by {expected}" if expected else f"; others are reached by '{to}' now" if to else ""
    return f"it is reached by {held}{more}"


def _lost(event: Event) -> str:
    if event.detail.get("of") is None:
        return "notices were lost"
    return f"notice {event.detail.get('of')} could not be delivered in {event.detail.get('tries')} tries"


_SENTENCES: Final = {
    "alarm-over": "the alarm is over; instances are replaced again",
    "router-restored": "its router was changed, and has been restored",
    "network-restored": "the machine's network rules for instances were changed, and have been restored",
}


def _of_certificate(event: Event) -> str:
    names, end = ", ".join(map(str, event.detail.get("names") or ["a name"])), event.detail.get("not_after")
    match event.kind:
        case "certificate":
            return f"{names} has a certificate until {end}"
        case "certificate-failed":
            return f"there is no new certificate for {names}"
        case "certificate-expiring":
            return f"the certificate of {names} ends at {end}, and was not renewed"
        case _:
            return ""


def _first_finding(event: Event) -> str:
    """Return the first of what was found, and how many there are besides."""
    findings = event.detail.get("findings") or [{}]
    first = " ".join(str(findings[0].get(name, "")) for name in ("kind", "path", "observed"))
    more = int(event.detail.get("count", 1)) - 1
    return _cause(f"{first} (and {more} more)" if more > 0 else first)


def _reason(event: Event) -> str:
    """Return ": why" on one line, nothing where no reason is known."""
    return _cause(next((str(event.detail[name]) for name in ("reason", "cause", "why") if event.detail.get(name)), ""))


def _cause(text: str) -> str:
    """Return ": TEXT" on one line, nothing where there is no text."""
    words = text.split()
    line = "".join(one if one.isprintable() else "?" for one in " ".join(words))
    if len(line) > _REASON_LENGTH:
        line = f"{line[:_REASON_LENGTH]}…"
    return f": {line}" if line else ""


_WORDS = {
    "taint": _taint,
    "shell": _shell,
    "shell-ended": _ended,
    "drift": _drift,
    "ended": _instance_ended,
    "stopping": _instance_ended,
}
