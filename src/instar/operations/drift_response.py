"""What the agent does about drift: it checks as often as an environment says, keeps evidence, and taints.

A check holds nothing, since it may take long: a command that comes meanwhile goes first. What was found is answered
once the agent holds the environment, as far as it is still true then.

It repairs no instance: one that is not what was baked any more is replaced, by the loop and within its budget. A router
is no instance, nor are the machine's rules for them all: those are put right, and that is written down.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from instar import durable
from instar.control.lease import with_lease
from instar.control.snapshot import alone, with_left_doors
from instar.drift.check import Checked, check
from instar.drift.traffic import ports, routed_of
from instar.errors import EnvironmentBusy, HostError, InstarError, RouterError
from instar.model.codec import to_json
from instar.model.drift import Finding
from instar.model.happenings import NetworkRestored, RouterRestored
from instar.model.instance_happenings import DriftFound
from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId, EnvironmentState, Instance
from instar.operations.drift import last_event, resting
from instar.operations.maintenance import restore_maintenance
from instar.operations.release_images import prepare_check
from instar.operations.workspace import Workspace
from instar.providers.facets import require
from instar.providers.router_plan import router_plan

_PID: Final = re.compile(r"^process \d+")
_TOLD_AT_MOST: Final = 20  # findings in an event; the evidence has all
_LAST_LINES, _LINE_LETTERS, _LINES_LETTERS = 200, 4_000, 64_000  # of its output, which a service chooses itself
_FINDINGS_KEPT: Final = 1_000
_FILES_KEPT: Final = 20  # of an instance
_TOLD_WITHIN_S, _TIMES_TOLD = 3_600.0, 10  # a service can show another thing at each look


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """``serials``: of the instances that were there. ``event``: the last one of the environment before the check."""

    checked: Checked
    serials: Mapping[str, int]
    event: int


@dataclass
class DriftMemory:
    """What the agent remembers of an environment: when it was ``checked`` (monotonic clock), what was ``found`` and is
    not answered yet, what was ``told`` of each instance (None: of the environment) already, and when (``times``)."""

    checked: float | None = None
    found: _Found | None = None
    told: dict[str | None, frozenset[tuple[str, str, str]]] = field(default_factory=dict)
    times: dict[str | None, tuple[float, ...]] = field(default_factory=dict)

    def may_tell(self, about: str | None) -> bool:
        """Tell whether something new of ``about`` is written down now; what isn't is when it is found later."""
        now = time.monotonic()
        lately = tuple(at for at in self.times.get(about, ()) if now - at < _TOLD_WITHIN_S)
        may = len(lately) < _TIMES_TOLD
        self.times[about] = (*lately, now) if may else lately
        return may


def check_when_due(workspace: Workspace, environment: EnvironmentId, memory: DriftMemory) -> Checked | None:
    """Check an environment if its time has come and nobody acts on it, and keep what is found to respond to."""
    event, state = resting(workspace, environment), workspace.ledger.find_environment(environment)
    if event is None or state is None or not _is_due(state, memory):
        return None
    memory.checked = time.monotonic()
    serials = {one.id: one.serial for one in workspace.ledger.instances(environment)}
    provider = workspace.provider(state.settings.provider)
    where = (workspace.ledger, workspace.store, workspace.hashed_files, provider, state)
    checked = check(*where, at_rest=state.rollout is None, find_image=prepare_check(workspace, state))
    memory.found = _Found(checked=checked, serials=serials, event=event)
    return checked


def _is_due(state: EnvironmentState, memory: DriftMemory) -> bool:
    check_ms = state.settings.drift.check_ms
    if check_ms is None or state.destroying:
        return False
    return memory.checked is None or time.monotonic() >= memory.checked + check_ms / 1000


