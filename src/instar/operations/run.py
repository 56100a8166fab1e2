"""``instar run``: a command in an instance of its own, with all that its release gives an instance.

What must hold, in this order: that it begins, and which command it is, is in the ledger, with the instance; whoever
gave it attends it, which others see, and see the end of; the instance is made, and the command has the streams; how it
ended is written down; nothing of it is left. It is this command's turn to act while the instance is made and while it
is taken away, also beside a rollout that waits, and not while the command runs: rollouts go on meanwhile. Who is killed
in between has left an instance that nobody attends: the agent, or the next command there, takes it away.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from instar.control.actions import Create
from instar.control.loop import Run
from instar.control.snapshot import Snapshot
from instar.control.tasks import DONE
from instar.errors import EnvironmentBusy, InstarError, ProviderError, Refused, UsageError
from instar.frozen import dataclass
from instar.ledger.roles import release_of
from instar.model.outcome import RunResult
from instar.model.progress import Progress
from instar.model.release import Command, EnvironmentState, Instance, Release
from instar.operations.attendance import attend
from instar.operations.converge import make_loop
from instar.operations.locks import take_turn
from instar.operations.privilege import require_root_for
from instar.operations.refusals import refuse_destroying, refuse_volumes_changing_hands
from instar.operations.roles import require_role
from instar.operations.workspace import Workspace
from instar.providers.base import NetworkPlan, Streams
from instar.providers.facets import Attachment, require
from instar.terminal import terminal as terminals
from instar.terminal.terminal import Terminal
from instar.waiting import Deadline, until

_GONE_S = 20.0  # so long it is waited for what an engine takes away by itself
_LOOKS_EACH_S = 0.5
_LEAVES_S = 2.0  # so long whoever works there is waited for at the end: they take it away, too
_RUNS_S = 600.0  # an image that has to be pulled, a node that has to come
Attach = Callable[[Streams], Attachment]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What was asked for, a word an item. ``role`` None: the first; ``release`` None: the active one. ``terminal``:
    which kind of terminal the user has, None where the command is to have none. ``toolbox``: the image has no shell."""

    argv: tuple[str, ...]
    role: str | None = None
    release: int | None = None
    terminal: str | None = None
    toolbox: bool = False


def run(
    workspace: Workspace, environment: EnvironmentState, request: RunRequest, terminal: Terminal | None
) -> RunResult:
    """Run a command in an instance of its own, and return how it ended; its streams are those of this process.

    Raises UsageError, NotFound and Refused before anything is done; ProviderError, HostError where it could not begin,
    and nothing is left of it. An interruption is handed on to it, and raised afterwards.
    """
    require_root_for(workspace, environment.settings.provider, "run")
    if not request.argv or not request.argv[0]:
        raise UsageError("cannot run a command: it is empty", hint="instar run ENV -- COMMAND [ARGUMENT …]")
    provider = workspace.provider(environment.settings.provider)
    if request.toolbox and provider.traits.of_one_machine:
        cause = (
            f"cannot run a command in '{environment.id}' with a toolbox: on one machine it takes no shell in the image"
        )
        raise UsageError(cause, hint="leave --toolbox away")
    runs = require(provider.runs, f"run a command in '{environment.id}'")
    began = time.monotonic()
    with contextlib.ExitStack() as attended:
        loop_run, instance, release = _begin(workspace, environment, request, attended)
        outcome = "it was interrupted"
        try:
            _await_running(workspace, loop_run, instance)
            streams = None if request.terminal is None else terminal
            status = _attached(lambda given: runs.attach(instance, release, given), streams)
            outcome = DONE if status == 0 else f"exit status {status}"
        except InstarError as error:
            outcome = error.message
            raise
        finally:
            _leave(workspace, loop_run, instance, outcome)
    return RunResult(
        environment=environment.id,
        release=release.number,
        task=instance.task or "",
        instance=instance.id,
        exit_status=status,
        seconds=time.monotonic() - began,
    )


def _begin(
    workspace: Workspace, environment: EnvironmentState, request: RunRequest, attended: contextlib.ExitStack
) -> tuple[Run, Instance, Release]:
    """Write down that the command begins, attend it from then on, and have its instance made and started."""
    with take_turn(workspace, environment.id):
        state = workspace.ledger.get_environment(environment.id)
        whole = _release(workspace, state, request)
        loop_run = make_loop(workspace, workspace.provider(state.settings.provider)).begin(state.id)
        snapshot = loop_run.clear()
        role = whole.role if request.role is None else request.role
        _require_volumes(snapshot, whole.of_role(role))
        refuse_volumes_changing_hands(snapshot, whole.of_role(role))
        _set_network(loop_run, snapshot)
        command = Command(argv=request.argv, terminal=request.terminal, toolbox=request.toolbox)
        instance = workspace.ledger.begin_run(state.id, whole.number, command, role=role)
        attended.enter_context(attend(workspace, instance.id))
        try:
            snapshot = loop_run.clear()
            loop_run.executor.execute(snapshot, Create((instance.id,), start=True))
        except BaseException as error:
            cause = error.message if isinstance(error, InstarError) else "it was interrupted"
            with contextlib.suppress(InstarError):  # what went wrong first is what is told
                workspace.ledger.end_task(state.id, whole.number, instance.task or "", cause, {})
                loop_run.clear()
            raise
    return loop_run, instance, release_of(instance, whole)


