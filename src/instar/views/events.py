"""Events of the history, as JSON, as a line, and as the sentence of a notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from instar.model.codec import to_json
from instar.model.events import Event, read
from instar.model.happenings import (
    CertificateExpiring,
    CertificateFailed,
    CertificateHeld,
    DamageFound,
    GarbageCollected,
    Happening,
    MaintenanceSet,
    NamesHeld,
    NoticeLost,
    OccurrencesMissed,
    ReleaseMade,
    SnapshotTaken,
    VolumeRestored,
)
from instar.model.instance_happenings import (
    DriftFound,
    InstanceCreated,
    InstanceDestroyed,
    InstanceEnded,
    InstancesPlanned,
    InstanceStarted,
    InstanceStopping,
    InstanceTainted,
    MemberRemoved,
    MemberSetAside,
    MemberTainted,
    OfEnding,
    ShellEnded,
    ShellOpened,
)
from instar.model.printable import printable
from instar.model.release import TaintKind, shown_instance
from instar.model.rollout_happenings import (
    DataKept,
    DataRestored,
    RolloutAborted,
    RolloutBegun,
    RolloutDone,
    RolloutFailed,
    RolloutPaused,
    RolloutResumed,
    SmokePassed,
    StepJudged,
    StepTaken,
    TaskEnded,
    TrafficShifted,
)
from instar.model.sizes import size_text
from instar.views.page import Page, Table
from instar.views.releases import origin_line
from instar.views.sentences import SENTENCES, UNREADABLE

WIDTH: Final = 80
_REASON_LENGTH: Final = 500
_NOT_NOTIFIED: Final = ("last_lines",)  # what an instance printed may hold anything
_REPLACED: Final = {
    "ended": "others had ended",
    "unwell": "others no longer answered",
    "tainted": "others were tainted",
    "drifted": "others had drifted",
    "old": "others were too old",
    "hot": "a hot release lacked it",
}
_TAINTED_BY: Final[Mapping[TaintKind, str]] = {"person": "by hand", "shell": "a shell", "drift": "drift"}


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
            _cut(_detail(event), width),
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


def _detail(event: Event) -> str:
    """Return what there is to say of an event beside its kind, who did it and to which release: its sentence, where a
    kind has no such words."""
    line = detail_line(event.kind, event.detail, width=None)
    return line if type(event.what) in {*_WORDS, *UNREADABLE} else _within(event)


def decisions_table(events: Sequence[Event], *, width: int | None = WIDTH) -> Table:
    """Return when what happened, an event a line, of one environment, which is named above. No sentence is wider than
    ``width`` (None: each is whole)."""
    rows = [(event.at.strftime("%Y-%m-%d %H:%M:%S"), _cut(_within(event), width)) for event in events]
    return Table(rows=rows, header=("AT (UTC)", "WHAT"))


def _within(event: Event) -> str:
    return sentence(event).removeprefix(f"{event.environment or 'this machine'}: ")


def sentence(event: Event) -> str:
    """Return what happened, in one sentence for people."""
    what, reason = event.what, _reason(event)
    text = SENTENCES[type(what)]
    where = event.environment or (isinstance(what, DamageFound) and what.machine) or "this machine"
    return text.format(where=where, event=event, what=what, reason=reason, **_more(what))


def detail_line(kind: str, detail: Mapping[str, Any], *, width: int | None = WIDTH) -> str:
    """Return a kind of event's detail on a line: in words where it has some, else its fields one by one."""
    what = read(kind, detail)
    words = _WORDS.get(type(what))
    text = words(what) if words is not None else _fields(detail)
    text = f"({UNREADABLE[type(what)]}) {text}".rstrip() if type(what) in UNREADABLE else text
    return _cut(text, width)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _times(what: OccurrencesMissed) -> str:
    if what.count == 1:
        return f"at {what.last}"
    return f"{what.count} times{' or more' * what.more}, from {what.first} to {what.last}"


def _made(what: ReleaseMade) -> str:
    origin = f"{origin_line(what.origin)} · " if what.origin else ""
    return f"{origin}configuration={what.configuration.removeprefix('sha256:')}"


