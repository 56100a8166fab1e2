"""What a check found that is not as it was baked, as JSON and as a page."""

from __future__ import annotations

from typing import Final

from instar.drift.report import DriftReport
from instar.model.drift import Finding
from instar.views.page import Page

_WIDTH: Final = 96


def drift_json(report: DriftReport) -> dict[str, object]:
    checked = report.checked
    ignored = [{**_fields(finding), "reason": rule.reason, "until": rule.until} for finding, rule in checked.ignored]
    return {
        "service": checked.state.id.service,
        "environment": checked.state.id.name,
        "clean": checked.clean,
        "findings": [_fields(finding) for finding in checked.findings],
        "ignored": ignored,
        "instances": list(checked.instances),
        "deep": checked.deep,
        "traffic_compared": checked.at_rest,
        "layers": report.layers,
        "milliseconds": None if report.seconds is None else round(1000 * report.seconds),
        "dead": list(report.dead),
    }


def _fields(finding: Finding) -> dict[str, object]:
    names = ("instance", "kind", "path", "expected", "observed")
    return {name: getattr(finding, name) for name in names}


def drift_page(report: DriftReport) -> Page:
    """Yield how many instances were looked at and what was found, then each finding and what follows from them."""
    checked = report.checked
    count, found = len(checked.instances), len(checked.findings)
    what = f"{count} instance{'s' * (count != 1)}"
    if report.dead:
        what = f"{count - len(report.dead)} of {count} checked, {len(report.dead)} dead"
    as_baked = "as baked" if report.as_baked else "nothing runs there"
    told = as_baked if checked.clean else f"{found} finding{'s' * (found != 1)}"
    ignored = f" · {len(checked.ignored)} ignored" if checked.ignored else ""
    took = "" if report.seconds is None else f" · {1000 * report.seconds:.0f} ms"
    layers = f" · layers {report.layers}" if report.layers else ""
    yield f"{checked.state.id}  {what} · {told}{ignored}{layers}{took}"
    for instance in (*checked.instances, None):
        findings = checked.of(instance)
        if findings:
            yield ""
            yield f"{instance}{_standing(report, instance)}" if instance else "of the environment"
        for finding in findings:
            yield from _finding(finding)
    if checked.ignored:
        yield ""
        for finding, rule in checked.ignored:
            yield f"ignored until {rule.until}: {finding.kind} {finding.path} ({rule.reason})"
    if not checked.at_rest:
        yield "someone is working on it right now: of its traffic, only the addresses were compared with the ledger"
    if not checked.clean:
        yield ""
        yield _advice(report)
    elif not report.as_baked:
        yield f"why it ended: instar status {checked.state.id}; instar logs {checked.state.id}"


def _standing(report: DriftReport, instance: str) -> str:
    """Return what an instance is that does not serve: its findings count all the same."""
    number, active = report.releases.get(instance), report.checked.state.active
    if number is None or number == active or report.checked.state.rollout is not None:
        return ""
    return f"  (of release {number}, which is hot: the way back, without traffic)"


def _finding(finding: Finding) -> Page:
    yield f"  {finding.kind:<10} {_cut(finding.path)}"
    yield f"  {'':<10} expected  {_cut(finding.expected)}"
    yield f"  {'':<10} observed  {_cut(finding.observed)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _advice(report: DriftReport) -> str:
    """Say what follows, which depends on what was found where, and on whether the agent may act."""
    state, checked = report.checked.state, report.checked
    drifted = [instance for instance in checked.instances if checked.of(instance)]
    kinds = {finding.kind for finding in checked.of(None)}
    lines = []
    if drifted and state.alarm is not None:
        lines.append(f"nothing is replaced ({state.alarm}); expected findings belong in drift.ignore")
    elif drifted and state.settings.drift.action == "replace":
        lines.append("the agent replaces what drifted at its next check")
    elif drifted:
        lines.append(f"replace it with: instar taint {state.id} {drifted[0]} --why drift")
    if "rule" in kinds:
        lines.append("a rule has expired: remove it or give it a later date, and deploy")
    if "router" in kinds:
        lines.append("the agent restores the router (instar agent, or instar agent --once)")
    if "name" in kinds:
        lines.append("nothing of somebody else's is touched: whoever made it takes it away, or drift.ignore expects it")
    if "network" in kinds:
        lines.append("the agent restores the network that instances share (instar agent, or instar agent --once)")
    if "blob" in kinds:
        lines.append("a blob is damaged: bake the image again (instar bake), which restores it")
    return "\n".join(lines)
