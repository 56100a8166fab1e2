"""The command that shows what runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from instar.cli.options import (
    file_option,
    find_environment,
    json_option,
    open_workspace,
    service_name,
)
from instar.cli.screen import say, say_json, show


@click.command()
@click.argument("environment", metavar="[ENV]", required=False)
@file_option
@json_option
def status(environment: str | None, file: Path, as_json: bool) -> None:
    """Show what runs: ENV with all its releases.

    Without ENV: at a glance, the environments of the definition here, or all where there is none.
    """
    from instar.model.progress import Progress
    from instar.operations.ledger import which_ledger
    from instar.operations.locks import is_here
    from instar.operations.status import status as look
    from instar.views.status import overview_page, status_json, status_page

    workspace = open_workspace()
    if environment is not None:
        found = look(workspace, find_environment(workspace, environment, file))
        if as_json:
            say_json(status_json(found))
        else:
            show(status_page(found, datetime.now(UTC)))
        return
    service = service_name(file)
    states = workspace.ledger.environments(service)
    everything = [look(workspace, state) for state in states if is_here(workspace, state)]
    for text in which_ledger(workspace):
        workspace.report(Progress(stage="ledger", text=text))
    if workspace.ledger.shared:
        for state in (state for state in states if not is_here(workspace, state)):
            workspace.report(Progress(stage="other", text=f"{state.id} is on {state.machine}: ask there"))
    if as_json:
        say_json([status_json(one) for one in everything])
    elif everything:
        show(overview_page(everything, datetime.now(UTC)))
    else:
        before = "; what was: instar history" if workspace.ledger.history(None, last=1) else ""
        say(f"nothing is deployed{f' of {service!r}' if service else ''} now: instar deploy ENV{before}")
    if environment is None and workspace.other_state is not None:
        workspace.report(Progress(stage="root", text=workspace.other_state))