def _taint(what: InstanceTainted) -> str:
    aside = ", isolated" if what.isolated else ""
    return f"{what.instance} ({_TAINTED_BY[what.taint]}{aside}, due {_clock(what.due_at)}): {what.why}"


def _member_taint(what: MemberTainted) -> str:
    return f"{what.member} of {what.instance} ({_TAINTED_BY[what.taint]}, due {_clock(what.due_at)}): {what.why}"


def _member_removed(what: MemberRemoved) -> str:
    return f"{what.member} of {what.instance}: {what.why}"


def _shell(what: ShellOpened) -> str:
    did = f", runs '{what.command}'" if what.command is not None else ""
    tools = ", with the toolbox" if what.toolbox else ""
    return f"{what.member or what.instance}: {what.why}{tools}{did}"


def _shell_ended(what: ShellEnded) -> str:
    how = f"exit status {what.exit_status}" if what.exit_status is not None else "ended"
    cause = f", {what.cause}" if what.cause else ""
    return f"{what.instance} {how} after {what.seconds:g} s{cause}, {what.different}"


def _ended(what: OfEnding) -> str:
    status = f" (exit status {what.exit_status})" if (what.exit_status or 0) > 128 else ""
    return f"{what.shown}: {what.why}{status}"


def _task(what: TaskEnded) -> str:
    """Say how it ended and, of one that did not end well, what it printed last."""
    said = what.last_lines[-1].split(" ", 2)[-1] if what.last_lines and what.outcome != "done" else ""
    return f"{what.task} · {what.outcome}{_cause(said)}"


def _planned(what: InstancesPlanned) -> str:
    of = ", ".join(shown_instance(name, what.role) for name in what.instances or ())
    runs = f": {what.task}" if what.task else ""
    return f"{of}{runs}{f', since {_REPLACED[what.replacing]}' if what.replacing in _REPLACED else ''}"


def _begun(what: RolloutBegun) -> str:
    source = f" from release {what.source}" if what.source is not None else ""
    secrets = f" · other secrets: {', '.join(what.secrets)}" if what.secrets else ""
    promotion = " · in spite of 'promote_from'" if what.break_promotion else ""
    return f"{what.kind}{source}{secrets}{promotion}{_cause(what.reason or what.forced or '')}"


def _done(what: RolloutDone) -> str:
    found = what.measured
    words = (
        ("switch_ms", lambda value: f"moved in {value} ms"),
        ("gap_ms", lambda value: f"gap of {value} ms"),
        ("drained", lambda value: f"{value} requests finished, {found.get('cut')} cut"),
        ("warning", str),
    )
    return " · ".join(text(found[name]) for name, text in words if found.get(name) is not None)


def _verdict(what: StepJudged) -> str:
    return f"step {what.step} {'passed' if what.passed else 'not passed'}{_cause(what.cause)}"


def _shifted(what: TrafficShifted) -> str:
    source = f"from release {what.source}" if what.source is not None else ""
    return f"{source}{_cause(what.reason or '')}".removeprefix(": ")


def _drift(what: DriftFound) -> str:
    return f"{what.instance or 'the environment'}{_cause(_first_finding(what))}"


def _fields(detail: Mapping[str, Any]) -> str:
    said = {key: value for key, value in detail.items() if value not in (None, "") and not isinstance(value, dict)}
    words = [f"{key}={_plain(value)}" for key, value in said.items()]
    return " ".join(word.replace("sha256:", "") for word in words)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).strftime("%H:%M:%S")
    except ValueError:
        return time