def respond_to_drift(workspace: Workspace, state: EnvironmentState, memory: DriftMemory, report: Report) -> None:
    """Act on what the last check found, once. The caller holds the environment."""
    if memory.found is None:
        return
    found, memory.found = memory.found, None
    known = {one.id: one for one in workspace.ledger.instances(state.id)}
    at_rest = found.event == last_event(workspace, state.id)
    checked = found.checked if at_rest else _of_instances(found, known)
    policy = state.settings.drift
    for about in (*((None,) if at_rest else ()), *checked.instances):
        instance = known.get(about or "")
        of_it = [one for one in checked.of(about) if not _is_looked_into(instance, one.member)]
        findings = frozenset(map(_report_key, of_it))
        if findings and findings != memory.told.get(about):
            if not memory.may_tell(about):
                continue
            _tell(workspace, state, instance, of_it)
            report(Progress(stage="drift", kind="warning", text=_line(about, of_it)))
        memory.told[about] = findings
    if policy.action == "replace":
        _taint(workspace, state, checked, known)
    shared = {finding.kind for finding in checked.of(None)}
    if "network" in shared:
        _restore_network(workspace, state, report)
    if "router" in shared:
        try:
            _put_right(workspace, state)
        except (RouterError, EnvironmentBusy) as error:
            report(Progress(stage="drift", kind="warning", text=f"its router cannot be restored: {error}"))


def _of_instances(found: _Found, known: Mapping[str, Instance]) -> Checked:
    """Return what is about instances that are there yet. Somebody has acted since: what all share may be wanted so."""
    there = {name for name, serial in found.serials.items() if name in known and known[name].serial == serial}
    return replace(
        found.checked,
        findings=tuple(finding for finding in found.checked.findings if finding.instance in there),
        instances=tuple(name for name in found.checked.instances if name in there),
        at_rest=False,
    )


def _restore_network(workspace: Workspace, state: EnvironmentState, report: Report) -> None:
    """Have this machine's rules about instances made again as they were; what they are for, the loop says next."""
    try:
        provider = with_lease(workspace.ledger, workspace.provider(state.settings.provider), state.id)
        if provider.networks is not None and provider.networks.restore_network():
            workspace.ledger.record(NetworkRestored(), state.id, state.active)
    except (HostError, EnvironmentBusy) as error:
        report(Progress(stage="drift", kind="warning", text=f"the instances' network cannot be restored: {error}"))


def _report_key(finding: Finding) -> tuple[str, str, str]:
    """Return what makes a finding another one: workers that come and go have new pids, and are the same report."""
    return finding.kind, _PID.sub("process", finding.path), finding.observed


def _is_looked_into(instance: Instance | None, member: str | None) -> bool:
    """Tell whether somebody has opened a shell in an instance, or in a member of one: what they do there is in its
    recording."""
    if instance is None:
        return False
    of_member = None if member is None else instance.member_taint(member)
    return any(one is not None and one.kind == "shell" for one in (instance.taint, of_member))


def _tell(
    workspace: Workspace, state: EnvironmentState, instance: Instance | None, findings: Sequence[Finding]
) -> None:
    """Write down what was found, and keep what an instance that may go can tell of it."""
    evidence = None if instance is None else keep_evidence(workspace, state, instance, findings)
    found = DriftFound(
        instance=findings[0].instance,
        findings=tuple(to_json(finding) for finding in findings[:_TOLD_AT_MOST]),
        count=len(findings),
        evidence=evidence,
    )
    workspace.ledger.record(found, state.id)


def _line(about: str | None, findings: Sequence[Finding]) -> str:
    first = findings[0]
    said = f"expected {first.expected}, observed {first.observed}"
    text = f"{about or 'the environment'}: {first.kind} {first.path}: {said}"
    return f"{text} (and {len(findings) - 1} more)" if len(findings) > 1 else text


def keep_evidence(
    workspace: Workspace, state: EnvironmentState, instance: Instance, findings: Sequence[Finding]
) -> str:
    """Keep the findings, the processes and the last lines of an instance in a file; return its name, or why there is
    none: an instance that drifted goes all the same."""
    provider = workspace.provider(state.settings.provider)
    path = workspace.state.evidence / f"{instance.id}.{workspace.ledger.now():%Y%m%dT%H%M%S.%f}Z.json"
    if sum(1 for _ in path.parent.glob(f"{instance.id}.*.json")) >= _FILES_KEPT:
        return f"not kept: there are {_FILES_KEPT} files of it already"
    try:
        kept = {
            "instance": instance.id,
            "at": workspace.ledger.now().isoformat(),
            "findings": to_json(tuple(findings[:_FINDINGS_KEPT])),
            "processes": list(provider.inspects.processes(instance)) if provider.inspects is not None else [],
            "last_lines": _ending(provider.log_lines(instance.id, last=_LAST_LINES)),
        }
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(path, json.dumps(kept, indent=1).encode())
    except (OSError, InstarError) as error:
        return f"not kept: {error}"
    return path.name


