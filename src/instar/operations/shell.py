"""``instar shell``: somebody looks into a running instance, which is never the same afterwards.

What must hold, in this order: there is a file to record to, else nothing happens; the ledger says that the instance is
tainted, and so is replaced whatever becomes of this process; it is without traffic, where that was asked for; the
shell runs, and everything that it shows is recorded before the user sees it; what differs afterwards is written down.
The environment is held while the instance is set aside, and never while somebody is in it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from datetime import datetime

from instar.control.snapshot import alone
from instar.errors import InstarError, NotFound, ProviderError, UsageError
from instar.ledger.roles import release_of
from instar.model.break_glass import ShellResult
from instar.model.instance_happenings import OfInstance, ShellEnded, ShellOpened
from instar.model.progress import Progress
from instar.model.release import EnvironmentState, Instance, MemberTaint, Release, Taint
from instar.model.survey import Survey, differences
from instar.operations.isolation import isolate, patience_s, require_another
from instar.operations.leading import agent_in_charge
from instar.operations.locks import hold_environment
from instar.operations.members import find_member, oldest_member, set_aside, taint_member
from instar.operations.privilege import require_root_for
from instar.operations.recordings import new_recording
from instar.operations.roles import require_role
from instar.operations.shell_streams import on_terminal, through_pipes
from instar.operations.taint import get_instance, get_reason
from instar.operations.workspace import Workspace
from instar.providers.base import Shell
from instar.providers.facets import Member, require
from instar.terminal.recording import Header, Recorder
from instar.terminal.terminal import Terminal

_STAYED_S = 0.3  # a process that is gone after that was on its way anyway
_TOLD = 50  # differences that the history keeps
_TOLD_PROCESSES = 20
_WITHOUT_TERMINAL = "dumb"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellRequest:
    """What was asked for. ``instance`` None: the oldest that runs of the active release, of its first role or of the
    ``role`` that is named; ``command`` None: a shell on the user's terminal, which is a ``term``."""

    why: str
    instance: str | None = None
    role: str | None = None
    command: str | None = None
    isolated: bool = False
    toolbox: bool = False
    term: str = _WITHOUT_TERMINAL


@dataclass(kw_only=True)
class _Visit:
    """One shell, from the moment in which nothing can refuse it any more."""

    workspace: Workspace
    request: ShellRequest
    instance: Instance
    release: Release
    way: Shell
    recorder: Recorder
    member: Member | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def tainted_member(self) -> Member | None:
        """The member that is replaced by itself; None: the instance is, as a whole."""
        return None if alone(self.release) else self.member


def shell(
    workspace: Workspace, environment: EnvironmentState, request: ShellRequest, terminal: Terminal | None
) -> ShellResult:
    """Open a shell in an instance, or run a command with one, and return how it was left.

    Raises UsageError, NotFound, Refused, ProviderError, HostError and ComponentMissing before the instance is tainted;
    ProviderError when it could not be isolated, HostError when recording failed, after that.
    """
    require_root_for(workspace, environment.settings.provider, "shell")
    reason = get_reason(request.why)
    if request.command is None and terminal is None:
        raise UsageError(
            "cannot open a shell: this is not a terminal", hint="to run a command without one: --command 'TEXT'"
        )
    if request.command is not None and not request.command.strip():
        raise UsageError("cannot run a command: it is empty", hint="--command 'ps'")
    instance, member = _chosen(workspace, environment, request)
    release = release_of(instance, workspace.ledger.get_release(instance.environment, instance.release))
    if request.isolated:
        require_another(environment, release)
    shells = require(workspace.provider(environment.settings.provider).shells, f"open a shell in '{instance.id}'")
    way = shells.open_shell(instance, release, toolbox=request.toolbox, member=member)
    recorder = _recorder(workspace, instance if member is None else member, request, reason, terminal)
    visit = _Visit(
        workspace=workspace,
        request=request,
        instance=instance,
        release=release,
        way=way,
        recorder=recorder,
        member=member,
    )
    with contextlib.closing(recorder), contextlib.closing(way):
        _taint(visit, environment, reason)
        return _visit(visit, reason, terminal)


