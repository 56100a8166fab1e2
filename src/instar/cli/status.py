"""Commands that show what runs, and why it is so."""

from __future__ import annotations

from pathlib import Path

import click

from instar.cli import completing
from instar.cli.options import environment_argument, file_option, json_option, service_beside, service_name


@click.command()
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completing.environments)
@file_option
@json_option
def status(environment: str | None, file: Path, as_json: bool) -> int:
    """Show what runs: ENV with all its releases.

    Without ENV: at a glance, the environments of the definition here, or all where there is none. HOT are releases
    without traffic whose instances still stand: a rollback to one takes milliseconds.
    """
    from instar.cli.looking import look
    from instar.reading.questions import Status

    service = service_name(file) if environment is None else service_beside(environment, file)
    return look(Status(environment=environment, service=service, as_json=as_json))


@click.command()
@environment_argument
@file_option
@json_option
def explain(environment: str, file: Path, as_json: bool) -> int:
    """Show why ENV is as it is: what happened last, what it waits for, and what would be done next, by whom.

    Decides as the agent does, from what is there now, and does nothing.
    """
    from instar.cli.looking import look, terminal_width
    from instar.reading.questions import Explain

    service = service_beside(environment, file)
    return look(Explain(environment=environment, service=service, as_json=as_json, width=terminal_width()))