def _ending(lines: Iterable[str]) -> list[str]:
    """Return the last of ``lines`` that there is room for, oldest first; of a long one, its beginning."""
    kept: list[str] = []
    room = _LINES_LETTERS
    for line in reversed([one[:_LINE_LETTERS] for one in lines]):
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return kept[::-1]


def _taint(workspace: Workspace, state: EnvironmentState, checked: Checked, known: Mapping[str, Instance]) -> None:
    """Have what drifted replaced, but for what is to be replaced, or ends, already: who looks into one is not thrown
    out.

    No more of them than the environment's budget, whatever releases they are of: a check that is wrong must end.
    """
    policy = state.settings.replace
    for name in checked.instances:
        findings, instance = checked.of(name), known.get(name)
        if not findings or instance is None or state.alarm is not None:
            continue
        if instance.taint is not None or instance.ending is not None:
            continue
        for member, of_it in _by_member(workspace, state, instance, findings).items():
            if member is not None and instance.member_taint(member) is not None:
                continue
            count = _drifted_lately(workspace, state)
            if count >= policy.budget:
                lately = f"{count} instances had drifted in {policy.within_ms / 1000:g} s"
                workspace.ledger.set_alarm(state.id, f"{lately}: replacement has stopped until you deploy or roll back")
                return
            if member is None:
                workspace.ledger.taint(name, "drift", _why(of_it))
            else:
                workspace.ledger.taint_member(name, member, "drift", _why(of_it))


def _by_member(
    workspace: Workspace, state: EnvironmentState, instance: Instance, findings: Sequence[Finding]
) -> Mapping[str | None, Sequence[Finding]]:
    """Return the members of a group to be replaced, each with what was found of it; None: the whole group is, since
    what its members are made from has drifted too, or it holds a volume that only one may have."""
    facet = workspace.provider(state.settings.provider).members
    release = workspace.ledger.get_release(state.id, instance.release)
    if facet is None or alone(release) or any(one.member is None for one in findings):
        return {None: findings}
    return {
        member: [one for one in findings if one.member == member]
        for member in sorted({one.member for one in findings if one.member is not None})
    }


def _drifted_lately(workspace: Workspace, state: EnvironmentState) -> int:
    """Return how many instances were tainted for drift in the budget's time, or since somebody began the count anew."""
    since = workspace.ledger.now() - timedelta(milliseconds=state.settings.replace.within_ms)
    since = max(since, state.counted_since or since)
    groups = workspace.ledger.instances(state.id)
    members = sum(one.kind == "drift" and one.at > since for group in groups for one in group.tainted_members)
    return workspace.ledger.drifted(state.id, since) + members


def _why(findings: Sequence[Finding]) -> str:
    first = findings[0]
    more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
    return f"{first.kind} {first.path}: {first.observed}{more}"


def _put_right(workspace: Workspace, state: EnvironmentState) -> None:
    """Have the router do again what the ledger says. Where a rollout is half way, its file says how far; where none
    runs, the loop starts it next."""
    instances = workspace.ledger.instances(state.id)
    releases = {one.release: workspace.ledger.get_release(state.id, one.release) for one in instances}
    active = releases.get(state.active) if state.active is not None else None
    if active is None or active.service.port is None:
        return
    provider = with_lease(workspace.ledger, workspace.provider(state.settings.provider), state.id)
    settings = with_left_doors(state, by_name=provider.traits.passes_names)
    plan = router_plan(state.id, settings, active, releases.values(), state.names)
    inspects = require(provider.inspects, f"put the router of '{state.id}' right")
    serving = routed_of([one for one in instances if one.task is None], releases)
    own = [one for one in serving if one.release == active.number]
    restored = inspects.restore_router(plan, inspects.targets(serving, ports(releases.values())), active, own)
    restore_maintenance(provider, state)
    if restored:
        workspace.ledger.record(RouterRestored(), state.id, state.active)