def _chosen(
    workspace: Workspace, environment: EnvironmentState, request: ShellRequest
) -> tuple[Instance, Member | None]:
    """Return what was asked for, or the oldest that runs; of a group, the member too."""
    if request.instance is not None:
        if (named := find_member(workspace, environment, request.instance)) is not None:
            return named
        asked = get_instance(workspace, environment, request.instance)
        return asked, oldest_member(workspace, environment, asked)
    environment_id = environment.id
    provider, role = workspace.provider(environment.settings.provider), request.role
    if role is not None:
        require_role(workspace, environment, None, role)
    elif environment.active is not None:
        role = workspace.ledger.get_release(environment_id, environment.active).role
    instances = [
        one
        for one in workspace.ledger.instances(environment_id)
        if one.release == environment.active and one.task is None and one.role == role
    ]
    running = [
        one
        for one, seen in zip(instances, provider.observe(environment_id, instances).groups, strict=True)
        if seen.state == "running" and one.started_at is not None
    ]
    if not running:
        raise NotFound(
            f"cannot open a shell in '{environment_id}': nothing of its active release runs", hint="instar status"
        )
    of = f"role {role} of " if role else ""
    found = min(running, key=lambda one: (one.started_at or one.created_at, one.serial))
    member = oldest_member(workspace, environment, found)
    name = found.id if member is None else member.name
    workspace.report(Progress(stage="choose", text=f"{name}, the oldest of {of}release {found.release}"))
    return found, member


def _recorder(
    workspace: Workspace, of: Instance | Member, request: ShellRequest, reason: str, terminal: Terminal | None
) -> Recorder:
    instance, name = (of.id, of.id) if isinstance(of, Instance) else (of.group, of.name)
    columns, rows = (terminal or Terminal(stdin=0, stdout=1)).size()
    now = workspace.ledger.now()
    header = Header(
        width=columns,
        height=rows,
        timestamp=int(now.timestamp()),
        title=f"{name} by {workspace.actor}: {reason}",
        term=request.term,
        command=request.command,
    )
    return Recorder(new_recording(workspace.state, instance, now), header)


def _taint(visit: _Visit, environment: EnvironmentState, reason: str) -> None:
    """Write that the instance, or its member, is tainted, and have it without traffic where that is wanted. Until it is
    written, it isn't."""
    workspace, isolated, member = visit.workspace, visit.request.isolated, visit.tainted_member
    with contextlib.ExitStack() as held:
        try:
            if isolated:
                held.enter_context(hold_environment(workspace, environment.id))
            due_at = _written_taint(visit, environment, reason).due_at
        except BaseException:
            visit.recorder.discard()
            raise
        name = visit.instance.id if member is None else member.name
        _tell_taint(workspace, environment, name, due_at)
        if not isolated:
            return
        if member is None:
            isolate(workspace, visit.instance)
        else:
            set_aside(workspace, visit.instance, member, patience_s(visit.release))
        workspace.report(Progress(stage="isolate", text=f"{name} has no traffic"))


def _written_taint(visit: _Visit, environment: EnvironmentState, reason: str) -> Taint | MemberTaint:
    workspace, instance, member = visit.workspace, visit.instance, visit.tainted_member
    isolated, recording, command = visit.request.isolated, visit.recorder.path.stem, visit.request.command
    if member is not None:
        after_ms = 0 if isolated else environment.settings.replace_within_ms
        return taint_member(
            workspace, instance, member, "shell", reason, after_ms=after_ms, recording=recording, command=command
        )
    if isolated:  # it is held by now, and what it was before may be over
        environment = workspace.ledger.get_environment(environment.id)
        release = workspace.ledger.get_release(environment.id, instance.release)
        require_another(environment, release_of(instance, release))
    after_ms = environment.settings.replace_within_ms
    return workspace.ledger.taint(
        instance.id, "shell", reason, after_ms=after_ms, isolated=isolated, recording=recording, command=command
    )


