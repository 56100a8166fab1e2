"""Single members of groups that an engine runs: which of them is meant, and what becomes of those that are tainted."""

from __future__ import annotations

from datetime import timedelta

from instar.control.lease import with_lease
from instar.control.members import MemberStep, next_steps
from instar.errors import ProviderError
from instar.model.progress import Progress, Report
from instar.model.release import EnvironmentId, EnvironmentState, Instance, MemberTaint, TaintKind
from instar.operations.workspace import Workspace
from instar.providers.facets import Member, Members, require
from instar.waiting import Deadline, until

_SOON_S = 0.5  # an engine makes another
_MOST_STEPS = 100  # in a pass, of members that somebody might make as fast as they are taken away


def find_member(workspace: Workspace, state: EnvironmentState, name: str) -> tuple[Instance, Member] | None:
    """Return the member of that name with its group; None where no living group has one that is part of it."""
    groups = {one.id: one for one in workspace.ledger.instances(state.id) if one.task is None}
    if name in groups or not any(name.startswith(f"{one}-") for one in groups):
        return None
    members = workspace.provider(state.settings.provider).members
    if members is None:
        return None
    found = (one for one in members.members(state.id) if one.name == name and one.group in groups)
    return next(((groups[one.group], one) for one in found), None)


def oldest_member(workspace: Workspace, state: EnvironmentState, group: Instance) -> Member | None:
    """Return the member of a group that has answered for the longest; None where its provider knows no members."""
    facet = workspace.provider(state.settings.provider).members
    if facet is None:
        return None
    answering = [one for one in facet.members(state.id) if one.group == group.id and one.serves and one.ready]
    return min(answering, key=lambda one: (one.began_at, one.name), default=None)


def taint_member(
    workspace: Workspace,
    group: Instance,
    member: Member,
    kind: TaintKind,
    why: str,
    *,
    after_ms: int = 0,
    recording: str | None = None,
    command: str | None = None,
) -> MemberTaint:
    """Write that a member is to be replaced, then have it say so itself."""
    written = workspace.ledger.taint_member(
        group.id, member.name, kind, why, after_ms=after_ms, recording=recording, command=command
    )
    state = workspace.ledger.get_environment(group.environment)
    facet = workspace.provider(state.settings.provider).members
    require(facet, f"taint '{member.name}'").mark(group.environment, member)
    return written


def set_aside(workspace: Workspace, group: Instance, member: Member, patience_s: float) -> None:
    """Have a member that is tainted, and due, out of its group before this returns. The caller holds the environment.

    Raises ProviderError when none could serve in its place; it is tainted, and serves on until one can.
    """
    report = workspace.report
    report(Progress(stage="isolate", text="another takes its place", kind="running"))

    def is_aside() -> bool:
        replace_members(workspace, group.environment, report)
        found = {one.id: one for one in workspace.ledger.instances(group.environment)}.get(group.id)
        taint = None if found is None else found.member_taint(member.name)
        return taint is None or taint.aside_at is not None

    if not until(is_aside, Deadline.after(patience_s), every_s=_SOON_S):
        raise ProviderError(
            f"cannot isolate '{member.name}': no other could serve in its place",
            hint=f"it serves on, tainted, and no shell was opened; instar status {group.environment} says more",
        )


def replace_members(workspace: Workspace, environment: EnvironmentId, report: Report) -> float | None:
    """Take the tainted members of an environment as far out of their groups as it comes now; return in how many seconds
    there is more to do, None where nothing is. The caller holds the environment; what a dead process began goes on.
    """
    state = workspace.ledger.find_environment(environment)
    provider = None if state is None else workspace.provider(state.settings.provider)
    if state is None or state.destroying or provider is None or provider.members is None:
        return None
    facet = require(with_lease(workspace.ledger, provider, environment).members, f"replace members of '{environment}'")
    remembered = timedelta(milliseconds=state.settings.replace.within_ms)
    for _ in range(_MOST_STEPS):
        groups, members = workspace.ledger.instances(environment), facet.members(environment)
        steps = next_steps(groups, members, workspace.ledger.now(), remembered)
        todo = [one for one in steps if one.step != "wait"]
        for step in todo:
            _act(workspace, facet, environment, step)
            report(Progress(stage="members", text=_line(step)))
        if not todo:
            return _SOON_S if steps else None
    return _SOON_S


def _act(workspace: Workspace, facet: Members, environment: EnvironmentId, step: MemberStep) -> None:
    ledger, member = workspace.ledger, step.member
    known = {one.id for one in ledger.instances(environment)}
    match step.step, member:
        case "replace", Member():
            facet.replace(environment, member)
        case "set aside", Member():
            facet.set_aside(environment, member, ledger.now())
            if step.group in known:
                ledger.set_member_aside(step.group, step.name)
        case "write aside", _:
            ledger.set_member_aside(step.group, step.name)
        case "end", Member():
            facet.end(environment, member)
            if step.group in known:
                ledger.remove_member(step.group, step.name, "its time as evidence is over")
        case "write removed", _:
            ledger.remove_member(step.group, step.name, "it is gone")
        case _:
            pass


def _line(step: MemberStep) -> str:
    words = {
        "replace": "another is made in its place, then it leaves the traffic",
        "set aside": "it has no traffic any more, and is kept as evidence; another is made in its place",
        "end": "its time as evidence is over, and it is ended",
        "write aside": "it was set aside",
        "write removed": "it is gone",
    }
    return f"{step.name} of {step.group}: {words[step.step]}"
