"""Events of the history, as JSON, as a line, and as the sentence of a notice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from instar.model.codec import to_json
from instar.model.events import Event
from instar.model.happenings import (
    AlarmOver,
    AlarmRaised,
    CertificateExpiring,
    CertificateFailed,
    CertificateHeld,
    DamageFound,
    DriftFound,
    Happening,
    InstanceDestroyed,
    InstanceEnded,
    InstanceTainted,
    MaintenanceSet,
    NameAdopted,
    NamesHeld,
    NetworkRestored,
    NoticeLost,
    RolloutDone,
    RolloutFailed,
    RouterRestored,
    StepJudged,
    TakenOver,
    UnknownHappening,
    WatchFailed,
)
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
    what, reason = event.what, _reason(event)
    text = "{where}: {event.kind}{reason} (written by another version of Instar)"
    if not isinstance(what, UnknownHappening):
        text = _SENTENCES.get(type(what), "{where}: {event.kind}{reason}")
    return text.format(where=event.environment or "this machine", event=event, what=what, reason=reason, **_more(what))


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


def _more(what: Happening) -> Mapping[str, str]:
    """Return what a sentence tells besides the fields of what happened."""
    match what:
        case DriftFound():
            return {"who": what.instance or "what its instances share", "first": _cause(_first_finding(what))}
        case NamesHeld():
            return {"more": _names(what)}
        case CertificateHeld() | CertificateFailed() | CertificateExpiring():
            return {"names": ", ".join(what.names)}
        case MaintenanceSet():
            return {"state": "on" if what.on else "off"}
        case InstanceEnded():
            return {"why": _cause(what.why)}
        case NoticeLost(of=None):
            return {"lost": "notices were lost"}
        case NoticeLost():
            return {"lost": f"notice {what.of} could not be delivered in {what.tries} tries"}
    return {}


def _names(what: NamesHeld) -> str:
    """Say which names an environment has now."""
    more = f", and will be by {', '.join(what.expected)}" if what.expected else ""
    more = more or (f"; others are reached by '{what.to}' now" if what.to else "")
    return f"{', '.join(what.held) or 'no name'}{more}"


def _first_finding(drift: DriftFound) -> str:
    """Return the first of what was found, and how many there are besides."""
    findings = drift.findings or ({},)
    first = " ".join(str(findings[0].get(name, "")) for name in ("kind", "path", "observed"))
    return f"{first} (and {drift.count - 1} more)" if drift.count > 1 else first


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
_SENTENCES: Final[Mapping[type[Happening], str]] = {
    RolloutDone: "{where} runs release {event.release}",
    RolloutFailed: "{where}: the rollout to release {event.release} was undone{reason}",
    StepJudged: "{where}: the analysis of release {event.release} failed{reason}",
    AlarmRaised: "{where} needs attention{reason}",
    AlarmOver: "{where}: the alarm is over; instances are replaced again",
    NamesHeld: "{where}: it is reached by {more}",
    CertificateHeld: "{where}: {names} has a certificate until {what.not_after}",
    CertificateFailed: "{where}: there is no new certificate for {names}{reason}",
    CertificateExpiring: "{where}: the certificate of {names} ends at {what.not_after}, and was not renewed{reason}",
    MaintenanceSet: "{where}: {event.actor} turned maintenance {state}",
    TakenOver: "{where}: {event.actor} took over from process {what.pid}",
    NameAdopted: "{where}: {event.actor} took the environment over for another project of that name",
    InstanceTainted: "{where}: {event.actor} tainted {what.instance}, which will be replaced{reason}",
    DriftFound: "{where}: {who} has drifted{first}",
    DamageFound: "{where}: {what.what} is damaged{reason}",
    WatchFailed: "{where} rolls back to release {what.back_to} automatically{reason}",
    InstanceEnded: "{where}: {what.instance} ended unexpectedly{why}",
    InstanceDestroyed: "{where}: {what.instance} is destroyed{reason}",
    RouterRestored: "{where}: its router was changed, and has been restored",
    NetworkRestored: "{where}: the machine's network rules for instances were changed, and have been restored",
    NoticeLost: "{where}: {lost}{reason}",
}
