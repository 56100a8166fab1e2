"""Commands that say a word to the rollout that is under way: pause, resume, abort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instar.cli import completing
from instar.cli.options import environment_argument, file_option, find_own_environment, json_option, open_workspace
from instar.cli.releases import answer
from instar.cli.screen import say_json
from instar.model.progress import Progress

if TYPE_CHECKING:
    pass

why_option = click.option("--why", default="", metavar="TEXT", help="The reason, for the history.")


@click.group(cls=completing.Group)
def rollout() -> None:
    """Pause, resume or abort the rollout that is under way in an environment."""


@rollout.command()
@environment_argument
@file_option
@json_option
@why_option
def pause(environment: str, file: Path, as_json: bool, why: str) -> None:
    """Hold the rollout of ENV where it is: the shares of the traffic stay as they are until it is resumed."""
    from instar.operations.rollout import pause as run
    from instar.views.outcomes import change_json

    workspace = open_workspace()
    change = run(workspace, find_own_environment(workspace, environment, file), why=why)
    environment_id = change.rollout.environment
    text = f"{environment_id}: the {change.rollout.kind} to release {change.rollout.target} goes no further"
    _tell(workspace.report, "paused", text, f"continue with: instar rollout resume {environment_id}")
    if as_json:
        say_json(change_json(change))


@rollout.command()
@environment_argument
@file_option
@json_option
def resume(environment: str, file: Path, as_json: bool) -> int:
    """Let a paused rollout of ENV go on; also one that waits at a step whose pause is 'manual'.

    Whoever runs it carries on (a deploy in another terminal, the agent); if nobody does, this command does.
    """
    from instar.operations.rollout import resume as run
    from instar.views.outcomes import change_json

    workspace = open_workspace()
    change = run(workspace, find_own_environment(workspace, environment, file))
    if change.outcome is not None:
        return answer(change.outcome, workspace.report, as_json)
    who = f"process {change.pid} carries it out" if change.pid else f"it is {change.rollout.state}"
    _tell(
        workspace.report,
        "resumed",
        f"{change.rollout.environment}: {change.rollout.kind} to release {change.rollout.target}: {who}",
    )
    if as_json:
        say_json(change_json(change))
    return 0


@rollout.command()
@environment_argument
@file_option
@json_option
@why_option
def abort(environment: str, file: Path, as_json: bool, why: str) -> int:
    """Give the rollout of ENV up: the release before has all the traffic again; the candidate's logs are kept."""
    from instar.operations.rollout import abort as run
    from instar.views.outcomes import change_json

    workspace = open_workspace()
    change = run(workspace, find_own_environment(workspace, environment, file), why=why)
    if as_json:
        say_json(change_json(change))
    environment_id, target = change.rollout.environment, change.rollout.target
    if change.rollout.state != "failed":
        text = f"{environment_id}: it is recorded, but process {change.pid} has not acted on it yet"
        _tell(workspace.report, "waiting", text, "check that process: it may be stopped")
        return 1
    runs = f"runs release {change.rollout.source}" if change.rollout.source is not None else "runs nothing, as before"
    _tell(workspace.report, "aborted", f"release {target} has no traffic; {environment_id} {runs}")
    return 0


def _tell(report: Any, stage: str, text: str, *detail: str) -> None:
    report(Progress(stage=stage, text=text, detail=detail))
