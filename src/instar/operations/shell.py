"""``instar shell``: somebody looks into a running instance, which is never the same afterwards.

What must hold, in this order: there is a file to record to, else nothing happens; the ledger says that the instance is
tainted, and so is replaced whatever becomes of this process; it is without traffic, where that was asked for; the
shell runs, and everything that it shows is recorded before the user sees it; what differs afterwards is written down.
The environment is held while the instance is set aside, and never while somebody is in it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from instar.control.snapshot import alone
from instar.errors import InstarError, NotFound, ProviderError, UsageError
from instar.ledger.roles import release_of
from instar.model.break_glass import ShellResult
from instar.model.instance_happenings import OfInstance, ShellEnded, ShellOpened
from instar.model.progress import Progress
from instar.model.release import EnvironmentState, Instance, Release
from instar.model.survey import Survey, differences
from instar.operations.isolation import isolate, patience_s, require_another
from instar.operations.locks import agent_in_charge, hold_environment
from instar.operations.members import find_member, oldest_member, set_aside, taint_member
from instar.operations.privilege import require_root_for
from instar.operations.recordings import new_recording
from instar.operations.roles import require_role
from instar.operations.taint import get_instance, get_reason
from instar.operations.workspace import Workspace
from instar.providers.base import Shell, Streams
from instar.providers.facets import Member, require
from instar.terminal import terminal as terminals
from instar.terminal.filter import ByteFilter
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
        if member is None or alone(release):
            _taint(workspace, environment, request, instance, reason, recorder)
        else:
            _taint_member(visit, environment, member, reason)
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


def _taint(
    workspace: Workspace,
    environment: EnvironmentState,
    request: ShellRequest,
    instance: Instance,
    reason: str,
    recorder: Recorder,
) -> None:
    """Write that the instance is tainted, and set it aside where that is wanted. Until it is written, it isn't."""
    environment_id = environment.id
    with contextlib.ExitStack() as held:
        try:
            if request.isolated:
                held.enter_context(hold_environment(workspace, environment_id))
                environment = workspace.ledger.get_environment(environment_id)
                release = workspace.ledger.get_release(environment_id, instance.release)
                require_another(environment, release_of(instance, release))
            after_ms = environment.settings.replace_within_ms
            taint = workspace.ledger.taint(
                instance.id,
                "shell",
                reason,
                after_ms=after_ms,
                isolated=request.isolated,
                recording=recorder.path.stem,
                command=request.command,
            )
        except BaseException:
            recorder.discard()
            raise
        _tell_taint(workspace, environment, instance.id, taint.due_at)
        if request.isolated:
            isolate(workspace, instance)
            workspace.report(Progress(stage="isolate", text=f"{instance.id} has no traffic"))


def _taint_member(visit: _Visit, environment: EnvironmentState, member: Member, reason: str) -> None:
    """Write that a member of a group is tainted, have it say so itself, and take it out where that is wanted."""
    workspace, request, instance = visit.workspace, visit.request, visit.instance
    with contextlib.ExitStack() as held:
        try:
            if request.isolated:
                held.enter_context(hold_environment(workspace, environment.id))
            after_ms = 0 if request.isolated else environment.settings.replace_within_ms
            recording, command = visit.recorder.path.stem, request.command
            taint = taint_member(
                workspace, instance, member, "shell", reason, after_ms=after_ms, recording=recording, command=command
            )
        except BaseException:
            visit.recorder.discard()
            raise
        _tell_taint(workspace, environment, member.name, taint.due_at)
        if request.isolated:
            set_aside(workspace, instance, member, patience_s(visit.release))
            workspace.report(Progress(stage="isolate", text=f"{member.name} has no traffic"))


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
        _on_terminal(visit, terminal)
    else:
        _through_pipes(visit)
    status = visit.way.wait()
    if status is None:
        raise ProviderError(f"cannot open a shell in '{visit.instance.id}': it did not begin")
    return status


def _on_terminal(visit: _Visit, terminal: Terminal) -> None:
    ours, theirs = os.openpty()
    try:
        try:
            terminals.set_size(ours, *terminal.size())
            streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs)
            visit.way.begin(None, streams, term=visit.request.term)
        finally:
            os.close(theirs)
        with terminal.raw():
            terminals.converse(
                terminal,
                ours,
                shown=visit.recorder.output,
                resized=visit.recorder.resize,
                ended=visit.way.ended(),
            )
    finally:
        os.close(ours)


def _through_pipes(visit: _Visit) -> None:
    """The command reads nothing; what it prints goes where this process prints, each stream to its own.

    Into a file or a pipe as it is; to a terminal, which what is printed could steer, only what draws.
    """
    with contextlib.ExitStack() as opened:
        nothing = opened.enter_context(Path(os.devnull).open("rb"))
        (out, out_end), (err, err_end) = (_pipe(opened) for _ in range(2))
        streams = Streams(stdin=nothing.fileno(), stdout=out_end.fileno(), stderr=err_end.fileno())
        visit.way.begin(visit.request.command, streams, term=visit.request.term)
        out_end.close()
        err_end.close()
        ways = {out.fileno(): 1, err.fileno(): 2}
        filters = {source: ByteFilter() for source, target in ways.items() if os.isatty(target)}

        def shown(source: int, piece: bytes) -> bytes:
            visit.recorder.output(piece, stream=str(source), cooked=False)
            return filters[source].feed(piece) if source in filters else piece

        try:
            terminals.relay(ways, shown)
        finally:
            for source, one in filters.items():
                with contextlib.suppress(OSError):  # the terminal is gone
                    terminals.write(ways[source], one.end())


def _pipe(opened: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return (
        opened.enter_context(os.fdopen(reading, "rb", buffering=0)),
        opened.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )


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
