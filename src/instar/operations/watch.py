"""The time after a rollout in which its release is watched, for who waits for it: ``instar deploy --watch``."""

from __future__ import annotations

from instar.control.loop import Loop, Run
from instar.errors import UsageError
from instar.model.environment import Settings
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.operations.leading import agent_in_charge
from instar.operations.workspace import Workspace

_POLL_S = 0.25


def require_watch(settings: Settings, environment: str) -> None:
    """Raise UsageError where the definition does not say for how long a release is watched."""
    if settings.rollout.watch_ms is None:
        raise UsageError(
            f"cannot watch '{environment}': nothing says for how long",
            hint=f"add it in the definition: environments.{environment}.rollout.watch, such as 2m",
        )


def watch_release(loop: Loop, environment: EnvironmentId) -> Run:
    """Look after ``environment`` as the agent does, until its release is watched no longer; go back where it isn't
    well.

    The caller holds the environment.
    """
    run = loop.begin(environment, asked=False)
    while True:
        seconds = run.advance()
        snapshot = run.report.snapshot
        is_over = seconds is None or run.may_be_left
        if is_over and (snapshot is None or snapshot.probation is None):
            return run
        if is_over and snapshot is not None:
            run.report.watching(snapshot)
        with loop.give_way(environment):
            loop.pause(min(_POLL_S if seconds is None else seconds, _POLL_S))


def warn_unwatched(workspace: Workspace, settings: Settings, environment: EnvironmentId) -> None:
    """Say that nobody watches where the definition asks for it and no agent runs."""
    if settings.rollout.watch_ms is None:
        return
    if agent_in_charge(workspace, workspace.provider_package(settings.provider).traits) is None:
        next_time = f"instar deploy {environment.name} --watch"
        text = f"no agent runs here, so the release is not being watched; next time: {next_time}"
        workspace.report(Progress(stage="note", text=text, kind="warning"))