def _more(what: Happening) -> Mapping[str, str]:
    """Return what a sentence tells besides the fields of what happened."""
    match what:
        case DriftFound():
            return {"who": what.instance or "what its instances share", "first": _cause(_first_finding(what))}
        case NamesHeld():
            return {"more": _names(what)}
        case RolloutBegun() | TrafficShifted():
            return {"source": f", from release {what.source}" if what.source is not None else ""}
        case StepJudged():
            return {"how": "passed" if what.passed else "failed"}
        case InstancesPlanned():
            return {"planned": _planned(what)}
        case CertificateHeld() | CertificateFailed() | CertificateExpiring():
            return {"names": ", ".join(what.names)}
        case OccurrencesMissed():
            return {"times": _times(what)}
        case MaintenanceSet():
            return {"state": "on" if what.on else "off"}
        case InstanceEnded() | InstanceStopping():
            return {"why": _cause(what.why)}
        case ShellOpened():
            return {"shell": _shell(what)}
        case ShellEnded():
            return {"shell": _shell_ended(what)}
        case SnapshotTaken() | DataKept():
            return {"running": ", which instances had meanwhile" if what.running else ""}
        case VolumeRestored():
            return {"kept": f"; what it held before is in snapshot {what.kept}" if what.kept is not None else ""}
        case DataRestored():
            return {"back": ", since the rollout is given up" if what.back else ""}
        case GarbageCollected():
            return {"removed": _removed(what)}
        case NoticeLost(of=None):
            return {"lost": "notices were lost"}
        case NoticeLost():
            return {"lost": f"notice {what.of} could not be delivered in {what.tries} tries"}
    return {}


def _removed(what: GarbageCollected) -> str:
    """Say how much a collection of garbage has removed, of what there was any."""
    counts = {
        "image": len(what.images),
        "blob": what.blobs,
        "log": what.logs,
        "fetched file": what.fetched,
        "recording": what.recordings,
        "secret": what.secrets,
        "certificate": what.certificates,
    }
    of = [f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items() if count]
    return f"{', '.join(of) or 'nothing'} ({size_text(what.size_bytes)})"


def _names(what: NamesHeld) -> str:
    """Say which names an environment has now."""
    more = f", and will be by {', '.join(what.expected)}" if what.expected else ""
    more = more or (f"; others are reached by '{what.to}' now" if what.to else "")
    return f"{', '.join(what.held) or 'no name'}{more}"


def _first_finding(drift: DriftFound) -> str:
    """Return the first of what was found, and how many there are besides."""
    if not drift.findings:
        return ""
    kind, path, observed = (drift.findings[0].get(name, "?") for name in ("kind", "path", "observed"))
    more = f" (and {drift.count - 1} more)" if drift.count > 1 else ""
    return f"{kind} {path}: {observed}{more}"


def _reason(event: Event) -> str:
    """Return ": why" on one line, nothing where no reason is known."""
    return _cause(next((str(event.detail[name]) for name in ("reason", "cause", "why") if event.detail.get(name)), ""))


def _cause(text: str) -> str:
    """Return ": TEXT" on one line, nothing where there is no text."""
    words = text.split()
    line = printable(" ".join(words))
    if len(line) > _REASON_LENGTH:
        line = f"{line[:_REASON_LENGTH]}…"
    return f": {line}" if line else ""


_WORDS: Final[Mapping[type[Happening], Callable[[Any], str]]] = {
    ReleaseMade: _made,
    InstanceTainted: _taint,
    MemberTainted: _member_taint,
    MemberSetAside: lambda what: f"{what.member} of {what.instance}, kept as evidence",
    MemberRemoved: _member_removed,
    ShellOpened: _shell,
    ShellEnded: _shell_ended,
    DriftFound: _drift,
    InstanceEnded: _ended,
    InstanceStopping: _ended,
    TaskEnded: _task,
    InstancesPlanned: _planned,
    InstanceCreated: lambda what: what.instance,
    InstanceStarted: lambda what: what.instance,
    InstanceDestroyed: lambda what: f"{what.instance}{_cause(what.reason)}",
    RolloutBegun: _begun,
    RolloutDone: _done,
    RolloutFailed: lambda what: _cause(str(what.measured.get("reason") or "")).removeprefix(": "),
    SmokePassed: lambda what: ", ".join(what.instances),
    StepTaken: lambda what: f"{what.percent} % (step {what.step})",
    StepJudged: _verdict,
    RolloutPaused: lambda what: _cause(what.reason).removeprefix(": "),
    RolloutResumed: lambda what: f"at step {what.step}",
    RolloutAborted: lambda what: _cause(what.reason).removeprefix(": "),
    TrafficShifted: _shifted,
    OccurrencesMissed: lambda what: f"'{what.entry}' did not begin: {_times(what)}",
}