def _tell_taint(workspace: Workspace, environment: EnvironmentState, name: str, due_at: datetime) -> None:
    left_s = (due_at - workspace.ledger.now()).total_seconds()
    due = "now" if left_s < 1 else f"in {left_s / 60:.0f} min" if left_s >= 90 else f"in {left_s:.0f} s"
    who = agent_in_charge(workspace, workspace.provider(environment.settings.provider).traits)
    text = f"{name} is replaced {due} by {who or 'instar agent (none runs now)'}, even if someone is still in it"
    workspace.report(Progress(stage="taint", text=text))


def _visit(visit: _Visit, reason: str, terminal: Terminal | None) -> ShellResult:
    request = visit.request
    before = visit.way.survey()
    opened = ShellOpened(
        instance=visit.instance.id,
        why=reason,
        recording=visit.recorder.path.stem,
        command=request.command,
        toolbox=request.toolbox,
        member=None if visit.member is None else visit.member.name,
    )
    _record(visit, opened)
    visit.began = time.monotonic()
    try:
        status = _run(visit, terminal)
    except BaseException as error:
        with contextlib.suppress(InstarError):  # what went wrong first is what is told
            _leave(visit, before, None, _cause(error))
        raise
    return _leave(visit, before, status, None)


def _run(visit: _Visit, terminal: Terminal | None) -> int:
    """Have the shell, or the command, and return its exit status."""
    if visit.request.command is None and terminal is not None:
        on_terminal(visit.way, terminal, visit.recorder, term=visit.request.term)
    else:
        through_pipes(visit.way, visit.request.command, visit.recorder, term=visit.request.term)
    status = visit.way.wait()
    if status is None:
        raise ProviderError(f"cannot open a shell in '{visit.instance.id}': it did not begin")
    return status


def _leave(visit: _Visit, before: Survey | None, status: int | None, cause: str | None) -> ShellResult:
    """End what is left of the shell, compare, and write down how it was left."""
    seconds = round(time.monotonic() - visit.began, 3)
    visit.way.close()
    after = _settled(visit.way, before)
    found = differences(before, after) if before and after else None
    whole = before is not None and after is not None and before.whole and after.whole
    left = ShellResult(
        exit_status=0 if status is None else status,
        seconds=seconds,
        recording=visit.recorder.path.stem,
        differences=found,
        whole=whole,
        uncompared=before.unknown or after.unknown if before and after else None,
    )
    _record(visit, _ended(visit.instance, left, status, cause))
    return left


def _settled(way: Shell, before: Survey | None) -> Survey | None:
    """Look again where processes are new: only those that stay are a difference."""
    after = way.survey()
    if before is None or after is None or not after.processes.keys() - before.processes.keys():
        return after
    time.sleep(_STAYED_S)
    later = way.survey()
    if later is None:
        return None
    stayed = {key: name for key, name in later.processes.items() if key in after.processes}
    return Survey(places=later.places, processes=stayed)


def _ended(instance: Instance, left: ShellResult, status: int | None, cause: str | None) -> ShellEnded:
    """Return what the history keeps of it: a bounded part of the differences, and how many there were."""
    found = left.differences or ()
    kept = [one for one in found if one.kind != "started"][:_TOLD]
    kept += [one for one in found if one.kind == "started"][:_TOLD_PROCESSES]
    return ShellEnded(
        instance=instance.id,
        seconds=left.seconds,
        recording=left.recording,
        different=left.summary,
        exit_status=status,
        cause=cause,
        differences=tuple({"kind": one.kind, "name": one.name, "what": one.what} for one in kept),
        count=len(found),
        whole=left.whole,
    )


def _record(visit: _Visit, what: OfInstance) -> None:
    instance, release = visit.instance, visit.release
    visit.workspace.ledger.record(what, instance.environment, release.number, release.image)


def _cause(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, BrokenPipeError):
        return "nothing read its output"
    return error.message if isinstance(error, InstarError) else str(error) or type(error).__name__
