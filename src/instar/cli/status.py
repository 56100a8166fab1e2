"""Commands that show what runs, and why it is so."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from instar.cli import completing
from instar.cli.options import (
    environment_argument,
    file_option,
    find_environment,
    json_option,
    open_workspace,
    service_name,
)
from instar.cli.screen import say, say_json, show

if TYPE_CHECKING:
    from instar.workspace import MachineWorkspace


@click.command()
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completing.environments)
@file_option
@json_option
def status(environment: str | None, file: Path, as_json: bool) -> None:
    """Show what runs: ENV with all its releases.

    Without ENV: at a glance, the environments of the definition here, or all where there is none.
    """
    from instar.operations.status import status as look
    from instar.views.status import status_json, status_page

    workspace = open_workspace()
    if environment is None:
        _overview(workspace, service_name(file), as_json=as_json)
        return
    found = look(workspace, find_environment(workspace, environment, file))
    if as_json:
        say_json(status_json(found))
    else:
        show(status_page(found, datetime.now(UTC)))


def _overview(workspace: MachineWorkspace, service: str | None, *, as_json: bool) -> None:
    """Show all environments (of a service) at a glance."""
    from instar.model.progress import Progress
    from instar.operations.ledger import which_ledger
    from instar.operations.locks import leader
    from instar.operations.status import overview
    from instar.views.status import overview_page, status_json

    seen = overview(workspace, service)
    for text in which_ledger(workspace):
        workspace.report(Progress(stage="ledger", text=text))
    if (leading := leader(workspace)) is not None:
        workspace.report(Progress(stage="agent", text=f"{leading[0]} leads since {leading[1]:%Y-%m-%d %H:%M:%S} UTC"))
    for state in seen.elsewhere:
        workspace.report(Progress(stage="other", text=f"{state.id} is on {state.machine}: ask there"))
    if as_json:
        say_json([status_json(one) for one in seen.here])
    elif seen.here:
        show(overview_page(seen.here, datetime.now(UTC)))
    elif not seen.unknown:
        before = "; what was: instar history" if workspace.ledger.history(None, last=1) else ""
        say(f"nothing is deployed{f' of {service!r}' if service else ''} now: instar deploy ENV{before}")
    if workspace.other_state is not None:
        workspace.report(Progress(stage="root", text=workspace.other_state))
    for name, error in seen.unknown.items():
        text = f"{name}: nobody can tell how it is: {error}"
        workspace.report(Progress(stage="unknown", text=text, kind="warning"))
    if seen.unknown:
        raise next(iter(seen.unknown.values()))


@click.command()
@environment_argument
@file_option
@json_option
def explain(environment: str, file: Path, as_json: bool) -> None:
    """Show why ENV is as it is: what happened last, what it waits for, and what would be done next, by whom.

    Decides as the agent does, from what is there now, and does nothing.
    """
    from instar.operations.explain import explain as look
    from instar.views.events import WIDTH
    from instar.views.explanations import explanation_json, explanation_page

    workspace = open_workspace()
    found = look(workspace, find_environment(workspace, environment, file))
    if as_json:
        say_json(explanation_json(found))
    else:
        show(explanation_page(found, datetime.now(UTC), width=WIDTH if sys.stdout.isatty() else None))