def _release(workspace: Workspace, state: EnvironmentState, request: RunRequest) -> Release:
    refuse_destroying(state)
    number = state.active if request.release is None else request.release
    if number is None:
        raise Refused(
            f"cannot run a command in '{state.id}': no release of it is active",
            hint=f"instar deploy {state.id.name}; or name one: --release N",
        )
    release = workspace.ledger.get_release(state.id, number)
    if request.role is not None:
        require_role(workspace, state, number, request.role)
    return release


def _require_volumes(snapshot: Snapshot, release: Release) -> None:
    """Raise Refused where the command would have a volume that instances of another release have, of which only one
    release may have it at a time. Those of its own release share it, as a task ``after`` does."""
    own = {one.name: one for one in release.service.volumes}
    for group in snapshot.groups:
        if group.release == release.number or not group.is_there:
            continue
        for volume in snapshot.service_of(group).volumes:
            if volume.name in own and "exclusive" in (volume.access, own[volume.name].access):
                raise Refused(
                    f"cannot run a command in release {release.number} of '{release.environment}': its volume "
                    f"'{volume.name}' is exclusive, and {group.id} of release {group.release} has it",
                    hint=f"run it in release {group.release}: leave --release away; or have the volume shared",
                )


def _set_network(loop_run: Run, snapshot: Snapshot) -> None:
    """Have the instance reach what the settings say, before there is one."""
    networks, environment = loop_run.provider.networks, snapshot.environment
    if networks is not None and not snapshot.network_is_set:
        networks.set_network(NetworkPlan.of(environment.id, environment.settings))


def _await_running(workspace: Workspace, loop_run: Run, instance: Instance) -> None:
    """Wait until the instance runs, where an engine takes its time to begin it. Raises ProviderError."""
    patience, said = Deadline.after(_RUNS_S), False
    while True:
        (seen,) = loop_run.provider.observe(instance.environment, [instance]).groups
        if seen.state == "running" and seen.ready != 0:
            return
        if seen.state == "stopped" or patience.is_over:
            lacks = not loop_run.provider.traits.of_one_machine and not (instance.command and instance.command.toolbox)
            raise ProviderError(
                f"cannot run the command: {instance.id} does not begin: {seen.reason or seen.state}",
                hint="if its image has no shell, by which it waits for the command: add --toolbox" if lacks else None,
            )
        if not said and seen.reason:
            workspace.report(Progress(stage="wait", text=f"{instance.id}: {seen.reason}", kind="running"))
        workspace.cancellation.check()
        workspace.cancellation.pause(_LOOKS_EACH_S)


def _attached(attach: Attach, terminal: Terminal | None) -> int:
    """Have the command with the streams of this process, or on its terminal; return its exit status."""
    if terminal is None:
        attachment = attach(Streams(stdin=0, stdout=1, stderr=2))
        with contextlib.closing(attachment):
            return _waited_for(attachment)
    ours, theirs = os.openpty()
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, ours)
        try:
            terminals.set_size(ours, *terminal.size())
            attachment = attach(Streams(stdin=theirs, stdout=theirs, stderr=theirs))
        finally:
            os.close(theirs)
        opened.enter_context(contextlib.closing(attachment))

        def resized(columns: int, rows: int) -> None:
            terminals.set_size(ours, columns, rows)
            attachment.resized()

        with terminal.raw():
            terminals.converse(terminal, ours, shown=lambda piece: None, resized=resized)
        return _waited_for(attachment)


def _waited_for(attachment: Attachment) -> int:
    try:
        return attachment.wait()
    except BaseException:
        attachment.end()
        raise


def _leave(workspace: Workspace, loop_run: Run, instance: Instance, outcome: str) -> None:
    """Write down how the command ended, and take its instance away; whoever acts there just now does so else."""
    try:
        workspace.ledger.end_task(instance.environment, instance.release, instance.task or "", outcome, {})
        until(lambda: not _is_left(workspace, loop_run, instance), Deadline.after(_GONE_S), every_s=_LOOKS_EACH_S)
    except EnvironmentBusy as error:
        text = f"{instance.id} is taken away by process {error.pid or '(unknown)'}, which works there"
        workspace.report(Progress(stage="wait", text=text))


def _is_left(workspace: Workspace, loop_run: Run, instance: Instance) -> bool:
    with take_turn(workspace, instance.environment, patience_s=_LEAVES_S):
        return any(group.id == instance.id for group in loop_run.clear().task_groups)
